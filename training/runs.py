"""Files of a training run: written whole or not at all, and readable after a kill at any moment."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary sibling of ``path``, renamed over ``path`` only if the block succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.partial")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write text, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, content: object, indent: int | None = None) -> None:
    """Write JSON, dataclasses as their fields, whole or not at all."""
    write_text(path, json.dumps(content, default=asdict, indent=indent))


def save_picture(path: Path, pixels: np.ndarray) -> None:
    """Write (H, W, 3) uint8 as PNG, whole or not at all."""
    with atomic_path(path) as temporary:
        Image.fromarray(pixels).save(temporary, "PNG")


def save_array(path: Path, array: np.ndarray) -> None:
    """Write an array as .npy, whole or not at all."""
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.save(file, array)


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Save a training state (tensors and plain values) atomically."""
    import torch  # here, as processes that write shards only need the rest

    with atomic_path(path) as temporary:
        torch.save(state, temporary)


def load_state(path: Path) -> dict[str, Any] | None:
    """The state saved at ``path``, or None where there is none yet."""
    import torch

    if not path.exists():
        return None
    return dict(torch.load(path, map_location="cpu", weights_only=True))


def cosine_learning_rate(
    step: int, total_steps: int, peak: float, warmup_steps: int, floor: float = 0.05
) -> float:
    """Linear warm-up to ``peak``, then a cosine down to ``floor * peak`` at ``total_steps``."""
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    progress = min(1.0, (step - warmup_steps) / max(1, total_steps - warmup_steps))
    return peak * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress)))
