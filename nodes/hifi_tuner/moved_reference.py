# Shapes: H, W size of the generated picture in pixels, h, w size of its latent.
"""A subject's picture, moved to where the subject stands in the generated picture."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional as F

from ...subject_diffusion_core.area_resize import area_resize
from ...subject_diffusion_core.hifi_tuner import fit_similarity, latent_mask
from ...subject_diffusion_core.hifi_tuner.similarity import Algorithm
from ..subjects.reference_picture import prepare_picture
from ..subjects.subject import Subject
from ..subjects.subject_warnings import LARGEST_STRETCH


@dataclass(frozen=True, kw_only=True, eq=False)
class MovedReference:
    """T(I_r) and T(M_r) of HiFi Tuner: picture (H, W, 3) and mask (H, W), both in 0..1."""

    image: torch.Tensor
    mask: torch.Tensor


def move_reference(
    image: torch.Tensor,
    mask: torch.Tensor,
    target: torch.Tensor,
    algorithm: Algorithm,
    max_angle: float,
) -> MovedReference:
    """Cut the picture to its subject, and move it onto the target.

    Args:
        image: (H', W', 3) in 0..1.
        mask: (H', W'), 1 = subject.
        target: (H, W), 1 = where the subject stands in the generated picture.
        max_angle: of the rotation, in degrees.
    """
    height, width = target.shape
    image, cut_mask = prepare_picture(image.float().cpu(), mask, max(height, width), 1)
    assert cut_mask is not None
    image, cut_mask = _onto_canvas(image, cut_mask, height, width)
    transform = fit_similarity(cut_mask, target, algorithm, math.radians(max_angle))
    moved = transform.apply(image.movedim(-1, 0)[None])[0].movedim(0, -1)
    moved_mask = transform.apply(cut_mask[None, None], "zeros")[0, 0]
    return MovedReference(image=moved.clamp(0, 1), mask=moved_mask.clamp(0, 1))


def target_mask(mask: torch.Tensor | None, subject: Subject, height: int, width: int) -> Any:
    """M_g, (H, W): the given mask, else the subject's region, else its box."""
    if mask is not None:
        return area_resize(single_mask(mask, "mask").float().cpu(), height, width)
    if subject.region is not None:
        return area_resize(subject.region, height, width)
    if subject.box is None or subject.box.unit != "relative":
        raise ValueError(
            f"mask: expected where {subject.name} stands in the generated picture, got no mask, "
            "and no region or box of the subject in fractions of the picture. Connect a mask, for "
            "example of Segment on a first picture from the same noise."
        )
    x1, y1, x2, y2 = subject.box.edges
    area = torch.zeros(height, width)
    area[round(y1 * height) : round(y2 * height), round(x1 * width) : round(x2 * width)] = 1.0
    return area


def stretch_warnings(mask: torch.Tensor, height: int, width: int) -> list[str]:
    """A mask (1, H, W) of other proportions than the picture, of this size, that it is laid over.

    >>> stretch_warnings(torch.ones(1, 128, 128), 512, 512)
    []
    """
    rows, columns = mask.shape[1:]
    if 1 / LARGEST_STRETCH < (columns / rows) / (width / height) < LARGEST_STRETCH:
        return []
    return [
        f"mask: it is {columns}x{rows} and will be stretched to the picture's {width}x{height}. "
        "Connect one in the proportions of the picture."
    ]


def reference_cells(mask: torch.Tensor, latent: torch.Tensor) -> torch.Tensor:
    """M_r* at the latent's size: (h, w) bool."""
    return latent_mask(mask, *latent.shape[-2:])


def _onto_canvas(
    image: torch.Tensor, mask: torch.Tensor, height: int, width: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Fit into H x W without changing its shape; the border is repeated around it."""
    scale = min(height / image.shape[0], width / image.shape[1])
    rows = min(height, max(1, round(image.shape[0] * scale)))
    columns = min(width, max(1, round(image.shape[1] * scale)))
    both = torch.cat((image, mask[..., None]), dim=-1).movedim(-1, 0)[None]
    fitted = F.interpolate(both, (rows, columns), mode="bilinear", antialias=True)
    top, left = (height - rows) // 2, (width - columns) // 2
    around = (left, width - columns - left, top, height - rows - top)
    picture = F.pad(fitted[:, :3], around, mode="replicate")[0].movedim(0, -1)
    return picture, F.pad(fitted[0, 3], around)


def single_mask(mask: torch.Tensor, argument: str) -> torch.Tensor:
    """(H, W) of a MASK that holds one."""
    if len(mask) != 1:
        raise ValueError(
            f"{argument}: expected one mask of the generated picture, got {len(mask)}. Pick one."
        )
    return mask[0]
