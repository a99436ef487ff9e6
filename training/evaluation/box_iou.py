"""Did the subject land in its box? A small segmenter finds it, its box is compared with the asked.

# Shapes: B batch, H picture side (128), Q queries, N subjects of a query.
The segmenter is trained on composites that no other model sees (train subjects in held-out scenes)
and judged on real composites of held-out subjects: that bound is reported beside every IoU.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor, nn

from ..runs import cosine_learning_rate, load_state, save_state
from ..toy.data.compose import box_iou
from ..toy.data.shards import read_shards
from ..toy.data.split import assert_split, identities_sha256
from .queries import Box

WIDTHS = (16, 32, 48, 64)
NUM_SAMPLES = 2000
STEPS = 500
BATCH_SIZE = 24
LEARNING_RATE = 3e-3
SEED = 5
SEARCH_REACH = 0.3  # how far beyond the asked box a subject is looked for, in box sides
MIN_COMPONENT = 0.02  # smaller regions, as a share of the asked box, are noise


def conv_block(in_channels: int, out_channels: int, stride: int = 1) -> nn.Sequential:
    """3x3 convolution, batch norm, ReLU."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


class SubjectSegmenter(nn.Module):
    """A small U-shaped net: is this pixel a subject's? At half the picture's resolution."""

    def __init__(self, widths: Sequence[int] = WIDTHS) -> None:
        super().__init__()
        inputs = (3, *widths[:-1])
        self.down = nn.ModuleList(
            nn.Sequential(conv_block(i, o, stride=2), conv_block(o, o))
            for i, o in zip(inputs, widths, strict=True)
        )
        pairs = itertools.pairwise(reversed(widths))
        self.up = nn.ModuleList(conv_block(deep + skip, skip) for deep, skip in pairs)
        self.head = nn.Conv2d(widths[0], 1, 1)

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits (B, 1, H/2, H/2) of ``pixels`` (B, 3, H, H) in 0..1."""
        hidden, skips = pixels * 2 - 1, []
        for block in self.down:
            hidden = block(hidden)
            skips.append(hidden)
        for block, skip in zip(self.up, reversed(skips[:-1]), strict=True):
            hidden = F.interpolate(hidden, scale_factor=2.0, mode="nearest")
            hidden = block(torch.cat([hidden, skip], dim=1))
        logits: Tensor = self.head(hidden)
        return logits

    @torch.no_grad()
    def masks(self, pictures: np.ndarray, batch_size: int = 32) -> np.ndarray:
        """Subject masks (Q, H, H) bool of pictures (Q, H, H, 3) uint8."""
        found = []
        for start in range(0, len(pictures), batch_size):
            batch = torch.from_numpy(pictures[start : start + batch_size]).permute(0, 3, 1, 2)
            logits = self(batch.float() / 255)
            full = F.interpolate(logits, scale_factor=2.0, mode="bilinear", align_corners=False)
            found.append((full[:, 0] > 0).numpy())
        return np.concatenate(found)


def load_pairs(shards: Path, num_samples: int) -> tuple[Tensor, Tensor]:
    """Pictures (M, 3, H, H) uint8 and the union of their subjects' masks (M, 1, H, H) uint8."""
    samples = list(itertools.islice(read_shards(shards), num_samples))
    assert_split({e.identity for sample in samples for e in sample.entities}, "train")
    images = np.stack([sample.pixels for sample in samples])
    masks = np.stack([np.any([e.mask for e in sample.entities], axis=0) for sample in samples])
    return torch.from_numpy(images).permute(0, 3, 1, 2), torch.from_numpy(masks)[:, None].byte()


