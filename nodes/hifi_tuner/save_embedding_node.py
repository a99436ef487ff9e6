"""Save Embedding: a tuned embedding to a file."""

from __future__ import annotations

import os

import folder_paths
from comfy_api.latest import io, ui

from ...subject_diffusion_core.files import tuned_embedding_file
from ...subject_diffusion_core.hifi_tuner import TunedEmbedding
from ..host.comfy_types import TunedEmbeddingType
from .tuned_files import EXTENSION, FOLDER


class SubjectDiffusionSaveEmbedding(io.ComfyNode):
    """A tuned embedding -> a file in ComfyUI's output folder."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SubjectDiffusionSaveEmbedding",
            display_name="Subject-Diffusion Save Embedding",
            category="Subject-Diffusion",
            description="Saves a tuned embedding, and how it was tuned, as one .safetensors file "
            "in ComfyUI's output folder, for Load Embedding.",
            inputs=[
                TunedEmbeddingType.Input(
                    "embedding", tooltip="From Subject-Diffusion Tune Embedding."
                ),
                io.String.Input(
                    "filename_prefix",
                    default=f"{FOLDER}/embedding",
                    tooltip="Folder in output and beginning of the name; a number follows. Load "
                    f"Embedding looks into output/{FOLDER}.",
                ),
            ],
            outputs=[],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, embedding: TunedEmbedding, filename_prefix: str) -> io.NodeOutput:
        folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(
            filename_prefix, folder_paths.get_output_directory()
        )
        file_name = f"{name}_{counter:05}_{EXTENSION}"
        tuned_embedding_file.save(os.path.join(folder, file_name), embedding)
        return io.NodeOutput(ui=ui.PreviewText(os.path.join(subfolder, file_name)))
