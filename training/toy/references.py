"""Features of the reference pictures, computed once (the image encoder is frozen).

# Shapes: R reference rows, P patch tokens, C patch width, E image embedding width.
A cut-out has one or more rows: row 0 shows it as it is, the others turned by up to 10 degrees and
with perspective. Nothing is mirrored, here or in the composites: which way a subject faces is seen.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kornia.augmentation as K
import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from subject_diffusion_core.reference_image import prepare_reference
from subject_diffusion_core.tiny.tiny_vision import TinyVision, normalise_pixels

from ..runs import atomic_path, save_state

CANVAS_MARGIN = 24
STATISTICS_ROWS = 2000


@dataclass(frozen=True, kw_only=True)
class ReferenceTable:
    """Features of all reference rows, and which rows show which cut-out.

    Attributes:
        patch_embeds: (R, P, C) float16. image_embeds: (R, E) float32.
        cutout: (R,) which cut-out a row shows. rows: cut-out index -> its rows.
    """

    patch_embeds: np.ndarray
    image_embeds: np.ndarray
    cutout: np.ndarray
    rows: dict[int, list[int]]


def augment_cutouts(rgba: Tensor, seed: int) -> Tensor:
    """Turn by +-10 degrees, distort in perspective; (B, 4, S, S) premultiplied, 0..1."""
    torch.manual_seed(seed)
    padded = torch.nn.functional.pad(rgba, (CANVAS_MARGIN,) * 4)
    augment = K.AugmentationSequential(
        K.RandomRotation(degrees=10.0, p=1.0),
        K.RandomPerspective(distortion_scale=0.25, p=0.5),
    )
    return augment(padded)


def reference_pictures(rgba: np.ndarray, size: int, augment_seed: int | None) -> Tensor:
    """Reference pictures (B, 3, size, size) in 0..1 of cut-outs (B, S, S, 4) uint8."""
    pixels = torch.from_numpy(rgba).permute(0, 3, 1, 2).float() / 255
    color, alpha = pixels[:, :3], pixels[:, 3:]
    premultiplied = torch.cat([color * alpha, alpha], dim=1)
    if augment_seed is not None:
        premultiplied = augment_cutouts(premultiplied, augment_seed)
    pictures = []
    for picture in premultiplied:
        alpha = picture[3]
        color = picture[:3] / alpha.clamp(min=1e-4)
        pictures.append(prepare_reference(color.permute(1, 2, 0).clamp(0, 1), alpha, size))
    return torch.stack(pictures)


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
    """Write the :class:`ReferenceTable` of the cut-outs ``indices`` into ``work/references``."""
    folder = work / "references"
    if (folder / "done.json").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    pixels = np.load(work / "cutouts.npy", mmap_mode="r")
    cutouts = json.loads((work / "cutouts.json").read_text())
    wanted = set(indices)
    plan = [row for row in plan_rows(cutouts, extra_variants) if row[0] in wanted]
    patches = []
    vision = vision.to(memory_format=torch.channels_last)
    for batch in tqdm(list(_batches(plan, batch_size)), desc="reference features"):
        variant = batch[0][1]
        seed = None if variant == 0 else 1000 * variant + batch[0][0]
        rgba = pixels[[index for index, _ in batch]]
        pictures = normalise_pixels(reference_pictures(rgba, vision.geometry.image_size, seed))
        patch_embeds = vision(pictures.to(memory_format=torch.channels_last)).patch_embeds
        patches.append(patch_embeds.to(torch.float16).numpy())
    for name, array in (
        ("patch_embeds", np.concatenate(patches)),
        ("cutout", np.array([index for index, _ in plan])),
    ):
        with atomic_path(folder / f"{name}.npy") as temporary, temporary.open("wb") as handle:
            np.save(handle, array)
    with atomic_path(folder / "done.json") as temporary:
        temporary.write_text(json.dumps({"rows": len(plan)}))


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


def load_references(work: Path) -> ReferenceTable:
    """Open what :func:`encode_references` wrote, standardised as the encoder then does it."""
    folder = work / "references"
    statistics = torch.load(fit_statistics(work), map_location="cpu", weights_only=True)
    mean, std = (statistics[name].numpy() for name in ("patch_mean", "patch_std"))
    patches = np.load(folder / "patch_embeds.npy")
    images = np.empty((len(patches), 2 * patches.shape[-1]), np.float32)
    for start in range(0, len(patches), 256):
        rows = slice(start, start + 256)
        standardised = (patches[rows].astype(np.float32) - mean) / std
        patches[rows] = standardised
        images[rows] = np.concatenate([standardised.mean(1), standardised.std(1)], axis=-1)
    cutout = np.load(folder / "cutout.npy")
    rows: dict[int, list[int]] = {}
    for row, index in enumerate(cutout.tolist()):
        rows.setdefault(index, []).append(row)
    return ReferenceTable(
        patch_embeds=patches,
        image_embeds=images,
        cutout=cutout,
        rows=rows,
    )


def _batches(plan: list[tuple[int, int]], size: int) -> Iterator[list[tuple[int, int]]]:
    """Consecutive batches of one variant each."""
    start = 0
    while start < len(plan):
        variant = plan[start][1]
        batch = [row for row in plan[start : start + size] if row[1] == variant]
        yield batch
        start += len(batch)
