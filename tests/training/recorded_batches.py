"""Thirty batches, noises, timesteps and the first weights of a small model, from NumPy's numbers.

The losses that the loop before this one computed from them are in ``recorded_losses.json``; every
name here is one of the training model's and of a micro-batch's.
# Shapes: B batch, N subject slots, L text tokens (77), P patch tokens, c latent channels, h x w.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from subject_diffusion_core.area_resize import area_resize
from subject_diffusion_core.location_mask import boxes_to_location_mask

LOSSES = Path(__file__).with_name("recorded_losses.json")
NUM_STEPS, BATCH_SIZE, SIZE, CHANNELS = 30, 4, 16, 24
VOCABULARY_SIZE = 40
SEEDS = {"joint": 1, "adapter": 2}
CASES = ("full", "image", "text", "none", "base")


def recorded_losses(stage: str) -> dict[str, Any]:
    """mse, maps and norm of every step; average: mean size of some of the averages."""
    return dict(json.loads(LOSSES.read_text(encoding="utf-8"))[stage])


def map_loss_then(probs: Sequence[Tensor], segmaps: Tensor, valid: Tensor, kind: str) -> Tensor:
    """The balanced map loss as it was when the losses were recorded: areas of segmentations, and
    subjects of the whole batch weigh the same, where the reference has the mean of each picture."""
    assert kind == "balanced_l1"
    losses = []
    for layer in probs:  # (B, H, Q, N)
        side = int(layer.shape[2] ** 0.5)
        region = area_resize(segmaps, side, side).flatten(2).transpose(1, 2)[:, None]
        on, off = ((layer * r).sum(2) / r.sum(2).clamp(min=1e-6) for r in (region, 1 - region))
        losses.append((off - on).mean(1)[valid].sum() / valid.sum().clamp(min=1))
    return torch.stack(losses).mean()


def uniform(rng: np.random.Generator, *shape: int) -> Tensor:
    """(shape) in 0..1."""
    return torch.from_numpy(rng.random(shape).astype(np.float32))


def normal(rng: np.random.Generator, *shape: int) -> Tensor:
    """(shape), standard normal."""
    return torch.from_numpy(rng.standard_normal(shape).astype(np.float32))


@torch.no_grad()
def set_numbered_weights(model: nn.Module) -> None:
    """Fill every parameter by its name."""
    for name, parameter in model.named_parameters():
        values = normal(np.random.default_rng(zlib.crc32(name.encode())), *parameter.shape)
        if parameter.ndim > 1:
            values /= parameter[0].numel() ** 0.5
            values *= (
                5 if name.endswith("attn2.to_q.weight") else 1
            )  # attention that looks somewhere
        elif name.endswith("weight"):
            values = 1 + 0.1 * values
        elif ".alpha_" in name:
            values = 0.5 + 0.1 * values
        else:
            values *= 0.1
        parameter.copy_(values)


def recorded_batch(stage: str, step: int, patches: tuple[int, int]) -> dict[str, Tensor]:
    """The tensors of a micro-batch; ``patches``: P and their width. Two slots, at times four.

    In the joint stage some samples are the base model's alone: adapter_scale 0, no subjects.
    """
    rng = np.random.default_rng((SEEDS[stage], step))
    slots = 4 if step % 5 == 4 else 2
    size = (BATCH_SIZE, slots)
    cases = rng.choice(CASES[: 5 if stage == "joint" else 4], BATCH_SIZE)
    present = torch.from_numpy(np.arange(slots) < rng.integers(1, slots + 1, (BATCH_SIZE, 1)))
    has_image = torch.tensor([case in ("full", "image") for case in cases])[:, None]
    templated = torch.tensor([case == "full" for case in cases])[:, None]
    corners = uniform(rng, *size, 2) * 0.5
    boxes = torch.cat([corners, corners + 0.2 + 0.3 * uniform(rng, *size, 2)], -1)
    places = torch.from_numpy(rng.permuted(np.tile(np.arange(1, 40), (BATCH_SIZE, 1)), axis=1))
    positions = places[:, : 2 * slots].clone()
    valid = present & has_image
    flat = boxes.reshape(-1, 1, 4)
    masks = boxes_to_location_mask(flat, flat[..., 0] >= 0, SIZE, SIZE).reshape(*size, SIZE, SIZE)
    return {
        "latents": normal(rng, BATCH_SIZE, CHANNELS, SIZE, SIZE),
        "token_ids": torch.from_numpy(rng.integers(0, VOCABULARY_SIZE, (BATCH_SIZE, 77))),
        "placeholder_positions": positions[:, :slots],
        "label_positions": positions[:, slots:],
        "text_valid": present & templated,
        "map_valid": present & templated,
        "subject_valid": valid,
        "subject_boxes_xyxy": boxes,
        "subject_segmaps": masks * (0.5 + 0.5 * uniform(rng, *size, SIZE, SIZE)),
        "location_mask": boxes_to_location_mask(boxes, valid, SIZE, SIZE),
        "patch_embeds": normal(rng, *size, *patches),
        "image_embeds": normal(rng, *size, 2 * patches[1]),
        "adapter_scale": torch.tensor([float(case != "base") for case in cases]),
    }


def recorded_noise(stage: str, step: int) -> tuple[Tensor, Tensor]:
    """Noise (B, c, h, w) and timesteps (B,) of a step."""
    rng = np.random.default_rng((SEEDS[stage], 1000, step))
    noise = normal(rng, BATCH_SIZE, CHANNELS, SIZE, SIZE)
    return noise, torch.from_numpy(rng.integers(0, 1000, BATCH_SIZE))
