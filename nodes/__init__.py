"""The ComfyUI side: nodes, and what connects the method in `subject_diffusion_core` to ComfyUI's
own models."""
