"""Save Embedding: a tuned embedding to a file."""

from __future__ import annotations

from functools import partial

from comfy_api.latest import io, ui

from ...subject_diffusion_core.files import tuned_embedding_file
from ...subject_diffusion_core.hifi_tuner import TunedEmbedding
from ..host.comfy_types import TunedEmbeddingType
from ..host.numbered_files import NumberedFiles
from .tuned_files import EXTENSION, FOLDER

SAVED_EMBEDDINGS = NumberedFiles(folder=FOLDER, extension=EXTENSION, example="embedding")


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
        write = partial(tuned_embedding_file.save, embedding=embedding, exclusive=True)
        return io.NodeOutput(ui=ui.PreviewText(SAVED_EMBEDDINGS.save(filename_prefix, write)))
