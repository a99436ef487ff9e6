"""Examples of the pack at full size, with random weights."""
