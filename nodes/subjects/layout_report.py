"""What the layout editor in the browser is told after a run: boxes, labels and small pictures."""

from __future__ import annotations

import base64
import io

from .layout_preview import cut_out
from .subject import Subject, Subjects

KEY = "subject_diffusion_layout"
LONG_SIDE = 96


def report_layout(
    subjects: Subjects, width: int, height: int
) -> dict[str, list[dict[str, object]]]:
    """For ComfyUI's "executed" message.

    Args:
        subjects: as they leave the Layout node, boxes in fractions where they have one.
        width, height: of the picture to generate, in pixels.
    """
    return {
        KEY: [
            {
                "width": width,
                "height": height,
                "subjects": [_report_subject(subject) for subject in subjects],
            }
        ]
    }


def _report_subject(subject: Subject) -> dict[str, object]:
    return {
        "label": subject.label,
        "box": None if subject.box is None else list(subject.box.edges),
        "thumbnail": _data_address(subject),
    }


def _data_address(subject: Subject) -> str:
    """The first view, cut out, as a PNG in the text of an address."""
    picture = cut_out(subject, LONG_SIDE)
    file = io.BytesIO()
    picture.save(file, format="PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")
