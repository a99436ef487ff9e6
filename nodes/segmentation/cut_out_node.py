# Shapes: B pictures, H, W their size in pixels, h, w that of a picture reduced, K points.
"""Cut Out: a subject's mask by its colours, without any file."""

from __future__ import annotations

import comfy.model_management
import comfy.utils
import numpy as np
import torch
import torch.nn.functional as F
from comfy_api.latest import io

from ..host.node_warnings import show_warnings
from ..host.search_words import search_words
from .grab_cut import grab_cut
from .mask_cleaning import cleaned, cut_out_on_white, pieces_at
from .places_in_picture import box_in_pixels, points_in_pixels

LARGEST_SIDE = 256  # in pixels: the image encoders see 224
MARGIN = 0.03  # of the longer side, where nothing else is said: there is no subject at the edges
DOT = 0.02  # radius of a point, of the longer side
LEAST_ROOM, MOST_FOUND = 0.01, 0.98  # shares of the picture


class SubjectDiffusionCutOut(io.ComfyNode):
    """Pictures, a box or points or nothing -> masks and cut-outs on white."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SubjectDiffusionCutOut",
            display_name="Subject-Diffusion Cut Out",
            category="Subject-Diffusion",
            description="Cuts a subject out of its picture by its colours (GrabCut), without any "
            "model file. A box around it helps, and points on it and beside it.",
            **search_words("remove background", "grabcut", "mask", "segment"),
            inputs=[
                io.Image.Input("image", tooltip="One picture, or several of the same layout."),
                io.String.Input(
                    "box",
                    default="",
                    tooltip="Around the subject in its own picture, with a little room: "
                    "x1,y1,x2,y2 in 0..1. Empty: anywhere but at the picture's edges.",
                ),
                io.String.Input(
                    "points",
                    default="",
                    tooltip="On the subject where something is missing: x,y in 0..1; several with "
                    "; between. A third number 0 marks what is not the subject.",
                ),
                io.Boolean.Input(
                    "largest_component",
                    default=True,
                    tooltip="Keep the largest connected piece only; with points on the subject, "
                    "the pieces that they are on.",
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
        box: str,
        points: str,
        largest_component: bool,
        fill_holes: bool,
    ) -> io.NodeOutput:
        pictures = image[..., :3].float().cpu()
        progress = comfy.utils.ProgressBar(len(pictures))
        masks = []
        for number, picture in enumerate(pictures, start=1):
            comfy.model_management.throw_exception_if_processing_interrupted()
            found, subject = _find(picture, box, points)
            if largest_component and bool(subject.any()):
                found = pieces_at(found, subject)
            mask = cleaned(found, largest_component and not bool(subject.any()), fill_holes)
            _check(mask, number)
            masks.append(enlarged(mask, (picture.shape[0], picture.shape[1])))
            progress.update(1)
        mask = torch.stack(masks)
        return io.NodeOutput(mask, cut_out_on_white(pictures, mask))


def reduced(picture: torch.Tensor) -> torch.Tensor:
    """(H, W, 3) -> (h, w, 3), the longer side at most `LARGEST_SIDE`."""
    scale = LARGEST_SIDE / max(picture.shape[:2])
    if scale >= 1.0:
        return picture
    size = [max(1, round(scale * side)) for side in picture.shape[:2]]
    channels = picture.movedim(-1, 0)[None]
    small = F.interpolate(channels, size, mode="bilinear", antialias=True, align_corners=False)
    return small[0].movedim(0, -1)


def enlarged(mask: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """(h, w) bool -> (H, W) in 0..1, with soft edges where it grows."""
    if tuple(mask.shape) == size:
        return mask.float()
    grown = F.interpolate(mask[None, None].float(), size, mode="bilinear", align_corners=False)
    return grown[0, 0]


def _find(picture: torch.Tensor, box: str, points: str) -> tuple[torch.Tensor, torch.Tensor]:
    """The subject in a picture (H, W, 3), reduced, and what is known of it: (h, w) bool."""
    whole_height, whole_width = picture.shape[:2]
    picture = reduced(picture)
    height, width = picture.shape[:2]
    scale = np.array([width / whole_width, height / whole_height])
    edges = box_in_pixels(box, whole_width, whole_height)
    maybe = _within(None if edges is None else edges * np.tile(scale, 2), height, width)
    if (~maybe).mean() < LEAST_ROOM:
        raise ValueError(
            "box: expected room around the subject that shows what it stands before, got a box of "
            "all of the picture. Leave a margin, or empty the box."
        )
    marked = points_in_pixels(points, width, height)  # fractions, whatever the size
    subject, rest = (_dots(marked, kind, height, width) for kind in (1.0, 0.0))
    found = grab_cut(picture.double().numpy(), maybe, subject, rest)
    return torch.from_numpy(found), torch.from_numpy(subject)


def _within(box: np.ndarray | None, height: int, width: int) -> np.ndarray:
    """(h, w) bool: inside a box in pixels, without one away from the edges."""
    inside = np.zeros((height, width), dtype=bool)
    if box is None:
        margin = max(1, round(MARGIN * max(height, width)))
        inside[margin : height - margin, margin : width - margin] = True
    else:
        x1, y1, x2, y2 = box
        inside[int(y1) : int(np.ceil(y2)), int(x1) : int(np.ceil(x2))] = True
    return inside


def _dots(points: np.ndarray | None, kind: float, height: int, width: int) -> np.ndarray:
    """(h, w) bool: near the points (K, 3) of one kind."""
    marks = np.zeros((height, width), dtype=bool)
    y, x = np.mgrid[:height, :width] + 0.5
    radius = max(1.0, DOT * max(height, width))
    for at_x, at_y, of_kind in [] if points is None else points:
        if of_kind == kind:
            marks |= np.hypot(x - at_x, y - at_y) <= radius
    return marks


def _check(mask: torch.Tensor, number: int) -> None:
    share = float(mask.float().mean())
    if share == 0.0:
        raise ValueError(
            f"image: expected a subject that differs from what is around it, got nothing in "
            f"picture {number}. Draw `box` closer, put `points` on it, or paint it in Load Image's "
            "Mask Editor."
        )
    if share > MOST_FOUND:
        show_warnings(
            [
                f"Picture {number}: nearly all of it was taken for the subject. Draw `box` closer, "
                "or mark what is beside it with points such as 0.1,0.1,0."
            ]
        )
