"""Subject-Diffusion: the trainable model, its objective, and the files it ends in."""
