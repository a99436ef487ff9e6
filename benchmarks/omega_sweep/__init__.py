"""What self-subject-attention does to pictures of the small model, measured as TinyBench does."""
