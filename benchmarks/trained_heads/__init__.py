"""IP-Adapter plus and MS-Diffusion trained on the small base, beside Subject-Diffusion."""
