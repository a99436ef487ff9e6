"""Load Embedding: a tuned embedding from a file."""

from __future__ import annotations

from comfy_api.latest import io

from ...subject_diffusion_core.files import tuned_embedding_file
from ..host.comfy_types import TunedEmbeddingType
from ..subjects.subject import checked_label
from .tuned_files import FOLDER, TUNED_FILES, list_files


class SubjectDiffusionLoadEmbedding(io.ComfyNode):
    """A file of Save Embedding -> a tuned embedding."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SubjectDiffusionLoadEmbedding",
            display_name="Subject-Diffusion Load Embedding",
            category="Subject-Diffusion",
            description="Loads a tuned embedding, for the model that it was tuned on and others "
            "of its kind.",
            inputs=[
                io.Combo.Input(
                    "file_name",
                    options=list_files(),
                    tooltip=f"A file in output/{FOLDER} or models/{FOLDER}.",
                ),
            ],
            outputs=[
                TunedEmbeddingType.Output(display_name="embedding", tooltip="For Apply Embedding.")
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, file_name: str) -> tuple[int, int] | None:
        """Load again when the file changes."""
        return TUNED_FILES.stamp(file_name)

    @classmethod
    def execute(cls, file_name: str) -> io.NodeOutput:
        path = TUNED_FILES.find(file_name)
        if path is None:
            raise ValueError(f"file_name: {TUNED_FILES.missing(file_name, list_files())}")
        embedding = tuned_embedding_file.load(path)
        checked_label(embedding.label, path)  # prompts take it up
        return io.NodeOutput(embedding)
