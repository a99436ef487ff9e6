"""The gallery in which generated subjects are looked up: rendered views, composited and cropped.

# Shapes: G gallery entries, K identities, F feature width, B looked-up crops.
Every view of every model (train and held-out) and every held-out emoji design, plain and mirrored,
is pasted into a held-out scene and cropped by its box, exactly as generated pictures are cropped.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..runs import save_array
from ..toy.data.compose import compose, place_boxes
from ..toy.data.library import Library
from ..toy.data.pictures import SIDE
from ..toy.data.split import identities_sha256
from .crops import MARGIN, box_crop
from .metric_encoder import INPUT_SIDE, MetricEncoder

GALLERY_SEED = 71
GALLERY_SIZE = 0.6  # longer side of the pasted content, as a share of the picture
MIN_ANGLE_DEG = 30.0
CHUNK = 512


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One gallery picture: cut-out ``row``, mirrored or not."""

    row: int
    mirrored: bool


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """Features of all entries, sorted by identity.

    Attributes:
        features: (G, F) float32 of unit length.
        rows: (G,) cut-out of each entry. views: (G, 3) unit vectors to the camera, NaN = emoji.
        identities: the K names. identity_of: (G,) ascending index into ``identities``.
    """

    features: np.ndarray
    rows: np.ndarray
    views: np.ndarray
    identities: list[str]
    identity_of: np.ndarray

    def similarities(self, features: np.ndarray, reference_views: np.ndarray) -> np.ndarray:
        """Cosine (B, G) to every entry; -inf where its view is too near to the reference's.

        ``features`` (B, F) of unit length; ``reference_views`` (B, 3), NaN = the reference has no
        view, then all entries count. The rule holds for all models alike.
        """
        cosines = features @ self.features.T
        return np.where(near_views(reference_views, self.views), -np.inf, cosines)

    def best_by_identity(self, similarities: np.ndarray) -> np.ndarray:
        """(B, G) to (B, K): the best remaining view of every identity."""
        starts = np.searchsorted(self.identity_of, np.arange(len(self.identities)))
        return np.maximum.reduceat(similarities, starts, axis=1)


def near_views(
    first: np.ndarray, second: np.ndarray, min_angle_deg: float = MIN_ANGLE_DEG
) -> np.ndarray:
    """Which views (B, 3) and (G, 3) lie at most ``min_angle_deg`` apart: (B, G) bool; NaN never.

    >>> near_views(np.array([[0.0, 0.0, 1.0]]), np.array([[0.0, 0.6, 0.8], [0.0, 0.1, 0.995]]))
    array([[False,  True]])
    """
    threshold = np.cos(np.radians(min_angle_deg))
    with np.errstate(invalid="ignore"):
        near: np.ndarray = (first @ second.T) >= threshold
    return near


def view_vectors(library: Library, rows: np.ndarray | list[int]) -> np.ndarray:
    """Views (R, 3) of the cut-outs ``rows``; NaN where a cut-out has none (emoji)."""
    nothing = (np.nan, np.nan, np.nan)
    return np.array([library.records[row]["view"] or nothing for row in rows], np.float64)


def gallery_entries(library: Library) -> list[Entry]:
    """All views of all models, all held-out emoji in both orientations, by identity."""
    entries = []
    for row, record in enumerate(library.records):
        is_model = record["identity"].startswith("model:")
        if is_model or record["split"] == "heldout":
            orientations = (False,) if is_model else (False, True)
            entries += [Entry(row=row, mirrored=mirrored) for mirrored in orientations]
    return sorted(entries, key=lambda entry: library.records[entry.row]["identity"])


def gallery_crop(library: Library, entry: Entry) -> np.ndarray:
    """The entry pasted into a held-out scene and cropped, (S, S, 3) uint8; always the same."""
    rng = np.random.default_rng((GALLERY_SEED, entry.row, int(entry.mirrored)))
    cutout = library.cutout(entry.row)
    scale = GALLERY_SIZE * SIDE / max(cutout.width, cutout.height)
    size = (max(2, round(cutout.width * scale)), max(2, round(cutout.height * scale)))
    boxes_px = place_boxes([size], SIDE, rng)
    scene_row = library.scene_rows[rng.integers(len(library.scene_rows))]
    composite = compose(
        [cutout],
        np.asarray(library.backgrounds[scene_row]),
        library.scenes[scene_row]["caption"],
        rng,
        boxes_px=boxes_px,
        flipped=[entry.mirrored],
    )
    return box_crop(composite.image, boxes_px[0], INPUT_SIDE)


def chunk_features(
    library: Library, entries: list[Entry], encoder: MetricEncoder, folder: Path
) -> Iterator[np.ndarray]:
    """Features of ``entries``, a chunk at a time; finished chunks are kept in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    for start in tqdm(range(0, len(entries), CHUNK), desc="gallery", unit=" chunks"):
        path = folder / f"features-{start:06d}.npy"
        if not path.exists():
            crops = [gallery_crop(library, entry) for entry in entries[start : start + CHUNK]]
            save_array(path, encoder.encode(np.stack(crops)))
        yield np.load(path)


def build_gallery(
    library: Library, encoder: MetricEncoder, out: Path, only: set[str] | None = None
) -> Gallery:
    """The gallery; its features are computed once and kept below ``out``.

    Args:
        library: the held-out library with held-out scenes (its records list every cut-out).
        encoder: the metric encoder.
        only: identities; None for all.
    """
    identity = [record["identity"] for record in library.records]
    entries = [e for e in gallery_entries(library) if only is None or identity[e.row] in only]
    # names what the features depend on
    settings = (GALLERY_SEED, GALLERY_SIZE, INPUT_SIDE, MARGIN, len(entries), identities_sha256())
    name = hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:12]
    folder = out / f"gallery-{name}"
    features = np.concatenate(list(chunk_features(library, entries, encoder, folder)))
    rows = np.array([entry.row for entry in entries])
    identities, identity_of = np.unique([identity[row] for row in rows], return_inverse=True)
    return Gallery(
        features=features,
        rows=rows,
        views=view_vectors(library, rows),
        identities=identities.tolist(),
        identity_of=identity_of,
    )
