"""Adapter Loader: an adapter file from ComfyUI's model folders."""

from __future__ import annotations

import os

import folder_paths
from comfy_api.latest import io

from .adapter_types import AdapterType, load_adapter

FOLDER = "subject_diffusion"
EXTENSION = ".safetensors"


def register_adapter_folder() -> None:
    """Make models/subject_diffusion known to ComfyUI, beside folders the user configured."""
    folder_paths.add_model_folder_path(FOLDER, os.path.join(folder_paths.models_dir, FOLDER))
    _, extensions = folder_paths.folder_names_and_paths[FOLDER]
    extensions.add(EXTENSION)


class SubjectDiffusionAdapterLoader(io.ComfyNode):
    """A trained adapter from models/subject_diffusion."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SubjectDiffusionAdapterLoader",
            display_name="Subject-Diffusion Adapter Loader",
            category="Subject-Diffusion",
            description="Loads a trained adapter (.safetensors) from models/subject_diffusion.",
            inputs=[
                io.Combo.Input(
                    "adapter_name",
                    options=folder_paths.get_filename_list(FOLDER),
                    tooltip="A file in models/subject_diffusion. It says itself which base model "
                    "it needs.",
                )
            ],
            outputs=[AdapterType.Output(display_name="adapter", tooltip="For Apply and Encode.")],
        )

    @classmethod
    def fingerprint_inputs(cls, adapter_name: str) -> tuple[int, int] | None:
        """Load again when the file changes."""
        path = folder_paths.get_full_path(FOLDER, adapter_name)
        if path is None:
            return None
        stat = os.stat(path)
        return (stat.st_mtime_ns, stat.st_size)

    @classmethod
    def validate_inputs(cls, adapter_name: str) -> bool | str:
        """ComfyUI would only say that the name is not in its list."""
        if not isinstance(adapter_name, str):  # linked: known when the node runs
            return True
        is_there = folder_paths.get_full_path(FOLDER, adapter_name) is not None
        return is_there or _missing_file(adapter_name)

    @classmethod
    def execute(cls, adapter_name: str) -> io.NodeOutput:
        path = folder_paths.get_full_path(FOLDER, adapter_name)
        if path is None:
            raise ValueError(f"adapter_name: {_missing_file(adapter_name)}")
        return io.NodeOutput(load_adapter(path))


def _missing_file(adapter_name: str) -> str:
    folders = ", ".join(folder_paths.get_folder_paths(FOLDER))
    found = ", ".join(folder_paths.get_filename_list(FOLDER)) or "nothing"
    return (
        f"expected a file in {folders}, got '{adapter_name}'. There is {found}; put the adapter "
        "there and reload the page."
    )
