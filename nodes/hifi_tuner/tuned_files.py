"""The folders of tuned embeddings."""

from __future__ import annotations

from ..host.model_folders import ModelFolder, files_now

TUNED_FILES = ModelFolder(
    name="subject_diffusion_tuned", extensions=(".safetensors",), content="the file"
)
FOLDER, (EXTENSION,) = TUNED_FILES.name, TUNED_FILES.extensions


def list_files() -> list[str]:
    """All files, relative to their folders; one that was just saved is among them."""
    return files_now(FOLDER)
