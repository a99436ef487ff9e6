"""The size that a layout was made for, in the conditionings, against that of the latent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .comfy_types import Entry
from .node_warnings import show_warnings

KEY = "subject_diffusion_layout_size"
Size = tuple[int, int]


def layout_size_values(size: Size | None) -> dict[str, Size]:
    """What a conditioning says of a layout for a picture of this width and height in pixels."""
    return {} if size is None else {KEY: size}


def warn_of_other_proportions(
    conds: Mapping[str, Sequence[Entry]], latent_height: int, latent_width: int
) -> None:
    """Boxes are fractions of the picture: in other proportions the layout is stretched.

    Args:
        conds: the entries of all guidance branches.
        latent_height, latent_width: in cells.
    """
    sizes = {entry[KEY] for entries in conds.values() for entry in entries if KEY in entry}
    show_warnings(
        [
            f"The layout was made for a picture of {width}x{height}, but the latent has other "
            f"proportions ({latent_width}x{latent_height} cells): boxes and regions are stretched. "
            "Give Layout and the latent the same size."
            for width, height in sorted(sizes)
            if not _fits(width / height, latent_height, latent_width)
        ]
    )


def _fits(ratio: float, latent_height: int, latent_width: int) -> bool:
    """Whether the latent has these proportions, to one cell.

    >>> _fits(100 / 130, 16, 12), _fits(1.0, 16, 24)
    (True, False)
    """
    return abs(latent_height * ratio - latent_width) <= 1.0 or (
        abs(latent_width / ratio - latent_height) <= 1.0
    )
