"""DINO, CLIP-I and CLIP-T of generated pictures; of people, identity and CLIP-T.

# Shapes: G generated pictures of one group, R photographs of a subject, D feature width.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import cache
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from training.evaluation.metrics import Interval, bootstrap

from .dataset import Case, DreamBenchError, DreamSubject
from .encoders import ClipEncoder, DinoEncoder
from .faces import FaceEncoder

# scores of one group, by name: of its subjects, its pictures' files and their CLIP features (G, D)
Measure = Callable[[tuple[DreamSubject, ...], list[Path], Tensor], dict[str, Tensor]]


def image_alignment(generated: Tensor, photographs: Sequence[Tensor]) -> Tensor:
    """Mean cosine of each generated picture (G, D) to all photographs (R, D) of a subject, and
    the mean of that over the subjects of a picture; (G,)."""
    return torch.stack([(generated @ photos.T).mean(1) for photos in photographs]).mean(0)


def score_groups(
    all_cases: Sequence[Case], folder: Path, clip: ClipEncoder, measure: Measure, text_name: str
) -> dict[str, Interval]:
    """Means over all pictures of what ``measure`` says of a group and of CLIP-T, the cosine with
    the prompt, called ``text_name``; with bootstrap intervals over the groups: subjects or pairs.
    """
    missing = [case.out for case in all_cases if not (folder / case.out).is_file()]
    if missing:
        raise DreamBenchError(
            f"pictures: expected {len(all_cases)} in {folder}, got {len(all_cases) - len(missing)} "
            f"(first missing: {missing[0]}). Generate the rest: the same jobs file goes on."
        )
    values = defaultdict(list)
    for subjects, group in groupby(all_cases, key=lambda case: case.subjects):
        members = list(group)
        paths = [folder / case.out for case in members]
        features, texts = clip.images(paths), clip.texts([case.prompt for case in members])
        found = measure(subjects, paths, features) | {text_name: (features * texts).sum(-1)}
        for name, scores in found.items():
            values[name].append(float(scores.mean()))
    return {name: bootstrap(lambda mean: mean, np.array(v)) for name, v in values.items()}


def score(
    all_cases: Sequence[Case], folder: Path, dino: DinoEncoder, clip: ClipEncoder
) -> dict[str, Interval]:
    """DINO and CLIP-I compare with every photograph of the subject, the reference included, as
    DreamBooth does; for two subjects they are averaged (section 4.3)."""

    @cache
    def photographs(subject: DreamSubject) -> tuple[Tensor, Tensor]:
        return dino.images(subject.pictures), clip.images(subject.pictures)

    def measure(
        subjects: tuple[DreamSubject, ...], paths: list[Path], features: Tensor
    ) -> dict[str, Tensor]:
        by_dino, by_clip = zip(*map(photographs, subjects), strict=True)
        return {
            "DINO": image_alignment(dino.images(paths), by_dino),
            "CLIP-I": image_alignment(features, by_clip),
        }

    return score_groups(all_cases, folder, clip, measure, "CLIP-T")


def score_people(
    all_cases: Sequence[Case], folder: Path, faces: FaceEncoder, clip: ClipEncoder, reference: int
) -> tuple[dict[str, Interval], int]:
    """FastComposer's two scores of one person; and in how many of the pictures a face was found.

    Identity preservation is the cosine of the generated face with that of the given picture, 0
    without a face or below 0. Prompt consistency is CLIP-T.
    """
    num_found = 0

    def measure(
        subjects: tuple[DreamSubject, ...], paths: list[Path], _features: Tensor
    ) -> dict[str, Tensor]:
        nonlocal num_found
        given = subjects[0].reference(reference)
        target, has_face = faces.faces([given])
        if not has_face[0]:
            raise DreamBenchError(
                f"data: expected a face in {given}, got none that the detector finds. Take another "
                "picture of the person, or another with --reference, and generate again."
            )
        generated, found = faces.faces(paths)
        num_found += int(found.sum())
        return {"ID preservation": (generated * target).sum(-1).clamp(min=0)}

    return score_groups(all_cases, folder, clip, measure, "prompt consistency"), num_found
