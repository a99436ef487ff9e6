# Shapes: B batch, N subject slots, H, W size of a given mask, h, w size of the latent.
"""The location mask: one more input channel of the UNet that says where the subjects are."""

from __future__ import annotations

from typing import Literal

import torch

from .area_resize import WHOLE, area_resize, interval_coverage
from .errors import require_shape

MaskPolarity = Literal["inside", "outside"]
MASK_POLARITIES = ("inside", "outside")


def boxes_to_location_mask(
    subject_boxes_xyxy: torch.Tensor,
    subject_valid: torch.Tensor,
    height: int,
    width: int,
    polarity: MaskPolarity = "inside",
) -> torch.Tensor:
    """Draw the subjects' boxes: every latent cell holds the exact share of it that a box covers.

    Args:
        subject_boxes_xyxy: (B, N, 4) in 0..1 of the generated image; parts outside are cut off.
        subject_valid: (B, N) bool.
        height, width: h and w of the latent.
        polarity: "inside" is 1 inside a box (several by maximum); "outside" is the reference's
            opposite, 1 outside every box (several multiplied). In both, a sample without subjects
            is all zeros.

    Returns:
        (B, 1, h, w) in 0..1, in the dtype of the boxes.

    >>> boxes, valid = torch.tensor([[[0.0, 0.0, 0.75, 1.0]]]), torch.tensor([[True]])
    >>> boxes_to_location_mask(boxes, valid, height=1, width=2)
    tensor([[[[1.0000, 0.5000]]]])
    """
    coverage = box_coverage(subject_boxes_xyxy, height, width)
    return unite_subjects(coverage, subject_valid, polarity)


def masks_to_location_mask(
    subject_masks: torch.Tensor,
    subject_valid: torch.Tensor,
    height: int,
    width: int,
    polarity: MaskPolarity = "inside",
) -> torch.Tensor:
    """Shrink the subjects' segmentations to the latent by area averages and unite them.

    Args:
        subject_masks: (B, N, H, W) in 0..1, 1 = subject, in the frame of the generated image.
        subject_valid, height, width, polarity: see `boxes_to_location_mask`.

    Returns:
        (B, 1, h, w) in 0..1, in the dtype of the masks.
    """
    require_shape("subject_masks", subject_masks, ("B", "N", "H", "W"), "Pass one mask a slot")
    coverage = area_resize(subject_masks, height, width).clamp(0, 1)
    return unite_subjects(coverage, subject_valid, polarity)


def box_coverage(subject_boxes_xyxy: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """(B, N, 4) boxes in 0..1 -> (B, N, h, w), the exact share of each cell that a box covers."""
    require_shape("subject_boxes_xyxy", subject_boxes_xyxy, ("B", "N", 4), "Pass one box a slot")
    x1, y1, x2, y2 = subject_boxes_xyxy.unbind(-1)
    rows = interval_coverage(y1, y2, height)
    columns = interval_coverage(x1, x2, width)
    return rows.unsqueeze(-1) * columns.unsqueeze(-2)


def mask_in_box_coverage(
    mask: torch.Tensor,
    box_xyxy: torch.Tensor,
    height: int,
    width: int,
    frame: tuple[float, float, float, float] = WHOLE,
) -> torch.Tensor:
    """Lay a subject's own segmentation into its box: every cell holds the exact share of it that
    the subject covers.

    The mask fills the box, whatever its proportions: boxes of training are the bounding boxes of
    their segmentations. A mask of ones gives `box_coverage`.

    Args:
        mask: (H, W) in 0..1, 1 = subject, cropped to the subject's bounding box.
        box_xyxy: (4,) in 0..1 of the generated image; parts outside are cut off.
        height, width: h and w of the latent.
        frame: x1, y1, x2, y2 in 0..1 of the generated image, the part that the latent shows.

    Returns:
        (h, w) in 0..1, in the dtype of the mask; zeros outside of the box.

    >>> mask = torch.tensor([[1.0, 0.0]])
    >>> mask_in_box_coverage(mask, torch.tensor([0.5, 0.0, 1.0, 1.0]), height=1, width=4)
    tensor([[0., 0., 1., 0.]])
    """
    require_shape("mask", mask, ("H", "W"), "Pass one subject's mask")
    require_shape("box_xyxy", box_xyxy, (4,), "Pass the box of the same subject")
    x1, y1, x2, y2 = box_xyxy.tolist()
    if x2 <= x1 or y2 <= y1:
        return mask.new_zeros(height, width)
    left, top, right, bottom = frame
    frame_of_mask = (
        (left - x1) / (x2 - x1), (top - y1) / (y2 - y1),
        (right - x1) / (x2 - x1), (bottom - y1) / (y2 - y1),
    )  # fmt: skip
    return area_resize(mask, height, width, frame_of_mask).clamp(0, 1)


def unite_subjects(
    coverage: torch.Tensor, subject_valid: torch.Tensor, polarity: MaskPolarity
) -> torch.Tensor:
    """(B, N, h, w) share of each cell that a subject covers -> (B, 1, h, w), the location mask.

    `subject_valid` and `polarity` as for `boxes_to_location_mask`.
    """
    if polarity not in MASK_POLARITIES:
        raise ValueError(
            f"polarity: expected one of {', '.join(MASK_POLARITIES)}, got {polarity!r}. "
            "Use the checkpoint's mask_polarity."
        )
    expected = tuple(coverage.shape[:2])
    require_shape("subject_valid", subject_valid, expected, "Pass one flag per subject slot")
    valid = subject_valid.bool()[:, :, None, None]
    # torch.where, not a product: an empty slot may hold anything, even NaN
    covered = torch.where(valid, coverage, torch.zeros_like(coverage))
    if polarity == "inside":
        return covered.amax(dim=1, keepdim=True)
    any_valid = valid.any(dim=1, keepdim=True)
    outside = (1 - covered).prod(dim=1, keepdim=True)
    return torch.where(any_valid, outside, torch.zeros_like(outside))
