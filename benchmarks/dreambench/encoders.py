"""DINO and CLIP, loaded from the reader's own folders, never from a hub.

# Shapes: B pictures or texts, D feature width.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoImageProcessor, AutoTokenizer, CLIPModel, ViTModel

from .dataset import DreamBenchError

BATCH_SIZE = 32


def _load(loader: Any, folder: Path, argument: str, wanted: str) -> Any:
    try:
        return loader.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise DreamBenchError(
            f"{argument}: expected a folder with {wanted} in transformers' format, got {folder} "
            f"({str(error).splitlines()[0]}). Download it there first."
        ) from error


class PictureEncoder:
    """Features of pictures, batch by batch."""

    processor: Any

    def features(self, inputs: Any) -> Tensor:
        """(B, D) of a batch as the processor gives it."""
        raise NotImplementedError

    @torch.no_grad()
    def images(self, paths: Sequence[Path]) -> Tensor:
        """Unit-length features (B, D)."""
        parts = []
        for start in range(0, len(paths), BATCH_SIZE):
            pictures = [Image.open(path).convert("RGB") for path in paths[start:][:BATCH_SIZE]]
            parts.append(self.features(self.processor(pictures, return_tensors="pt")))
        return F.normalize(torch.cat(parts), dim=-1)


class DinoEncoder(PictureEncoder):
    """DINO's class token (ViT-S/16 in the paper)."""

    def __init__(self, folder: Path) -> None:
        self.model = _load(ViTModel, folder, "dino", "DINO ViT-S/16").eval()
        self.processor = _load(AutoImageProcessor, folder, "dino", "its image processor")

    def features(self, inputs: Any) -> Tensor:
        state: Tensor = self.model(**inputs).last_hidden_state
        return state[:, 0]


class ClipEncoder(PictureEncoder):
    """CLIP's projected features of pictures and of texts (ViT-B/32 in most reports)."""

    def __init__(self, folder: Path) -> None:
        self.model = _load(CLIPModel, folder, "clip", "CLIP").eval()
        self.processor = _load(AutoImageProcessor, folder, "clip", "its image processor")
        self.tokenizer = _load(AutoTokenizer, folder, "clip", "its tokenizer")

    def features(self, inputs: Any) -> Tensor:
        hidden = self.model.vision_model(**inputs).pooler_output
        projected: Tensor = self.model.visual_projection(hidden)
        return projected

    @torch.no_grad()
    def texts(self, prompts: Sequence[str]) -> Tensor:
        """Unit-length features (B, D); longer prompts are cut at the model's length."""
        inputs = self.tokenizer(
            list(prompts), padding=True, truncation=True, return_tensors="pt",
            max_length=self.model.config.text_config.max_position_embeddings,
        )  # fmt: skip
        hidden = self.model.text_model(**inputs).pooler_output
        return F.normalize(self.model.text_projection(hidden), dim=-1)
