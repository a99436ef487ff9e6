"""Proofs and speed of the dataset pipeline on pictures whose boxes and masks are known."""
