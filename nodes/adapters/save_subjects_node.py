"""Save Subjects: encoded subjects to a file."""

from __future__ import annotations

import os

import folder_paths
from comfy_api.latest import io, ui

from ..host.comfy_types import SubjectsType
from ..subjects.subject import Subjects
from .subject_files import EXTENSION, FOLDER, write_subjects


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
        folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(
            filename_prefix, folder_paths.get_output_directory()
        )
        file_name = f"{name}_{counter:05}_{EXTENSION}"
        write_subjects(os.path.join(folder, file_name), subjects)
        return io.NodeOutput(ui=ui.PreviewText(os.path.join(subfolder, file_name)))
