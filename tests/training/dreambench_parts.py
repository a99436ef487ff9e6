"""What DreamBench's tests share: DINO's and CLIP's classes at tiny size, pictures, the command."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from transformers import (
    BertTokenizer,
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    ViTConfig,
    ViTImageProcessor,
    ViTModel,
)

from benchmarks.dreambench.__main__ import build_parser

SIZE = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
VISION = {**SIZE, "intermediate_size": 32, "image_size": 32, "patch_size": 16}


def picture(color: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 36), color).save(path)


def save_dino(folder: Path) -> None:
    """Random weights with an image processor."""
    torch.manual_seed(0)
    ViTModel(ViTConfig(**VISION), add_pooling_layer=False).save_pretrained(folder)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)


def save_clip(folder: Path, words: Sequence[str]) -> None:
    """Random weights with an image processor and a tokenizer that knows ``words``."""
    torch.manual_seed(0)
    text = {**SIZE, "intermediate_size": 32, "vocab_size": len(words), "eos_token_id": 3}
    config = CLIPConfig(text_config=text, vision_config=VISION, projection_dim=16)
    CLIPModel(config).save_pretrained(folder)
    CLIPImageProcessor(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    ).save_pretrained(folder)
    vocabulary = folder / "vocab.txt"
    vocabulary.write_text("\n".join(words))
    BertTokenizer(vocab=str(vocabulary)).save_pretrained(folder)


def command(*words: str | Path) -> None:
    """``python -m benchmarks.dreambench ...`` without the process."""
    parsed = build_parser().parse_args([*map(str, words)])
    parsed.run(parsed)
