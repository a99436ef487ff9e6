"""What linear heads on the metric encoder see in a picture: TinyBench's two, and one more.

# Shapes: Q questions, H picture side (128), F feature width.
TinyBench looks for a label's group in the asked box, which a base drawing from text is not told.
The third head looks at the whole picture: wherever the object stands, it is seen.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from training.evaluation.crops import box_crop
from training.evaluation.metric_encoder import INPUT_SIDE, MetricEncoder
from training.evaluation.text_match import LinearHead, fit_head, load_heads
from training.runs import atomic_path
from training.toy.data.compose import compose
from training.toy.data.label_rules import group_of
from training.toy.data.library import Library, draw_rows, load_library
from training.toy.data.split import identities_sha256

from .questions import ToldQuestion

SEED = 72
NUM_COMPOSITES = 1600
KEYS = ("group", "group_in_box", "scene")


@dataclass(frozen=True, kw_only=True)
class Looking:
    """The encoder, TinyBench's heads, and the head of groups on whole pictures."""

    encoder: MetricEncoder
    heads: dict[str, LinearHead]
    whole: LinearHead

    def scores(
        self, questions: Sequence[ToldQuestion], pictures: np.ndarray
    ) -> dict[str, np.ndarray]:
        """(Q,) 1.0 where pictures (Q, H, H, 3) show what was asked, by :data:`KEYS`."""
        pairs = zip(questions, pictures, strict=True)
        crops = np.stack([box_crop(image, q.box_px, INPUT_SIDE) for q, image in pairs])
        groups = [question.group for question in questions]
        features = self.encoder.encode(pictures)
        return {
            "group": self.whole.matches(features, groups),
            "group_in_box": self.heads["group"].matches(self.encoder.encode(crops), groups),
            "scene": self.heads["scene"].matches(features, [q.scene for q in questions]),
        }


def composite_of_one(library: Library, index: int) -> tuple[np.ndarray, str]:
    """Composite ``index`` of one train subject, and its group."""
    rng = np.random.default_rng((SEED, index))
    (row,) = draw_rows(library, rng, 1)
    background = np.asarray(library.backgrounds[rng.choice(library.scene_rows)])
    image = compose([library.cutout(row)], background, "", rng, flipped=[False]).image
    return image, group_of(library.records[row]["category"])


def whole_samples(work: Path, encoder: MetricEncoder) -> tuple[np.ndarray, list[str]]:
    """Features (NUM_COMPOSITES, F) and groups for the third head; kept in ``work``/evaluation."""
    settings = (SEED, NUM_COMPOSITES, INPUT_SIDE, identities_sha256())
    name = hashlib.sha256(repr(settings).encode()).hexdigest()[:12]
    path = work / "evaluation" / f"whole-{name}.npz"
    if not path.exists():
        library = load_library(work, "train", "train")
        made = [composite_of_one(library, i) for i in tqdm(range(NUM_COMPOSITES), desc="whole")]
        features = encoder.encode(np.stack([image for image, _ in made]))
        groups = np.array([group for _, group in made])
        with atomic_path(path) as temporary, temporary.open("wb") as handle:
            np.savez(handle, allow_pickle=False, features=features, groups=groups)
    with np.load(path) as stored:
        return stored["features"], stored["groups"].tolist()


def open_looking(work: Path, encoder: MetricEncoder) -> Looking:
    """All heads; their samples are made once."""
    whole = fit_head(*whole_samples(work, encoder))
    return Looking(encoder=encoder, heads=load_heads(work, encoder), whole=whole)
