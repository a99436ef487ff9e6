"""The ComfyUI side: the nodes, and what connects `subject_diffusion_core` to ComfyUI's models."""
