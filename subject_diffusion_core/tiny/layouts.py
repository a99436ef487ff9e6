"""How the small model's training pictures are laid out; random layouts follow it."""

from __future__ import annotations

# Longer side of a subject as a share of the picture's shorter side, by the number of subjects.
SIZE_RANGES = {1: (0.40, 0.85), 2: (0.32, 0.58), 3: (0.28, 0.45), 4: (0.28, 0.45)}
MAX_IOU = 0.1  # of two subjects' boxes, where there is room