def soften(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Half of the pictures (B, 3, H, H) lose their fine detail, as generated ones do."""
    blurred = F.interpolate(F.avg_pool2d(pixels, 2), scale_factor=2.0, mode="bilinear")
    chosen = torch.rand(len(pixels), 1, 1, 1, generator=generator) < 0.5
    return torch.where(chosen, blurred, pixels)


def train_segmenter(shards: Path, steps: int = STEPS) -> SubjectSegmenter:
    """Train on the composites in ``shards``; a function of the seed."""
    torch.manual_seed(SEED)
    generator = torch.Generator().manual_seed(SEED)
    model = SubjectSegmenter()
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)
    images, masks = load_pairs(shards, NUM_SAMPLES)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = cosine_learning_rate(step, steps, LEARNING_RATE, 20)
        rows = torch.randint(len(images), (BATCH_SIZE,), generator=generator)
        pixels, target = images[rows].float() / 255, masks[rows].float()
        if step % 2:
            pixels, target = pixels.flip(-1), target.flip(-1)
        logits = model(soften(pixels, generator).to(memory_format=torch.channels_last))
        loss = F.binary_cross_entropy_with_logits(logits, F.avg_pool2d(target, 2))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval().requires_grad_(False)


def segmenter_path(work: Path) -> Path:
    """Where the segmenter of these settings is kept."""
    settings = (WIDTHS, NUM_SAMPLES, STEPS, BATCH_SIZE, LEARNING_RATE, SEED, identities_sha256())
    name = hashlib.sha256(repr(settings).encode()).hexdigest()[:12]
    return work / "evaluation" / f"segmenter-{name}.pt"


def load_segmenter(work: Path, shards_name: str = "composites-val") -> SubjectSegmenter:
    """The segmenter kept below ``work``/evaluation; trained where there is none yet."""
    path = segmenter_path(work)
    state = load_state(path)
    if state is None:
        model = train_segmenter(work / shards_name)
        path.parent.mkdir(parents=True, exist_ok=True)
        save_state(path, model.state_dict())
        return model
    model = SubjectSegmenter()
    model.load_state_dict(state)
    return model.eval().requires_grad_(False)


def found_box(mask: np.ndarray, asked_px: Box) -> Box | None:
    """The box of what was found near the asked box; None where nothing was.

    Regions count whose centre lies inside the asked box; what lies beyond the search window (the
    box and 30 % of its sides around it) is cut off, so that a neighbour does not join in.

    Args:
        mask: (H, H) bool.
        asked_px: pixel box x1 y1 x2 y2.
    """
    x1, y1, x2, y2 = asked_px
    reach_x, reach_y = round((x2 - x1) * SEARCH_REACH), round((y2 - y1) * SEARCH_REACH)
    window = np.zeros_like(mask)
    rows = slice(max(y1 - reach_y, 0), y2 + reach_y)
    columns = slice(max(x1 - reach_x, 0), x2 + reach_x)
    window[rows, columns] = mask[rows, columns]
    regions, count = ndimage.label(window, structure=np.ones((3, 3)))
    smallest = MIN_COMPONENT * (x2 - x1) * (y2 - y1)
    kept = np.zeros_like(mask)
    for index in range(1, count + 1):
        region = regions == index
        center_y, center_x = ndimage.center_of_mass(region)
        if x1 <= center_x < x2 and y1 <= center_y < y2 and region.sum() >= smallest:
            kept |= region
    if not kept.any():
        return None
    found_rows, found_columns = np.flatnonzero(kept.any(1)), np.flatnonzero(kept.any(0))
    left, top = int(found_columns[0]), int(found_rows[0])
    return left, top, int(found_columns[-1]) + 1, int(found_rows[-1]) + 1


def row_ious(
    segmenter: SubjectSegmenter, pictures: np.ndarray, boxes_px: Sequence[Sequence[Box]]
) -> np.ndarray:
    """IoU (Q, N) of what was found and the given pixel boxes, 0 where nothing was found."""
    ious = []
    for mask, boxes in zip(segmenter.masks(pictures), boxes_px, strict=True):
        found = [found_box(mask, box) for box in boxes]
        pairs = zip(found, boxes, strict=True)
        ious.append([box_iou(own, box) if own is not None else 0.0 for own, box in pairs])
    return np.array(ious)
