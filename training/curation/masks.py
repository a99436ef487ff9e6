"""Masks by SAM (segment-anything): each box is the prompt of its mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from subject_diffusion_core.files.header import is_pickled, read_header
from subject_diffusion_core.files.pickled_file import read_pickled
from subject_diffusion_core.files.safetensors_file import read_tensors
from subject_diffusion_core.sam_geometry import build_sam_of, read_sam_geometry

from .models import device_of, dtype_of, lower_precision
from .pictures import load
from .record import FoundEntity, Record
from .record_masks import run_lengths
from .settings import CurationSettings, ModelSettings

STAGE = "masks"


def load_sam(settings: ModelSettings) -> Any:
    """The model of a checkpoint of segment-anything, .pth or .safetensors, of any size."""
    from segment_anything import modeling

    path = Path(settings.model)
    if not settings.model or not path.is_file():
        raise ValueError(
            f"{STAGE}.model: expected a checkpoint of segment-anything (.pth or .safetensors), got "
            f"{settings.model or 'none, and a picture needs it'}. Set it with --set "
            f"{STAGE}.model=FILE, or give the pictures masks."
        )
    header = read_pickled(path) if is_pickled(path) else read_header(path)
    state = read_tensors(header, "Download it again.")
    sam = build_sam_of(modeling, read_sam_geometry(state, path.name))
    try:
        sam.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(
            f"{STAGE}.model: expected the weights of segment-anything in {path}, got others "
            f"({str(error).splitlines()[1].strip()[:200]}). Choose another file."
        ) from error
    return sam.to(device_of(settings)).eval()


class Segmenter:
    """SAM; a batch of pictures goes through its encoder at once."""

    def __init__(self, settings: CurationSettings) -> None:
        from segment_anything.utils.transforms import ResizeLongestSide

        self.sam = load_sam(settings.masks)
        self.device, self.dtype = device_of(settings.masks), dtype_of(settings.masks)
        self.resize = ResizeLongestSide(self.sam.image_encoder.img_size)

    @torch.no_grad()
    def __call__(self, records: Sequence[Record]) -> list[Record]:
        """The records with a mask for every box that has none."""
        batch = [self._input(record) for record in records]
        with lower_precision(self.device, self.dtype):
            outputs = self.sam(batch, multimask_output=False)
        return [
            replace(record, entities=with_masks(record, output["masks"][:, 0].cpu().numpy()))
            for record, output in zip(records, outputs, strict=True)
        ]

    def _input(self, record: Record) -> dict[str, Any]:
        pixels = np.asarray(load(record.picture))
        height, width = pixels.shape[:2]
        boxes = np.array([entity.box_xyxy for entity in missing(record)])
        boxes = self.resize.apply_boxes(boxes * [width, height, width, height], (height, width))
        resized = torch.from_numpy(self.resize.apply_image(pixels).copy()).permute(2, 0, 1)
        return {
            "image": resized.to(self.device).float(),
            "boxes": torch.from_numpy(boxes).float().to(self.device),
            "original_size": (height, width),
        }


def missing(record: Record) -> list[FoundEntity]:
    """Subjects without a mask."""
    return [entity for entity in record.entities or () if entity.mask is None]


def with_masks(record: Record, masks: np.ndarray) -> tuple[FoundEntity, ...]:
    """All subjects, those without a mask with the next of (N, H, W) bool."""
    left = iter(masks)
    return tuple(
        replace(entity, mask=run_lengths(next(left))) if entity.mask is None else entity
        for entity in record.entities or ()
    )
