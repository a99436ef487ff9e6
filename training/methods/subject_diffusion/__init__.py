"""Subject-Diffusion: the trainable model, its sampler, and the files it ends in."""
