"""Subjects in models and nodes that see a part of the picture: windows, tiles, cut-outs.

Where it is known which part, boxes are re-expressed in its frame; where it is not, the whole layout
lands in the part, and a sentence says so.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from comfy_execution.utils import get_executing_context

from .comfy_types import Options
from .node_warnings import show_warnings
from .sampling_run import BranchValue, Frame, SamplingRun

Size = tuple[int, int]


def frame_of_part(run: SamplingRun, size: Size, options: Options) -> Frame | None:
    """What the UNet sees of the picture; None for all of it, and where that is not known.

    Args:
        size: height and width of the UNet's input.
    """
    whole = run.latent_size
    if size == whole:
        return None
    frame = _window_frame(options.get("context_window"), whole, size)
    if frame is None:
        run.once("size of a part", lambda: show_warnings([_tile_warning(size, whole)]))
    return frame


def _window_frame(window: Any, whole: Size, size: Size) -> Frame | None:
    """Of a window of ComfyUI's *Context Windows* along height (dim 2) or width (dim 3)."""
    axis = getattr(window, "dim", None)
    if axis not in (2, 3):
        return None
    indices: Sequence[int] = window.index_list
    first, length = indices[0], len(indices)
    is_of_it = length == size[axis - 2] and size[3 - axis] == whole[3 - axis]
    if not is_of_it or list(indices) != list(range(first, first + length)):
        return None
    start, end = first / whole[axis - 2], (first + length) / whole[axis - 2]
    return (0.0, start, 1.0, end) if axis == 2 else (start, 0.0, end, 1.0)


def _tile_warning(size: Size, whole: Size) -> str:
    return (
        f"A node gives the model {size[0]}x{size[1]} cells of a latent of {whole[0]}x{whole[1]}: "
        "if it is a tile, the whole layout lands in it. Turn off tiled sampling, or sample with "
        "subjects first and refine without them."
    )


@dataclass
class _Sampled:
    """What was sampled with a branch while one node ran."""

    by: object
    latents: dict[object, set[float]] = field(default_factory=dict)


_SAMPLED: weakref.WeakKeyDictionary[BranchValue, _Sampled] = weakref.WeakKeyDictionary()


def warn_of_tiles(value: BranchValue, latent_image: torch.Tensor, sigmas: object = None) -> None:
    """Tiled upscalers and detailers sample one cut-out after the other, in one node, with the same
    conditionings, of which `value` is one's: runs of one size and schedule, from different
    latents."""
    by = get_executing_context()
    if by is None or not isinstance(sigmas, torch.Tensor):
        return
    if not bool(latent_image.any()):
        return
    sampled = _SAMPLED.get(value)
    if sampled is None or sampled.by != by:
        sampled = _SAMPLED[value] = _Sampled(by)
    what = (tuple(latent_image.shape), tuple(sigmas.tolist()))
    latents = sampled.latents.setdefault(what, set())
    latents.add(float(latent_image.double().mean()))
    if len(latents) == 2:
        height, width = latent_image.shape[-2:]
        show_warnings(
            [
                f"This node samples several latents of {height}x{width} with the same subjects: "
                "if they are tiles or cut-outs of one picture, the whole layout lands in each. "
                "Connect the MODEL before Subject-Diffusion Apply and texts of CLIP Text Encode."
            ]
        )
