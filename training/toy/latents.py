"""Latents, boxes and masks of all training composites, computed once.

# Shapes: M samples, N subject slots, c latent channels, h x w latents (16x16).
"""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm

from ..runs import atomic_path
from .block_pca import BlockBasis
from .data.shards import Sample, read_shards

LATENT_SIZE = 16


@dataclass(frozen=True, kw_only=True)
class CompositeTable:
    """All training composites, ready for the diffusion stage.

    Attributes:
        latents: (M, c, h, w) float16. boxes_xyxy: (M, N, 4) float32 in 0..1.
        segmaps: (M, N, h, w) uint8, 255 = the cell lies wholly on the visible subject.
        cutout: (M, N) int32, the cut-out pasted in, -1 = empty slot.
        captions, labels: text of each sample, labels of its subjects in slot order.
    """

    latents: np.ndarray
    boxes_xyxy: np.ndarray
    segmaps: np.ndarray
    cutout: np.ndarray
    captions: list[str]
    labels: list[list[str]]


def sample_rows(sample: Sample, num_subjects: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Boxes (N, 4), segmaps (N, h, w) and cut-outs (N,) of one sample, padded to N slots."""
    boxes = np.zeros((num_subjects, 4), np.float32)
    segmaps = np.zeros((num_subjects, LATENT_SIZE, LATENT_SIZE), np.uint8)
    cutout = np.full(num_subjects, -1, np.int32)
    for slot, entity in enumerate(sample.entities[:num_subjects]):
        boxes[slot], cutout[slot] = entity.box_xyxy, entity.cutout
        mask = torch.from_numpy(np.asarray(entity.mask, np.float32))[None]
        coverage = F.adaptive_avg_pool2d(mask, LATENT_SIZE)[0]
        segmaps[slot] = (coverage * 255).round().numpy().astype(np.uint8)
    return boxes, segmaps, cutout


def encode_composites(
    work: Path,
    shards: Path,
    name: str,
    basis: BlockBasis,
    num_subjects: int,
    num_composites: int,
) -> None:
    """Write the :class:`CompositeTable` of the first ``num_composites`` samples."""
    folder = work / name
    if (folder / "texts.json").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    first = itertools.islice(read_shards(shards), num_composites)
    samples = tqdm(first, total=num_composites, desc="latents", unit=" images")
    latents, rows, texts = [], [], []
    while batch := list(itertools.islice(samples, 64)):
        images = np.stack([sample.image for sample in batch])
        latents.append(basis.encode(images).to(torch.float16).contiguous().numpy())
        rows += [sample_rows(sample, num_subjects) for sample in batch]
        texts += [(sample.caption, [e.label for e in sample.entities]) for sample in batch]
    boxes, segmaps, cutout = (np.stack(column) for column in zip(*rows, strict=True))
    arrays = {
        "latents": np.concatenate(latents),
        "boxes": boxes,
        "segmaps": segmaps,
        "cutout": cutout,
    }
    for key, array in arrays.items():
        with atomic_path(folder / f"{key}.npy") as temporary, temporary.open("wb") as handle:
            np.save(handle, array)
    with atomic_path(folder / "texts.json") as temporary:
        temporary.write_text(json.dumps(texts))


def load_composites(folder: Path) -> CompositeTable:
    """Open what :func:`encode_composites` wrote."""
    texts = json.loads((folder / "texts.json").read_text())
    return CompositeTable(
        latents=np.load(folder / "latents.npy"),
        boxes_xyxy=np.load(folder / "boxes.npy"),
        segmaps=np.load(folder / "segmaps.npy"),
        cutout=np.load(folder / "cutout.npy"),
        captions=[caption for caption, _ in texts],
        labels=[labels for _, labels in texts],
    )
