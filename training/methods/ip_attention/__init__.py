"""IP-Adapter plus and MS-Diffusion: image tokens as a further term of a frozen base's attention."""
