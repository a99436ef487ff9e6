# Shapes: H, W size of a picture in pixels, h, w size of its latent, C latent channels.
"""What a conditioning says of its references: which pictures, how strongly, where, and when."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from ..host.comfy_types import Conditioning
from ..host.picture_attention import PicturedSubject
from ..host.run_attachment import BranchCond
from ..host.sampling_run import Frame

REFERENCES_KEY = "subject_diffusion_references"


@dataclass(frozen=True, kw_only=True, eq=False)
class Reference:
    """One picture of a subject, for the UNet's own pass over it.

    Attributes:
        latent: (1, C, h, w) as the VAE gave it.
        mask: (H, W) in 0..1 of the same picture, 1 = subject; None = all of it counts.
        caption: what the picture shows.
    """

    latent: torch.Tensor
    mask: torch.Tensor | None
    caption: Conditioning


@dataclass(frozen=True, kw_only=True, eq=False)
class ReferencedSubject:
    """A subject whose keys a branch sees.

    Attributes:
        omega: how often each of its keys counts; its pictures share it.
        pictures: at least one.
        box_xyxy: in 0..1 of the generated picture, where it acts; None = everywhere.
        region: (H, W) in 0..1 of the generated picture, how much it acts, in place of the box.
        start_percent, end_percent: the part of the sampling, 0..1, in which it acts.
        told_as: how reports call it; None: they leave it out.
    """

    omega: float
    pictures: tuple[Reference, ...]
    box_xyxy: Frame | None
    region: torch.Tensor | None
    start_percent: float
    end_percent: float
    told_as: PicturedSubject | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class BranchReferences:
    """The references of one guidance branch.

    Attributes:
        time_bias: timesteps by which the references are noisier than the picture; below 0, less
            noisy.
        is_watched: whether it is told how much of this branch's attention goes to them.
    """

    subjects: tuple[ReferencedSubject, ...] = ()
    time_bias: int = 0
    is_watched: bool = False

    @property
    def acts(self) -> bool:
        return bool(self.subjects)

    @property
    def memory_shape(self) -> tuple[int]:
        return (1,)


NO_REFERENCES = BranchReferences()


def with_references(conditioning: Conditioning, references: BranchReferences) -> Conditioning:
    """The same conditioning, whose branch sees these references."""
    cond = BranchCond(value=references)
    return _changed(conditioning, lambda conds: {**conds, REFERENCES_KEY: cond})


def without_references(conditioning: Conditioning) -> Conditioning:
    """The same conditioning, whose branch sees none."""
    return _changed(
        conditioning,
        lambda conds: {key: cond for key, cond in conds.items() if key != REFERENCES_KEY},
    )


def has_references(conditioning: Conditioning) -> bool:
    return any(REFERENCES_KEY in values.get("model_conds", {}) for _, values in conditioning)


def _changed(
    conditioning: Conditioning,
    change: Callable[[dict[str, BranchCond]], dict[str, BranchCond]],
) -> Conditioning:
    return [
        [tensor, {**values, "model_conds": change(values.get("model_conds", {}))}]
        for tensor, values in conditioning
    ]
