"""The text stage: the base learns to draw what a caption says."""
