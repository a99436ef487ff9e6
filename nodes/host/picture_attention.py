# Shapes: B samples of one conditioning, h, w size of an attention layer.
"""Attention that goes to subjects' own pictures: what finds it, and what shows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch

from .sampling_run import Frame

# Attachment of a MODEL whose self-attention sees pictures, and where such a layer finds, in
# `transformer_options`, who watches this call.
SEEING_KEY = "subject_diffusion_self_subject_attention"
WATCH_KEY = "subject_diffusion_picture_attention"


@dataclass(frozen=True, kw_only=True)
class PicturedSubject:
    """How reports call a subject whose pictures are seen.

    Attributes:
        index: in the list of subjects.
        box_xyxy: in 0..1 of the generated picture; None = it acts everywhere.
    """

    index: int
    label: str
    box_xyxy: Frame | None


class PictureWatch(Protocol):
    """Whoever collects that attention."""

    def add(self, subject: PicturedSubject, frame: Frame, maps: torch.Tensor) -> None:
        """Maps (B, 1, h, w) of one layer in 0..1, over the part `frame` of the picture."""
