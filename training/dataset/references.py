"""The reference picture of a subject in training: cut out on white, sometimes turned and distorted.

# Shapes: H, W picture, S reference size.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from subject_diffusion_core.pictures import prepare_reference

from .bad_sample import BadSample

MIN_SUBJECT_PIXELS = 16


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Probabilities of a mirror image and of a perspective; turn by up to ``rotation`` degrees.

    ``corner_shift``: how far a perspective moves a corner at most, as a share of the side.
    """

    flip: float
    rotation: float
    perspective: float
    corner_shift: float = 0.25


def cut_out(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The subject's own rectangle (h, w, 4) uint8, alpha = mask, of (H, W, 3) and (H, W) bool."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if mask.sum() < MIN_SUBJECT_PIXELS:
        raise BadSample("empty mask")
    area = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    alpha = np.where(mask[area], 255, 0).astype(np.uint8)
    return np.dstack([image[area], alpha])


def homography(source: np.ndarray, target: np.ndarray) -> list[float]:
    """The 8 numbers of the projective map that takes ``source`` (4, 2) to ``target`` (4, 2)."""
    rows, wanted = [], []
    for (x, y), (u, v) in zip(source, target, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        wanted += [u, v]
    return [float(value) for value in np.linalg.solve(np.asarray(rows), np.asarray(wanted))]


def augment(rgba: np.ndarray, rng: np.random.Generator, options: Augmentation) -> np.ndarray:
    """Mirror, turn and distort a cut-out (h, w, 4) uint8; its canvas grows around it."""
    if rng.random() < options.flip:
        rgba = rgba[:, ::-1]
    height, width = rgba.shape[:2]
    margin = max(2, round(0.35 * max(height, width)))
    canvas = np.pad(rgba, ((margin, margin), (margin, margin), (0, 0)))
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], float) + margin
    center = corners.mean(0)
    angle = np.deg2rad(rng.uniform(-options.rotation, options.rotation))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    moved = (corners - center) @ turn.T + center
    if rng.random() < options.perspective:
        inward = np.sign(center - corners) * np.array([width, height])
        moved = moved + inward * rng.uniform(0, options.corner_shift, (4, 2))
    picture = Image.fromarray(np.ascontiguousarray(canvas)).convert("RGBa")
    warped = picture.transform(
        picture.size,
        Image.Transform.PERSPECTIVE,
        homography(moved, corners),
        Image.Resampling.BICUBIC,
    )
    return np.asarray(warped.convert("RGBA"))


def reference_picture(
    rgba: np.ndarray, size: int, rng: np.random.Generator | None, options: Augmentation
) -> Tensor:
    """(3, S, S) in 0..1 of a cut-out (h, w, 4) uint8: the subject on white as the image encoder
    gets it; rng None = plain."""
    if rng is not None:
        rgba = augment(rgba, rng, options)
    pixels = torch.from_numpy(np.array(rgba)).float() / 255
    try:
        return prepare_reference(pixels[..., :3], pixels[..., 3], size)
    except ValueError as error:
        raise BadSample("empty mask") from error
