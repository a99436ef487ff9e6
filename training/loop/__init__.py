"""The training loop: objective, optimiser, checkpoints, progress."""
