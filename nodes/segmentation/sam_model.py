# Shapes: H, W size of a picture in pixels, K points.
"""segment-anything under ComfyUI's memory management. The package is imported when it is used."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import comfy.model_management
import numpy as np
import torch
from torch import nn

from ...subject_diffusion_core.errors import CheckpointError
from ...subject_diffusion_core.files.header import is_pickled, read_header
from ...subject_diffusion_core.files.pickled_file import read_pickled
from ...subject_diffusion_core.files.safetensors_file import read_tensors
from ...subject_diffusion_core.sam_geometry import (
    SamGeometry,
    StateDict,
    build_sam_of,
    read_sam_geometry,
)
from ..host.patchers import wrap_in_patcher


class Segmenter:
    """A segment-anything model, loaded and unloaded by ComfyUI like every other model."""

    def __init__(self, name: str, geometry: SamGeometry, sam: nn.Module) -> None:
        self.name = name
        self.geometry = geometry
        self._load_device = comfy.model_management.get_torch_device()
        offload_device = comfy.model_management.unet_offload_device()
        # ComfyUI writes an attribute `device` on its models, which is a property of Sam
        self._holder = nn.ModuleDict({"sam": sam.to(offload_device)})
        self.patcher = wrap_in_patcher(self._holder, self._load_device, offload_device)

    def require_size(self, width: int, height: int) -> None:
        """One sentence about a picture of which nothing is left where its longer side fits."""
        most = 2 * self.geometry.image_size
        if max(width, height) > most * min(width, height):
            raise ValueError(
                f"image: expected a picture at most {most} times as long as wide, got one of "
                f"{width}x{height} pixels. Cut it to the subject."
            )

    def segment(
        self, picture: torch.Tensor, box: np.ndarray | None, points: np.ndarray | None
    ) -> torch.Tensor:
        """The mask that fits best.

        Args:
            picture: (H, W, 3) in 0..1.
            box: (4,) x1, y1, x2, y2 in pixels, or None.
            points: (K, 3) x, y in pixels and 1 = on the subject, 0 = beside it; or None.

        Returns:
            (H, W) bool, True on the subject.
        """
        comfy.model_management.load_models_gpu([self.patcher], force_full_load=True)
        predictor = import_segment_anything().SamPredictor(self._holder["sam"])
        pixels = (picture.float().cpu().clamp(0, 1) * 255).round().byte().numpy()
        predictor.set_image(pixels)
        # one point may mean a thing or a part of it: take the best of several answers
        is_ambiguous = box is None and points is not None and len(points) == 1
        masks, scores, _ = predictor.predict(
            point_coords=None if points is None else points[:, :2],
            point_labels=None if points is None else points[:, 2].astype(int),
            box=box,
            multimask_output=is_ambiguous,
        )
        return torch.from_numpy(masks[int(scores.argmax())])


def load_segmenter(path: str) -> Segmenter:
    """Read a checkpoint (.pth or .safetensors); its keys say which size it is."""
    import_segment_anything()
    state = _read_weights(path)
    name = Path(path).name
    geometry = read_sam_geometry(state, name)
    sam = build_sam(geometry)
    try:
        sam.load_state_dict(state)
    except RuntimeError as error:
        problem = str(error).splitlines()[1].strip()
        raise CheckpointError(
            f"{name}: expected the weights of segment-anything {geometry.name}, got others "
            f"({problem[:200]}). Choose another file from models/sams."
        ) from None
    return Segmenter(name, geometry, sam.eval().requires_grad_(False))


def build_sam(geometry: SamGeometry) -> nn.Module:
    """The package's own classes at the size of the checkpoint, untrained."""
    return build_sam_of(import_segment_anything().modeling, geometry)


def import_segment_anything() -> ModuleType:
    """The package, or a sentence that says how to get it."""
    try:
        import segment_anything
    except ImportError:
        raise ValueError(
            "segmenter: expected the Python package segment-anything, got none. Install it into "
            "ComfyUI's Python with `python -m pip install segment-anything` and restart ComfyUI."
        ) from None
    package: ModuleType = segment_anything
    return package


def _read_weights(path: str) -> StateDict:
    """Tensors only: a pickle that would run code is refused."""
    if not is_pickled(path):
        return read_tensors(read_header(path), "Download it again.")
    try:
        return read_tensors(read_pickled(Path(path)), "Download it again.")
    except CheckpointError as error:
        raise CheckpointError(
            f"{path}: expected an intact .safetensors or .pth file that holds tensors only, got a "
            "pickled one that is damaged or would run code. It was not opened: download it again."
        ) from error
