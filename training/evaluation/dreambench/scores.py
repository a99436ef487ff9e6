"""DINO, CLIP-I and CLIP-T of generated pictures.

# Shapes: G generated pictures of one group, R photographs of a subject, D feature width.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
from torch import Tensor

from ..metrics import Interval, mean_interval
from .cases import Case
from .dataset import DreamBenchError, DreamSubject
from .encoders import ClipEncoder, DinoEncoder


def image_alignment(generated: Tensor, photographs: Sequence[Tensor]) -> np.ndarray:
    """Mean cosine of each generated picture (G, D) to all photographs (R, D) of a subject, and
    the mean of that over the subjects of a picture; (G,)."""
    by_subject = [(generated @ photos.T).mean(1) for photos in photographs]
    return np.mean([values.numpy() for values in by_subject], axis=0)


def require_pictures(all_cases: Sequence[Case], folder: Path) -> None:
    """One sentence unless every asked picture is there."""
    missing = [case.out for case in all_cases if not (folder / case.out).is_file()]
    if missing:
        raise DreamBenchError(
            f"pictures: expected {len(all_cases)} in {folder}, got {len(all_cases) - len(missing)} "
            f"(first missing: {missing[0]}). Generate the rest: the same jobs file goes on."
        )


def score(
    all_cases: Sequence[Case], folder: Path, dino: DinoEncoder, clip: ClipEncoder
) -> dict[str, Interval]:
    """Means over all pictures, with bootstrap intervals over subjects or pairs.

    DINO and CLIP-I compare with every photograph of the subject, the reference included, as
    DreamBooth does; for two subjects they are averaged (section 4.3). CLIP-T compares with the
    prompt.
    """
    require_pictures(all_cases, folder)
    photographs: dict[str, tuple[Tensor, Tensor]] = {}
    values: dict[str, list[float]] = {"DINO": [], "CLIP-I": [], "CLIP-T": []}
    for _, group in groupby(all_cases, key=lambda case: case.subjects):
        members = list(group)
        paths = [folder / case.out for case in members]
        for subject in members[0].subjects:
            photographs.setdefault(subject.name, _features(subject, dino, clip))
        pairs = [photographs[subject.name] for subject in members[0].subjects]
        clip_features = clip.images(paths)
        dino_values = image_alignment(dino.images(paths), [pair[0] for pair in pairs])
        clip_values = image_alignment(clip_features, [pair[1] for pair in pairs])
        texts = clip.texts([case.prompt for case in members])
        values["DINO"].append(float(dino_values.mean()))
        values["CLIP-I"].append(float(clip_values.mean()))
        values["CLIP-T"].append(float((clip_features * texts).sum(-1).mean()))
    return {name: mean_interval(np.array(numbers)) for name, numbers in values.items()}


def _features(subject: DreamSubject, dino: DinoEncoder, clip: ClipEncoder) -> tuple[Tensor, Tensor]:
    return dino.images(subject.pictures), clip.images(subject.pictures)
