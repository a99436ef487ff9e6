"""Save Subjects: encoded subjects to a file."""

from __future__ import annotations

from functools import partial

from comfy_api.latest import io, ui

from ..host.comfy_types import SubjectsType
from ..host.numbered_files import NumberedFiles
from ..subjects.subject import Subjects
from .subject_files import EXTENSION, FOLDER, write_subjects

SAVED_SUBJECTS = NumberedFiles(folder=FOLDER, extension=EXTENSION, example="subjects")


class SubjectDiffusionSaveSubjects(io.ComfyNode):
    """Encoded subjects -> a file in ComfyUI's output folder."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SubjectDiffusionSaveSubjects",
            display_name="Subject-Diffusion Save Subjects",
            category="Subject-Diffusion",
            description="Saves encoded subjects with their labels, strengths and places as one "
            ".safetensors file in ComfyUI's output folder, for Load Subjects.",
            inputs=[
                SubjectsType.Input("subjects", tooltip="From Subject-Diffusion Encode Subjects."),
                io.String.Input(
                    "filename_prefix",
                    default=f"{FOLDER}/subjects",
                    tooltip="Folder in output and beginning of the name; a number follows. Load "
                    f"Subjects looks into output/{FOLDER}.",
                ),
            ],
            outputs=[],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, subjects: Subjects, filename_prefix: str) -> io.NodeOutput:
        saved = SAVED_SUBJECTS.save(filename_prefix, partial(write_subjects, subjects=subjects))
        return io.NodeOutput(ui=ui.PreviewText(saved))
