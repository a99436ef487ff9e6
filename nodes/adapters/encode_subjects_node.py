"""Encode Subjects: the image encoder's part of Encode, done once and kept with the subjects."""

from __future__ import annotations

from comfy_api.latest import io

from ..host.comfy_types import AdapterType, ClipVision, SubjectsType
from ..subjects.subject import Subjects
from .family import LoadedAdapter
from .image_encoding import encode_subjects


class SubjectDiffusionEncodeSubjects(io.ComfyNode):
    """Subjects -> the same subjects with their embeddings inside."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SubjectDiffusionEncodeSubjects",
            display_name="Subject-Diffusion Encode Subjects",
            category="Subject-Diffusion",
            description="Runs the image encoder over the subjects and keeps what it says with "
            "them, so that Encode does not run it, and Save Subjects can store them.",
            inputs=[
                SubjectsType.Input("subjects", tooltip="From Subject or Layout nodes."),
                io.ClipVision.Input(
                    "clip_vision",
                    tooltip="The image encoder of the adapter; the same as in Encode.",
                ),
                AdapterType.Input(
                    "adapter", tooltip="The adapter that is used; it says what the encoder gets."
                ),
            ],
            outputs=[
                SubjectsType.Output(display_name="subjects", tooltip="The same subjects, encoded.")
            ],
        )

    @classmethod
    def execute(
        cls, subjects: Subjects, clip_vision: ClipVision, adapter: LoadedAdapter
    ) -> io.NodeOutput:
        return io.NodeOutput(encode_subjects(clip_vision, subjects, adapter.pictures, keep=True))
