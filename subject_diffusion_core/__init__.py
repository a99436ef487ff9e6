"""Subject-Diffusion's method as a library: torch tensors in, torch tensors out.

Nothing in here knows ComfyUI, diffusers or transformers, so the same modules run inside a ComfyUI
graph, inside the training loop and in a test. Import the module you need, for example
``subject_diffusion_core.checkpoint``.
"""
