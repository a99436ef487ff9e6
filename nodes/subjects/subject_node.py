"""Subject: one thing to personalise, appended to a list."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from comfy_api.latest import io

from ...subject_diffusion_core.schema import MOST_VIEWS_OF_A_NODE
from ..host.comfy_types import SubjectsType
from ..host.node_warnings import show_warnings
from ..host.search_words import search_words
from .boxes import box_around, parse_box
from .subject import (
    Subject,
    Subjects,
    checked_label,
    checked_region,
    require_room,
    subject_name,
)
from .view_masks import MARKS, read_view_masks


class SubjectDiffusionSubject(io.ComfyNode):
    """Pictures, label, box and strength of one subject."""

    READS_ITSELF = frozenset({"region", "box"})

    @classmethod
    def input_owner(cls, inputs: Mapping[str, Any]) -> str:
        """How errors call the subject."""
        return subject_name(len(inputs.get("previous", ())))

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SubjectDiffusionSubject",
            display_name="Subject-Diffusion Subject",
            category="Subject-Diffusion",
            description=(
                "One subject: what it looks like, what it is called and where it shall stand. "
                "Chain several through `previous`."
            ),
            **search_words("reference image", "personalise", "personalize", "subject reference"),
            inputs=[
                io.Image.Input(
                    "image", tooltip="The subject. A batch is several views of the same subject."
                ),
                io.String.Input(
                    "label",
                    default="",
                    tooltip="One or two words for what it is, as the prompt names it, e.g. dog.",
                ),
                io.String.Input(
                    "box",
                    default="",
                    tooltip=(
                        "Where it shall stand: x1,y1,x2,y2 in 0..1 (left, top, right, bottom), or "
                        "pixels as "
                        '{"x": 16, "y": 32, "width": 64, "height": 64} together with a Layout node.'
                    ),
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=2.0,
                    step=0.05,
                    tooltip="How much this subject counts next to the others. 0 leaves it out.",
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip=(
                        "Where the subject is in its picture, 1 = subject. The rest becomes white. "
                        "Load Image gives 1 = transparent or painted: see mask_marks."
                    ),
                ),
                SubjectsType.Input(
                    "previous", optional=True, tooltip="Subjects that come before this one."
                ),
                *_when_and_where(),
            ],
            outputs=[
                SubjectsType.Output(
                    display_name="subjects", tooltip="All subjects so far, for Layout or Encode."
                )
            ],
        )

    @classmethod
    def execute(
        cls,
        image: torch.Tensor,
        label: str,
        box: str,
        strength: float,
        mask: torch.Tensor | None = None,
        previous: Subjects = (),
        start_percent: float = 0.0,
        end_percent: float = 1.0,
        region: torch.Tensor | None = None,
        mask_marks: str = MARKS[0],
    ) -> io.NodeOutput:
        owner = subject_name(len(previous))
        require_room("previous", len(previous) + 1)
        place = parse_box(box, owner)
        if region is not None:
            region = checked_region(region, owner)
            around = box_around(region, owner, "region")
            place = place or around
        warnings = []
        views, masks = image[:MOST_VIEWS_OF_A_NODE], mask
        if len(views) < len(image):
            warnings.append(
                f"{owner}'s image: {len(image)} pictures, of which the first {len(views)} are "
                "used. Connect the best views of it, for example through Image From Batch."
            )
            masks = mask[: len(views)] if mask is not None and len(mask) == len(image) else mask
        subject = Subject(
            name=owner,
            images=views[..., :3].cpu(),  # with --gpu-only some nodes give pictures on the GPU
            masks=read_view_masks(views, masks, owner, mask_marks, warnings.append),
            label=checked_label(label, owner),
            box=place,
            strength=strength,
            start_percent=start_percent,
            end_percent=end_percent,
            region=region,
        )
        show_warnings(warnings)
        return io.NodeOutput((*previous, subject))


def _when_and_where() -> list[io.Input]:
    """The inputs that limit a subject to a part of the sampling or of the picture."""
    return [
        io.Float.Input(
            "start_percent",
            default=0.0,
            min=0.0,
            max=1.0,
            step=0.01,
            optional=True,
            tooltip="Where in the sampling this subject comes in; before it the picture "
            "is made without it.",
        ),
        io.Float.Input(
            "end_percent",
            default=1.0,
            min=0.0,
            max=1.0,
            step=0.01,
            optional=True,
            tooltip="Where in the sampling this subject is let go.",
        ),
        io.Mask.Input(
            "region",
            optional=True,
            tooltip="Where in the generated picture the subject acts, 1 = here, in any "
            "size. It replaces the box's rectangle; without a box, the box is drawn "
            "around it.",
        ),
        io.Combo.Input(
            "mask_marks",
            options=list(MARKS),
            default=MARKS[0],
            optional=True,
            tooltip="What the mask marks: the subject, as painted in the Mask Editor, or the "
            "background, as Load Image gives it for a cut-out. guess looks at its edges.",
        ),
    ]
