"""DreamBench as Subject-Diffusion measures it (section 4, appendix D), on the reader's own data."""
