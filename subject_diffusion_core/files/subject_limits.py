"""What a file of encoded subjects may hold, judged by its header before its tensors are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import CheckpointError
from ..schema import (
    LONGEST_LABEL,
    MODULE_WIDTH,
    NUM_SUBJECTS,
    NUM_VIEWS,
    PERCENT,
    PICTURE_SIDE,
    STRENGTH,
    THUMBNAIL_SIDE,
    NumberRange,
    printed,
    require_text,
)

REFERENCE_SIZE = NumberRange(low=1, high=4096, is_whole=True)
BOX_EDGE = NumberRange(low=-1e6, high=1e6)
LONGEST_HASH = 256
_RANGES = {"strength": STRENGTH, "start_percent": PERCENT, "end_percent": PERCENT}
# by the last part of a tensor's name: the range of each of its sides, from the first one on
_SIDES: dict[str, tuple[NumberRange, ...]] = {
    "thumbnail": (THUMBNAIL_SIDE, THUMBNAIL_SIDE),
    "region": (PICTURE_SIDE, PICTURE_SIDE),
    "pictures": (NUM_VIEWS, PICTURE_SIDE, PICTURE_SIDE),
}


def require_limits(
    source: str,
    description: Mapping[str, Any],
    shapes: Mapping[str, Sequence[int]],
    advice: str,
) -> None:
    """Raise CheckpointError where numbers or sizes are outside what a subject may have.

    What is missing or of another kind is left to the reader of the file.

    Args:
        source: the file's path, for messages.
        description: the file's own, of any format version.
        shapes: of all tensors, by their names in the file.
        advice: what to do, without the final full stop.
    """
    try:
        if "reference_size" in description:
            REFERENCE_SIZE.require("reference_size", description["reference_size"], advice)
        require_text("encoder_hash", str(description.get("encoder_hash", "")), LONGEST_HASH)
        subjects = description.get("subjects")
        if isinstance(subjects, list):
            if subjects:  # a file without any has a sentence of its own
                NUM_SUBJECTS.require("number of subjects", len(subjects), advice)
            for number, settings in enumerate(subjects, start=1):
                if isinstance(settings, Mapping):
                    _require_settings(f"subject {number}", settings, advice)
        for name, shape in shapes.items():
            _require_shape(name, shape, advice)
    except ValueError as error:
        raise CheckpointError(f"{source}: {error}") from None


def _require_settings(owner: str, settings: Mapping[str, Any], advice: str) -> None:
    for name, limits in _RANGES.items():
        if name in settings:
            limits.require(f"{owner}'s {name}", settings[name], advice)
    label = settings.get("label", "dog")
    if not isinstance(label, str) or not label.strip():
        raise ValueError(f"{owner}'s label: expected words, got {printed(label)}. {advice}.")
    require_text(f"{owner}'s label", label, LONGEST_LABEL)
    box = settings.get("box")
    is_box = box is None or (
        isinstance(box, Mapping) and len(box) <= 8 and all(map(BOX_EDGE.holds, box.values()))
    )
    if not is_box:
        raise ValueError(
            f"{owner}'s box: expected four numbers by name, got {printed(box)}. {advice}."
        )


def _require_shape(name: str, shape: Sequence[int], advice: str) -> None:
    """Embeddings of any name have their views first."""
    sides = _SIDES.get(name.rpartition(".")[2], (NUM_VIEWS, *[MODULE_WIDTH] * 3))
    argument = f"size of {printed(name)}"
    if len(shape) > 4:
        raise ValueError(f"{argument}: expected at most 4 sides, got {len(shape)}. {advice}.")
    for side, limits in zip(shape, sides, strict=False):
        limits.require(argument, side, advice)
