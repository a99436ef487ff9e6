"""Load Subjects: encoded subjects from a file."""

from __future__ import annotations

from comfy_api.latest import io

from ..host.comfy_types import SubjectsType
from ..subjects.subject import Subjects
from .subject_files import FOLDER, SUBJECT_FILES, list_files, read_subjects


class SubjectDiffusionLoadSubjects(io.ComfyNode):
    """A file of Save Subjects -> subjects that need no image encoder."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SubjectDiffusionLoadSubjects",
            display_name="Subject-Diffusion Load Subjects",
            category="Subject-Diffusion",
            description="Loads encoded subjects; Encode then does not run the image encoder for "
            "them.",
            inputs=[
                io.Combo.Input(
                    "file_name",
                    options=list_files(),
                    tooltip=f"A file in output/{FOLDER} or models/{FOLDER}.",
                ),
                SubjectsType.Input(
                    "previous", optional=True, tooltip="Subjects that come before these."
                ),
            ],
            outputs=[
                SubjectsType.Output(
                    display_name="subjects", tooltip="All subjects so far, for Layout or Encode."
                )
            ],
        )

    @classmethod
    def fingerprint_inputs(
        cls, file_name: str, previous: Subjects | None = None
    ) -> tuple[int, int] | None:
        """Load again when the file changes."""
        return SUBJECT_FILES.stamp(file_name)

    @classmethod
    def execute(cls, file_name: str, previous: Subjects | None = None) -> io.NodeOutput:
        before = previous or ()
        path = SUBJECT_FILES.find(file_name)
        if path is None:
            raise ValueError(f"file_name: {SUBJECT_FILES.missing(file_name, list_files())}")
        return io.NodeOutput((*before, *read_subjects(path, len(before))))
