# Shapes: B pictures, H, W their size in pixels.
"""Segment: a subject's mask from a box or points in its picture."""

from __future__ import annotations

import comfy.model_management
import comfy.utils
import torch
from comfy_api.latest import io

from ..host.comfy_types import SegmenterType
from .mask_cleaning import cleaned, cut_out_on_white
from .places_in_picture import box_in_pixels, points_in_pixels
from .sam_model import Segmenter


class SubjectDiffusionSegment(io.ComfyNode):
    """Pictures, a segmenter, a box or points -> masks and cut-outs on white."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SubjectDiffusionSegment",
            display_name="Subject-Diffusion Segment",
            category="Subject-Diffusion",
            description="Cuts a subject out of its picture with segment-anything: give a box "
            "around it, points on it, or both. Cut Out does it without a file.",
            inputs=[
                io.Image.Input("image", tooltip="One picture, or several of the same layout."),
                SegmenterType.Input("segmenter", tooltip="From Segment Loader."),
                io.String.Input(
                    "box",
                    default="",
                    tooltip="Around the subject in its own picture: x1,y1,x2,y2 in 0..1, or pixels "
                    'as {"x": 16, "y": 32, "width": 64, "height": 64}.',
                ),
                io.String.Input(
                    "points",
                    default="",
                    tooltip="On the subject: x,y in 0..1; several with ; between. A third number 0 "
                    "marks a point that is not on it.",
                ),
                io.Boolean.Input(
                    "largest_component",
                    default=True,
                    tooltip="Keep the largest connected piece only.",
                ),
                io.Boolean.Input(
                    "fill_holes", default=True, tooltip="Fill what the mask encloses."
                ),
            ],
            outputs=[
                io.Mask.Output(display_name="mask", tooltip="1 = subject, for Subject's mask."),
                io.Image.Output(display_name="cut_out", tooltip="The subject on white."),
            ],
        )

    @classmethod
    def execute(
        cls,
        image: torch.Tensor,
        segmenter: Segmenter,
        box: str,
        points: str,
        largest_component: bool,
        fill_holes: bool,
    ) -> io.NodeOutput:
        height, width = image.shape[1:3]
        segmenter.require_size(width, height)
        box_pixels = box_in_pixels(box, width, height)
        point_pixels = points_in_pixels(points, width, height)
        if box_pixels is None and point_pixels is None:
            raise ValueError(
                "box: expected a box or points that say which thing to cut out, got neither. Write "
                "a box around it in `box`, or a place on it in `points`, for example 0.5,0.5."
            )
        progress = comfy.utils.ProgressBar(len(image))
        masks = []
        for number, picture in enumerate(image[..., :3], start=1):
            comfy.model_management.throw_exception_if_processing_interrupted()
            mask = segmenter.segment(picture, box_pixels, point_pixels)
            masks.append(cleaned(mask, largest_component, fill_holes))
            if not bool(mask.any()):
                raise ValueError(
                    f"box: expected a place where something is, got an empty mask for picture "
                    f"{number}. Move the box or the points."
                )
            progress.update(1)
        mask = torch.stack(masks).float()
        return io.NodeOutput(mask, cut_out_on_white(image[..., :3].float().cpu(), mask))
