"""Layout: where the subjects stand, checked and drawn."""

from __future__ import annotations

from dataclasses import replace

from comfy_api.latest import io

from ..host.comfy_types import SubjectsType
from ..host.node_warnings import show_warnings
from .box_lists import assign_boxes
from .layout_preview import draw_layout
from .layout_report import report_layout
from .layout_text import apply_layout, parse_layout
from .placement import MODES, place_subjects
from .subject import Subjects
from .subject_warnings import box_warnings, canvas_warnings, region_warnings


class SubjectDiffusionLayout(io.ComfyNode):
    """Subjects and a picture size -> subjects with boxes in 0..1, and a drawing of them."""

    READS_ITSELF = frozenset({"layout"})

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SubjectDiffusionLayout",
            display_name="Subject-Diffusion Layout",
            category="Subject-Diffusion",
            description="Draw where the subjects will stand. Turns boxes in pixels into "
            "fractions, and finds places for subjects without a box.",
            inputs=[
                SubjectsType.Input("subjects", tooltip="From Subject nodes."),
                io.Int.Input(
                    "width",
                    default=512,
                    min=16,
                    max=16384,
                    step=8,
                    tooltip="Width of the picture to generate, in pixels.",
                ),
                io.Int.Input(
                    "height",
                    default=512,
                    min=16,
                    max=16384,
                    step=8,
                    tooltip="Height of the picture to generate, in pixels.",
                ),
                io.Combo.Input(
                    "mode",
                    options=list(MODES),
                    default=MODES[0],
                    optional=True,
                    tooltip="Where subjects without a box stand. given: each needs one. reference: "
                    "where they are in their own pictures. random: anywhere.",
                ),
                io.Int.Input(
                    "place_seed",
                    default=0,
                    min=0,
                    max=2**31 - 1,
                    optional=True,
                    tooltip="Another number gives other random places.",
                ),
                io.AnyType.Input(
                    "boxes",
                    optional=True,
                    tooltip="A box for each subject, in order: text, lists, dictionaries, bounding "
                    "boxes of other nodes, or masks. They replace boxes written in Subject.",
                ),
                io.String.Input(
                    "layout",
                    default="",
                    optional=True,
                    tooltip="What the editor writes: JSON with a box and a strength per subject. "
                    "A box here takes the place of the subject's own. Empty: nothing changes.",
                ),
            ],
            outputs=[
                SubjectsType.Output(
                    display_name="subjects", tooltip="The same subjects, boxes as fractions."
                ),
                io.Image.Output(
                    display_name="preview", tooltip="The boxes with labels and small pictures."
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        subjects: Subjects,
        width: int,
        height: int,
        mode: str = MODES[0],
        place_seed: int = 0,
        boxes: object = None,
        layout: object = "",
    ) -> io.NodeOutput:
        assigned = assign_boxes(subjects, boxes)
        laid_out = tuple(
            replace(
                subject,
                box=None
                if subject.box is None
                else subject.box.to_relative(width, height, subject.name),
                layout_size=(width, height),
            )
            for subject in apply_layout(assigned, parse_layout(layout))
        )
        placed = place_subjects(laid_out, mode, place_seed, width, height)
        canvas = [] if boxes is None else canvas_warnings(assigned, width, height)
        show_warnings(canvas + box_warnings(placed) + region_warnings(subjects, width, height))
        preview = draw_layout(placed, width, height)
        return io.NodeOutput(placed, preview, ui=report_layout(placed, width, height))
