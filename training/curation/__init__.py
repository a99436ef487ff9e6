"""From raw pictures to training shards: the Subject-Diffusion Dataset pipeline (appendix B)."""
