"""Features of the reference pictures, computed once (the image encoder is frozen).

# Shapes: R reference rows, P patch tokens, C patch width, E image embedding width.
A cut-out has one or more rows: row 0 shows it as it is, the others turned by up to 10 degrees and
with perspective. Nothing is mirrored, here or in the composites: which way a subject faces is seen.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from subject_diffusion_core.tiny.tiny_vision import TinyVision, normalise_pixels

from ..dataset.reference_pool import MARK, POOL_NAME
from ..dataset.references import Augmentation, reference_picture
from ..runs import atomic_path, save_array, save_state

AUGMENTATION = Augmentation(flip=0.0, rotation=10.0, perspective=0.5, corner_shift=0.125)
STATISTICS_ROWS = 2000
CHUNK = 256


def plan_rows(cutouts: list[dict[str, Any]], extra_variants: int) -> list[tuple[int, int]]:
    """(cut-out, variant) of every row: variants only where an identity has a single view."""
    plan = []
    for index, cutout in enumerate(cutouts):
        variants = 1 if cutout["view"] is not None else 1 + extra_variants
        plan += [(index, variant) for variant in range(variants)]
    return sorted(plan, key=lambda row: (row[1], row[0]))


@torch.no_grad()
def encode_references(
    work: Path, vision: TinyVision, indices: list[int], extra_variants: int, batch_size: int = 8
) -> None:
    """Write the patch features of the cut-outs ``indices``, as the encoder without statistics
    gives them, into ``work/references``."""
    folder = work / "references"
    if (folder / "rows.json").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    pixels = np.load(work / "cutouts.npy", mmap_mode="r")
    cutouts = json.loads((work / "cutouts.json").read_text())
    wanted = set(indices)
    plan = [row for row in plan_rows(cutouts, extra_variants) if row[0] in wanted]
    patches = []
    vision.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for batch in tqdm(list(_batches(plan, batch_size)), desc="reference features"):
        pictures = torch.stack(
            [reference_of_row(pixels[index], vision, index, variant) for index, variant in batch]
        )
        normalised = normalise_pixels(pictures).to(memory_format=torch.channels_last)
        patches.append(vision(normalised).patch_embeds.to(torch.float16).numpy())
    save_array(folder / "patch_embeds.npy", np.concatenate(patches))
    with atomic_path(folder / "rows.json") as temporary:
        temporary.write_text(json.dumps([index for index, _ in plan]))


def reference_of_row(rgba: np.ndarray, vision: TinyVision, index: int, variant: int) -> Tensor:
    """The reference picture (3, S, S) in 0..1 of a cut-out (H, H, 4) uint8; variant 0 is plain."""
    rng = np.random.default_rng((variant, index)) if variant else None
    return reference_picture(np.asarray(rgba), vision.geometry.image_size, rng, AUGMENTATION)


def fit_statistics(work: Path) -> Path:
    """Mean and deviation of every patch feature over all references; returns their file."""
    path = statistics_path(work)
    if not path.exists():
        patches = np.load(work / "references" / "patch_embeds.npy", mmap_mode="r")
        some = patches[:: max(1, len(patches) // STATISTICS_ROWS)].astype(np.float64)
        mean, std = some.mean((0, 1)), some.std((0, 1)).clip(min=1e-3)
        save_statistics(work, torch.from_numpy(mean).float(), torch.from_numpy(std).float())
    return path


def statistics_path(work: Path) -> Path:
    """Where the work folder keeps the features' statistics."""
    return work / "references" / "statistics.pt"


def save_statistics(work: Path, patch_mean: Tensor, patch_std: Tensor) -> None:
    """Set the features' statistics, each (C,)."""
    save_state(statistics_path(work), {"patch_mean": patch_mean, "patch_std": patch_std})


def write_pool(work: Path, shards: Path, mark: str) -> None:
    """The pool of references for ``shards``: features standardised as the encoder then does it."""
    path = shards / POOL_NAME
    if path.exists():
        return
    folder = work / "references"
    statistics = torch.load(fit_statistics(work), map_location="cpu", weights_only=True)
    mean, std = (statistics[name].numpy() for name in ("patch_mean", "patch_std"))
    patches = np.load(folder / "patch_embeds.npy")
    images = np.empty((len(patches), 2 * patches.shape[-1]), np.float32)
    for start in range(0, len(patches), CHUNK):
        rows = slice(start, start + CHUNK)
        standardised = (patches[rows].astype(np.float32) - mean) / std
        patches[rows] = standardised
        images[rows] = np.concatenate([standardised.mean(1), standardised.std(1)], axis=-1)
    cutouts = json.loads((work / "cutouts.json").read_text())
    indices = json.loads((folder / "rows.json").read_text())
    names = [cutouts[index]["identity"] for index in indices]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    tensors = {
        "patch_embeds": torch.from_numpy(patches),
        "image_embeds": torch.from_numpy(images),
        "cutout": torch.tensor(indices),
        "identity": torch.tensor([numbers[name] for name in names]),
    }
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={MARK: mark})


def _batches(plan: list[tuple[int, int]], size: int) -> Iterator[list[tuple[int, int]]]:
    for start in range(0, len(plan), size):
        yield plan[start : start + size]
