# Shapes: H, W size of the picture in pixels.
"""Box Mask: where a picture may change when subjects are put into it."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from comfy_api.latest import io

from ..host.comfy_types import SubjectsType
from ..host.node_warnings import show_warnings
from .boxes import Box
from .subject import Subjects, layout_size_of, require_relative_boxes
from .subject_warnings import mask_size_warnings

ROUNDING = 1e-6  # of a pixel: 0.3 * 10 must not become 4 columns


class SubjectDiffusionBoxMask(io.ComfyNode):
    """Subjects with boxes and a picture size -> MASK for Set Latent Noise Mask."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SubjectDiffusionBoxMask",
            display_name="Subject-Diffusion Box Mask",
            category="Subject-Diffusion",
            description="The subjects' boxes as a mask, 1 where the picture may change. With Set "
            "Latent Noise Mask it puts subjects into a photo and leaves the rest alone.",
            inputs=[
                SubjectsType.Input("subjects", tooltip="From Subject or Layout nodes, with boxes."),
                io.Int.Input(
                    "width",
                    default=512,
                    min=16,
                    max=16384,
                    step=8,
                    tooltip="Width of the photo in pixels.",
                ),
                io.Int.Input(
                    "height",
                    default=512,
                    min=16,
                    max=16384,
                    step=8,
                    tooltip="Height of the photo in pixels.",
                ),
                io.Int.Input(
                    "grow",
                    default=8,
                    min=0,
                    max=1024,
                    tooltip="Room around every box, in pixels: for shadows and for the transition.",
                ),
                io.Int.Input(
                    "feather",
                    default=8,
                    min=0,
                    max=1024,
                    tooltip="Width of the soft edge around the grown boxes, in pixels.",
                ),
            ],
            outputs=[
                io.Mask.Output(
                    display_name="mask", tooltip="1 where the picture may change, 0 elsewhere."
                )
            ],
        )

    @classmethod
    def execute(
        cls, subjects: Subjects, width: int, height: int, grow: int, feather: int
    ) -> io.NodeOutput:
        subjects = tuple(
            replace(subject, box=subject.box.to_relative(width, height, subject.name))
            if subject.box is not None
            else subject
            for subject in subjects
            if subject.is_active
        )
        boxes = require_relative_boxes(subjects)
        show_warnings(mask_size_warnings(layout_size_of(subjects), width, height))
        return io.NodeOutput(boxes_to_change_mask(boxes, width, height, grow, feather)[None])


def boxes_to_change_mask(
    boxes: list[Box], width: int, height: int, grow: int, feather: int
) -> torch.Tensor:
    """(H, W) in 0..1: 1 in the grown boxes, falling to 0 within `feather` pixels around them.

    Several boxes unite by maximum; without boxes nothing may change.

    Args:
        boxes: in fractions of the picture. A pixel that a box only touches belongs to it.
        grow, feather: in pixels.
    """
    mask = torch.zeros(height, width)
    for box in boxes:
        columns = _pixels_outside(box.x1, box.x2, width, grow)
        rows = _pixels_outside(box.y1, box.y2, height, grow)
        distance = torch.hypot(columns[None, :], rows[:, None])
        mask = torch.maximum(mask, (1.0 - distance / (feather + 1)).clamp(0.0, 1.0))
    return mask


def _pixels_outside(start: float, end: float, size: int, grow: int) -> torch.Tensor:
    """(size,) how many pixels away from an interval (in 0..1, grown) every pixel is; 0 inside."""
    first = math.floor(start * size + ROUNDING) - grow
    last = math.ceil(end * size - ROUNDING) + grow - 1
    pixels = torch.arange(size, dtype=torch.float32)
    return torch.maximum(first - pixels, pixels - last).clamp(min=0.0)
