"""Does the picture show what the text says? Linear heads on the metric encoder.

# Shapes: M samples, F feature width, C classes, Q queries, N subjects of a query.
Two heads, trained on fresh composites of train subjects: the label's group from a box's crop, the
scene from the whole picture. Real composites of held-out subjects give each head's own bound.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm

from ..runs import atomic_path
from ..toy.data.compose import compose
from ..toy.data.label_rules import group_of
from ..toy.data.library import Library, draw_rows, load_library
from ..toy.data.pictures import SIDE
from ..toy.data.split import identities_sha256
from .crops import MARGIN, box_crop, box_to_pixels
from .metric_encoder import INPUT_SIDE, MetricEncoder

NUM_COMPOSITES = 1200
SEED = 41
L2_WEIGHT = 1e-4
FEATURE_SCALE = 20.0  # unit features are small numbers for a linear head
LBFGS_STEPS = 60


@dataclass(frozen=True, kw_only=True)
class LinearHead:
    """Multinomial logistic regression: weight (C, F), bias (C,), the C class names."""

    weight: np.ndarray
    bias: np.ndarray
    classes: list[str]

    def matches(self, features: np.ndarray, names: Sequence[str]) -> np.ndarray:
        """(M,) 1.0 where the predicted class of features (M, F) is the named one, else 0.0."""
        predicted = (FEATURE_SCALE * features @ self.weight.T + self.bias).argmax(axis=1)
        pairs = zip(predicted, names, strict=True)
        return np.array([float(self.classes[index] == name) for index, name in pairs])


def fit_head(features: np.ndarray, names: Sequence[str]) -> LinearHead:
    """Fit a head to features (M, F) and their class names; deterministic."""
    classes, targets = np.unique(list(names), return_inverse=True)
    inputs, target = torch.from_numpy(features) * FEATURE_SCALE, torch.from_numpy(targets)
    weight = torch.zeros(len(classes), features.shape[1], requires_grad=True)
    bias = torch.zeros(len(classes), requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weight, bias], max_iter=LBFGS_STEPS, line_search_fn="strong_wolfe"
    )

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = F.cross_entropy(F.linear(inputs, weight, bias), target)
        value = value + L2_WEIGHT * weight.square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    return LinearHead(
        weight=weight.detach().numpy(), bias=bias.detach().numpy(), classes=classes.tolist()
    )


def head_composite(
    library: Library, index: int
) -> tuple[np.ndarray, str, list[np.ndarray], list[str]]:
    """Composite ``index``: picture, scene, its subjects' crops and their groups; scenes in turn."""
    rng = np.random.default_rng((SEED, index))
    names = [scene["scene"] for scene in library.scenes]
    scenes = list(dict.fromkeys(names))
    scene = scenes[index % len(scenes)]
    scene_row = rng.choice([row for row, name in enumerate(names) if name == scene])
    background = np.asarray(library.backgrounds[scene_row])
    rows = draw_rows(library, rng, 1 + index % 2)
    composite = compose([library.cutout(row) for row in rows], background, "", rng)
    boxes = [box_to_pixels(tuple(box), SIDE) for box in composite.boxes_xyxy]
    crops = [box_crop(composite.image, box, INPUT_SIDE) for box in boxes]
    groups = [group_of(library.records[row]["category"]) for row in rows]
    return composite.image, scene, crops, groups


def head_samples_path(work: Path, count: int = NUM_COMPOSITES) -> Path:
    """Where the samples of these settings are kept."""
    settings = (SEED, count, INPUT_SIDE, MARGIN, identities_sha256())
    name = hashlib.sha256(repr(settings).encode()).hexdigest()[:12]
    return work / "evaluation" / f"heads-{name}.npz"


def head_samples(work: Path, encoder: MetricEncoder, count: int) -> dict[str, np.ndarray]:
    """Features and class names of both heads' samples; kept below ``work``/evaluation."""
    path = head_samples_path(work, count)
    if not path.exists():
        library = load_library(work, "train", "train")
        samples = [
            head_composite(library, index) for index in tqdm(range(count), desc="text heads")
        ]
        crops = [crop for _, _, own_crops, _ in samples for crop in own_crops]
        arrays = {
            "scene_features": encoder.encode(np.stack([picture for picture, *_ in samples])),
            "scenes": np.array([scene for _, scene, _, _ in samples]),
            "group_features": encoder.encode(np.stack(crops)),
            "groups": np.array([group for *_, groups in samples for group in groups]),
        }
        with atomic_path(path) as temporary, temporary.open("wb") as handle:
            np.savez(handle, allow_pickle=False, **arrays)
    with np.load(path) as stored:
        return dict(stored)


def load_heads(
    work: Path, encoder: MetricEncoder, count: int = NUM_COMPOSITES
) -> dict[str, LinearHead]:
    """The head of label groups (on crops), "group", and that of scenes (on whole pictures),
    "scene"; their samples are made once."""
    samples = head_samples(work, encoder, count)
    return {
        kind: fit_head(samples[f"{kind}_features"], samples[f"{kind}s"].tolist())
        for kind in ("group", "scene")
    }
