"""DINO, CLIP-I and CLIP-T of generated pictures; of people, identity and CLIP-T.

# Shapes: G generated pictures of one group, R photographs of a subject, D feature width.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..metrics import Interval, mean_interval
from .cases import Case, reference_picture
from .dataset import DreamBenchError, DreamSubject
from .encoders import ClipEncoder, DinoEncoder
from .faces import FaceEncoder


def image_alignment(generated: Tensor, photographs: Sequence[Tensor]) -> np.ndarray:
    """Mean cosine of each generated picture (G, D) to all photographs (R, D) of a subject, and
    the mean of that over the subjects of a picture; (G,)."""
    by_subject = [(generated @ photos.T).mean(1) for photos in photographs]
    return torch.stack(by_subject).mean(0).numpy()


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
    return intervals(values)


def score_people(
    all_cases: Sequence[Case], folder: Path, faces: FaceEncoder, clip: ClipEncoder, reference: int
) -> tuple[dict[str, Interval], int]:
    """FastComposer's two scores of one person, with bootstrap intervals over people; and in how
    many of the pictures a face was found.

    Identity preservation is the cosine of the generated face with that of the given picture, 0
    without a face or below 0. Prompt consistency is CLIP-T.
    """
    require_pictures(all_cases, folder)
    values: dict[str, list[float]] = {"ID preservation": [], "prompt consistency": []}
    num_found = 0
    for (subject,), group in groupby(all_cases, key=lambda case: case.subjects):
        members = list(group)
        paths = [folder / case.out for case in members]
        given = reference_picture(subject, reference)
        target, has_face = faces.faces([given])
        if not has_face[0]:
            raise DreamBenchError(
                f"data: expected a face in {given}, got none that the detector finds. Take another "
                "picture of the person, or another with --reference, and generate again."
            )
        generated, found = faces.faces(paths)
        texts = clip.texts([case.prompt for case in members])
        similar = (generated * target).sum(-1).clamp(min=0)
        values["ID preservation"].append(float(similar.mean()))
        values["prompt consistency"].append(float((clip.images(paths) * texts).sum(-1).mean()))
        num_found += int(found.sum())
    return intervals(values), num_found


def intervals(values: dict[str, list[float]]) -> dict[str, Interval]:
    """Means of what was measured, with intervals."""
    found = {name: mean_interval(np.array(numbers)) for name, numbers in values.items()}
    return {name: interval for name, interval in found.items() if interval is not None}


def _features(subject: DreamSubject, dino: DinoEncoder, clip: ClipEncoder) -> tuple[Tensor, Tensor]:
    return dino.images(subject.pictures), clip.images(subject.pictures)
