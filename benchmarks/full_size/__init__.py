"""Public adapters at full size, with random weights."""
