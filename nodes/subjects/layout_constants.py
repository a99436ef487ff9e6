"""What the server and the layout editor in the browser both go by: one file of the editor's."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

FILE = Path(__file__).resolve().parents[2] / "web" / "layout" / "constants.js"


@dataclass(frozen=True, kw_only=True)
class LayoutConstants:
    """The entries of the file.

    Attributes:
        layout_version: of a layout's text.
        default_strength, default_start, default_end: what an entry of a layout says by saying
            nothing.
        largest_strength: that an entry of a layout may give.
        smallest_box_area, largest_box_area: shares of the picture outside which a subject hardly
            comes out.
        largest_overlap: intersection over union of two boxes above which they mix.
        mask_threshold: from it on, in 0..1, a mask counts.
        longest_chain: as many subjects as the editor reads.
        colours: "#rrggbb" of the first subject, the second, ...; then from the start again.
    """

    layout_version: int
    default_strength: float
    default_start: float
    default_end: float
    largest_strength: float
    smallest_box_area: float
    largest_box_area: float
    largest_overlap: float
    mask_threshold: float
    longest_chain: int
    colours: list[str]


def _read() -> LayoutConstants:
    """The script exports one object, written as JSON."""
    text = FILE.read_text(encoding="utf-8").partition("export default")[2]
    return LayoutConstants(**json.loads(text.strip().rstrip(";")))


CONSTANTS = _read()
