"""Segment Loader: a segment-anything checkpoint from ComfyUI's model folders."""

from __future__ import annotations

import os

import folder_paths
from comfy_api.latest import io

from .sam_model import load_segmenter

FOLDER = "sams"
EXTENSIONS = (".safetensors", ".pth", ".pt")
SegmenterType = io.Custom("SUBJECT_DIFFUSION_SEGMENTER")


def register_segmenter_folder() -> None:
    """Make models/sams known to ComfyUI, beside what other packs and the user configured."""
    folder_paths.add_model_folder_path(FOLDER, os.path.join(folder_paths.models_dir, FOLDER))
    _, extensions = folder_paths.folder_names_and_paths[FOLDER]
    if isinstance(extensions, set):  # another pack may have registered the folder in its own way
        extensions.update(EXTENSIONS)


class SubjectDiffusionSegmentLoader(io.ComfyNode):
    """A checkpoint of segment-anything from models/sams."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SubjectDiffusionSegmentLoader",
            display_name="Subject-Diffusion Segment Loader",
            category="Subject-Diffusion",
            description="Loads segment-anything (ViT-B, ViT-L or ViT-H) from models/sams. Needs "
            "the Python package segment-anything.",
            inputs=[
                io.Combo.Input(
                    "segmenter_name",
                    options=folder_paths.get_filename_list(FOLDER),
                    tooltip="A checkpoint in models/sams. Its content says which size it is.",
                )
            ],
            outputs=[SegmenterType.Output(display_name="segmenter", tooltip="For Segment.")],
        )

    @classmethod
    def fingerprint_inputs(cls, segmenter_name: str) -> tuple[int, int] | None:
        """Load again when the file changes."""
        path = folder_paths.get_full_path(FOLDER, segmenter_name)
        if path is None:
            return None
        stat = os.stat(path)
        return (stat.st_mtime_ns, stat.st_size)

    @classmethod
    def execute(cls, segmenter_name: str) -> io.NodeOutput:
        path = folder_paths.get_full_path(FOLDER, segmenter_name)
        if path is None:
            folders = ", ".join(folder_paths.get_folder_paths(FOLDER))
            found = ", ".join(folder_paths.get_filename_list(FOLDER)) or "nothing"
            raise ValueError(
                f"segmenter_name: expected a file in {folders}, got '{segmenter_name}'. There is "
                f"{found}; put a checkpoint of segment-anything there and reload the page."
            )
        return io.NodeOutput(load_segmenter(path))
