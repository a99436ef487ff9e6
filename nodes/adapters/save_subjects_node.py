"""Save Subjects: encoded subjects to a file."""

from __future__ import annotations

import itertools
import os

import folder_paths
from comfy_api.latest import io, ui

from ...subject_diffusion_core.schema import printed
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
        folder, name, counter, subfolder = _place(filename_prefix)
        for number in itertools.count(counter):  # another server may save at this moment
            file_name = f"{name}_{number:05}_{EXTENSION}"
            try:
                write_subjects(os.path.join(folder, file_name), subjects)
            except FileExistsError:
                continue
            except OSError as error:
                raise ValueError(
                    f"filename_prefix: expected a name that can be saved in {folder}, got an error "
                    f"({error.strerror}). Choose another name, or make room there."
                ) from error
            break
        return io.NodeOutput(ui=ui.PreviewText(os.path.join(subfolder, file_name)))


def _place(prefix: str) -> tuple[str, str, int, str]:
    """Folder, beginning of the name, first free number, and the folder below output.

    What Load Subjects lists lies in one folder of output: a prefix without it is meant below it.
    """
    top = prefix.replace("\\", "/").lstrip("./").partition("/")
    below = prefix if top[0] == FOLDER and top[1] else f"{FOLDER}/{prefix}"
    try:
        folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(
            below, folder_paths.get_output_directory()
        )
        is_inside = os.path.normpath(subfolder).split(os.sep)[0] == FOLDER and "\0" not in prefix
    except Exception:  # ComfyUI raises no narrower one where the folder is outside of output
        is_inside = False
    if not is_inside:
        raise ValueError(
            f"filename_prefix: expected a name in output/{FOLDER}, got {printed(prefix)}. Write "
            f"one such as {FOLDER}/subjects."
        )
    return folder, name, counter, subfolder
