"""Faces of pictures: found by YuNet in OpenCV, embedded by a TorchScript module.

# Shapes: B pictures, F pictures with a face, D feature width.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from .dataset import DreamBenchError

BATCH_SIZE = 32
FACE_SIZE = 160  # FaceNet's
# YuNet finds faces of 10 to 300 pixels: at this size, of 3 to 94 % of the picture's longer side.
DETECTION_SIDE = 320
SCORE_THRESHOLD = 0.7
SETTINGS = {
    "face": f"largest with a score of {SCORE_THRESHOLD} or more, in a picture of at most "
    f"{DETECTION_SIDE} pixels; box without margin, resized to {FACE_SIZE}x{FACE_SIZE}",
    "no face": "counts 0, as does a negative cosine",
}


class FaceDetector(Protocol):
    """Finds the one face of a picture that counts."""

    def box_xyxy(self, picture: Image.Image) -> tuple[int, int, int, int] | None:
        """Its box in pixels, within the picture; None where there is no face."""


class YuNetDetector:
    """The largest face that YuNet finds (an ONNX file of OpenCV's model zoo)."""

    def __init__(self, path: Path) -> None:
        self._cv2 = _opencv()
        _require_file("face-detector", path, "YuNet's ONNX file (face_detection_yunet_*.onnx)")
        try:
            self._model = self._cv2.FaceDetectorYN.create(
                str(path), "", (DETECTION_SIDE, DETECTION_SIDE), SCORE_THRESHOLD
            )
            for size in ((320, 240), (200, 320)):  # OpenCV says only here that it cannot run it
                self.box_xyxy(Image.new("RGB", size))
        except self._cv2.error as error:
            raise DreamBenchError(
                f"face-detector: expected YuNet's ONNX file, got {path}, which OpenCV "
                f"{self._cv2.__version__} cannot run ({_first_sentence(error)}). Take "
                "face_detection_yunet from OpenCV's model zoo: 2023mar for OpenCV 4, the one with "
                "dynamic input size (2026may) for OpenCV 5."
            ) from error

    def box_xyxy(self, picture: Image.Image) -> tuple[int, int, int, int] | None:
        """Box in pixels, within the picture; None where there is no face."""
        scale = min(1.0, DETECTION_SIDE / max(picture.size))
        size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        small = picture.convert("RGB").resize(size, Image.Resampling.BILINEAR)
        self._model.setInputSize(size)
        bgr = np.ascontiguousarray(np.asarray(small)[:, :, ::-1])
        _, faces = self._model.detect(bgr)
        if faces is None or not len(faces):
            return None
        x, y, width, height = max(faces, key=lambda face: face[2] * face[3])[:4] / scale
        left, top = max(0, int(x)), max(0, int(y))
        right, bottom = min(picture.width, int(x + width)), min(picture.height, int(y + height))
        return (left, top, right, bottom) if right > left and bottom > top else None


class FaceEncoder:
    """Identity features of the faces that a detector finds."""

    def __init__(self, detector: FaceDetector, embedder: Path) -> None:
        self.detector = detector
        self.model = _load_embedder(embedder)

    @torch.no_grad()
    def faces(self, paths: Sequence[Path]) -> tuple[Tensor, Tensor]:
        """Unit-length features (B, D), zero where no face was found, and found (B,) bool."""
        crops = [self._face(path) for path in paths]
        found = torch.tensor([crop is not None for crop in crops])
        inputs = [crop for crop in crops if crop is not None]
        if not inputs:
            return torch.zeros(len(paths), 1), found
        parts = [self.model(batch) for batch in torch.stack(inputs).split(BATCH_SIZE)]
        embedded = F.normalize(torch.cat(parts).float(), dim=-1)  # (F, D)
        features = torch.zeros(len(paths), embedded.shape[-1])
        features[found] = embedded
        return features, found

    def _face(self, path: Path) -> Tensor | None:
        """The face (3, 160, 160) in FaceNet's range, about -1..1; None without one."""
        picture = Image.open(path).convert("RGB")
        box = self.detector.box_xyxy(picture)
        if box is None:
            return None
        face = picture.crop(box).resize((FACE_SIZE, FACE_SIZE), Image.Resampling.BILINEAR)
        pixels = torch.from_numpy(np.array(face)).permute(2, 0, 1).float()
        return (pixels - 127.5) / 128.0


def _opencv() -> Any:
    try:
        import cv2
    except ImportError as error:
        raise DreamBenchError(
            "face-detector: expected OpenCV to be installed, got no module cv2. Install it: "
            'python -m pip install "opencv-python-headless>=4.8".'
        ) from error
    return cv2


def _require_file(argument: str, path: Path, wanted: str) -> None:
    if not path.is_file():
        raise DreamBenchError(
            f"{argument}: expected {wanted}, got {path}, which is not a file. Download it there "
            "first or correct the path."
        )


def _load_embedder(path: Path) -> Any:
    wanted = f"a TorchScript module from faces (B, 3, {FACE_SIZE}, {FACE_SIZE}) to features (B, D)"
    _require_file("face-embedder", path, wanted)
    try:
        model = torch.jit.load(str(path), map_location="cpu").eval()
        with torch.no_grad():
            shape = tuple(model(torch.zeros(2, 3, FACE_SIZE, FACE_SIZE)).shape)
        if len(shape) != 2 or shape[0] != 2:
            raise ValueError(f"2 faces give {shape}")
    except (RuntimeError, AttributeError, ValueError) as error:
        raise DreamBenchError(
            f"face-embedder: expected {wanted}, got {path} ({_first_sentence(error)}). Save "
            "FaceNet with torch.jit.trace; docs/small_model.md shows how."
        ) from error
    return model


def _first_sentence(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].split("error: ")[-1].split(". ")[0] if lines else type(error).__name__
