"""Layout: where the subjects stand, checked and drawn."""

from __future__ import annotations

from dataclasses import replace

from comfy_api.latest import io

from .adapter_types import SubjectsType
from .layout_preview import draw_layout
from .subjects import Subjects


class SubjectDiffusionLayout(io.ComfyNode):
    """Subjects and a picture size -> subjects with boxes in 0..1, and a drawing of them."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SubjectDiffusionLayout",
            display_name="Subject-Diffusion Layout",
            category="Subject-Diffusion",
            description="Shows where the subjects will stand, and turns boxes in pixels into "
            "fractions.",
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
    def execute(cls, subjects: Subjects, width: int, height: int) -> io.NodeOutput:
        placed = tuple(
            replace(subject, box=subject.box.to_relative(width, height, subject.name))
            if subject.box is not None
            else subject
            for subject in subjects
        )
        return io.NodeOutput(placed, draw_layout(placed, width, height))
