"""Reference View: the subjects exactly as they enter the image encoder."""

from __future__ import annotations

import torch
from comfy_api.latest import io

from ..host.comfy_types import AdapterType, SubjectsType
from ..subjects.subject import Subjects
from .family import LoadedAdapter
from .image_encoding import reference_pictures


class SubjectDiffusionReferenceView(io.ComfyNode):
    """Subjects -> one picture per view, as the image encoder gets it."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SubjectDiffusionReferenceView",
            display_name="Subject-Diffusion Reference View",
            category="Subject-Diffusion",
            description="Shows what the image encoder sees of each subject: cut out by its mask, "
            "on white, padded to a square. If something is wrong here, it is wrong in the result.",
            inputs=[
                SubjectsType.Input("subjects", tooltip="From Subject or Layout nodes."),
                AdapterType.Input(
                    "adapter", tooltip="The adapter that is used; it says how large the picture is."
                ),
            ],
            outputs=[
                io.Image.Output(
                    display_name="images", tooltip="One square picture per view, in order."
                )
            ],
        )

    @classmethod
    def execute(cls, subjects: Subjects, adapter: LoadedAdapter) -> io.NodeOutput:
        size = adapter.pictures.reference_size
        pictures = [
            picture
            for subject in subjects
            for picture in reference_pictures(subject.images, subject.masks, size)
        ]
        if not pictures:
            raise ValueError("subjects: expected at least one, got none. Connect a Subject node.")
        return io.NodeOutput(torch.stack(pictures))
