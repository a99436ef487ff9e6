"""Load Subjects: encoded subjects from a file."""

from __future__ import annotations

import os

import folder_paths
from comfy_api.latest import io

from ..subjects.subject import Subjects
from .adapter_types import SubjectsType
from .subject_files import FOLDER, list_files, read_subjects


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
        path = folder_paths.get_full_path(FOLDER, file_name)
        if path is None:
            return None
        stat = os.stat(path)
        return (stat.st_mtime_ns, stat.st_size)

    @classmethod
    def execute(cls, file_name: str, previous: Subjects | None = None) -> io.NodeOutput:
        before = previous or ()
        path = folder_paths.get_full_path(FOLDER, file_name)
        if path is None:
            folders = ", ".join(folder_paths.get_folder_paths(FOLDER))
            found = ", ".join(list_files()) or "nothing"
            raise ValueError(
                f"file_name: expected a file in {folders}, got '{file_name}'. There is {found}; "
                "put the file there and reload the page."
            )
        return io.NodeOutput((*before, *read_subjects(path, len(before))))
