"""A row's pictures for given queries, made batch by batch and kept: an interrupted run goes on.

# Shapes: Q queries, H picture side (128).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from ..bases.base_model import Autoencoder
from ..bases.encoders import decode_latents, encode_latents, to_pictures, to_pixels
from ..methods.subject_diffusion.sampling import SamplingRule
from ..runs import save_array
from ..toy.data.compose import Composite, compose
from ..toy.data.library import Library
from ..toy.data.pictures import reference_image
from ..toy.files import ADAPTER_NAME, BASE_NAME
from .generation import GenerationRequest, Generator, SubjectRequest, load_generator
from .queries import Box, Query
from .rows import Row, SamplingSettings, Source


def generation_request(
    library: Library, query: Query, source: Source, reference_size: int
) -> GenerationRequest:
    """What the sampler is given for a query; text only gives the prompt alone."""
    subjects = () if source.startswith("text_only") else query.subjects
    rows = [s.shuffled_row if source == "shuffled" else s.reference_row for s in subjects]
    return GenerationRequest(
        prompt=query.prompt,
        subjects=tuple(
            SubjectRequest(
                reference=reference_image(np.asarray(library.cutouts[row]), reference_size),
                label=subject.label,
                box_xyxy=subject.box_xyxy,
            )
            for row, subject in zip(rows, subjects, strict=True)
        ),
        seed=query.seed,
    )


def contained_box(box_px: Box, width: int, height: int) -> Box:
    """The largest box of aspect ``width`` : ``height`` inside ``box_px``, centred in it.

    >>> contained_box((0, 0, 40, 20), 10, 10)
    (10, 0, 30, 20)
    """
    x1, y1, x2, y2 = box_px
    scale = min((x2 - x1) / width, (y2 - y1) / height)
    new_width, new_height = max(2, round(width * scale)), max(2, round(height * scale))
    left, top = x1 + (x2 - x1 - new_width) // 2, y1 + (y2 - y1 - new_height) // 2
    return left, top, left + new_width, top + new_height


def pasted_boxes(library: Library, query: Query) -> list[Box]:
    """Where :func:`paste_subjects` puts the query's subjects, in pixels."""
    cutouts = [library.cutout(subject.target_row) for subject in query.subjects]
    return [
        contained_box(subject.box_px, cutout.width, cutout.height)
        for subject, cutout in zip(query.subjects, cutouts, strict=True)
    ]


def composite_with(library: Library, query: Query, background: np.ndarray) -> Composite:
    """The right subjects, from other views, pasted into the boxes of a picture (H, H, 3) uint8."""
    cutouts = [library.cutout(subject.target_row) for subject in query.subjects]
    boxes_px, flipped = pasted_boxes(library, query), [False] * len(cutouts)
    rng = np.random.default_rng(query.seed)
    return compose(cutouts, background, query.scene, rng, boxes_px=boxes_px, flipped=flipped)


def paste_subjects(library: Library, query: Query, background: np.ndarray) -> np.ndarray:
    """The picture (H, H, 3) uint8 of :func:`composite_with`."""
    return composite_with(library, query, background).image


def real_composite(library: Library, query: Query) -> np.ndarray:
    """The right subjects in a photograph of the scene: (H, H, 3) uint8."""
    return paste_subjects(library, query, np.asarray(library.backgrounds[query.background_row]))


@torch.no_grad()
def through_autoencoder(autoencoder: Autoencoder, pictures: np.ndarray) -> np.ndarray:
    """Pictures (Q, H, H, 3) uint8, encoded and decoded."""
    latents = encode_latents(autoencoder, to_pixels(pictures))
    return to_pictures(decode_latents(autoencoder, latents))


class PictureMaker:
    """Turns queries into pictures for every kind of row; weights are loaded when first needed."""

    def __init__(self, library: Library, weights: Path, settings: SamplingSettings) -> None:
        self.library, self.weights, self.settings = library, weights, settings

    def _load(self, text_guidance_scale: float, use_adapter: bool) -> Generator:
        rule = SamplingRule(
            steps=self.settings.steps,
            text_guidance_scale=text_guidance_scale,
            image_guidance_scale=self.settings.image_guidance_scale,
        )
        precision = self.settings.precision
        return load_generator(self.weights, rule, use_adapter=use_adapter, precision=precision)

    @cached_property
    def generator(self) -> Generator:
        """The full model."""
        return self._load(self.settings.text_guidance_scale, True)

    @cached_property
    def base_generator(self) -> Generator:
        """The base model alone."""
        return self._load(self.settings.text_only_guidance_scale, False)

    def all_of(self, row: Row, queries: Sequence[Query], folder: Path) -> np.ndarray:
        """Pictures (Q, H, H, 3) uint8 of a row, kept in ``folder``."""
        path = folder / f"{row.name}-{self.fingerprint(row, queries)}.npy"
        size = self.settings.batch_size
        return cached_pictures(path, queries, lambda batch: self.make(row, batch), size)

    @torch.no_grad()
    def make(self, row: Row, queries: Sequence[Query]) -> np.ndarray:
        """Pictures (Q, H, H, 3) uint8 of one batch."""
        if row.source in ("real", "real_vae"):
            pictures = np.stack([real_composite(self.library, query) for query in queries])
            if row.source == "real":
                return pictures
            return through_autoencoder(self.generator.autoencoder, pictures)
        text_only = row.source.startswith("text_only")
        generator = self.base_generator if text_only else self.generator
        size = generator.reference_size
        generated = generator(
            [generation_request(self.library, query, row.source, size) for query in queries]
        )
        if row.source != "text_only_pasted":
            return generated
        pairs = zip(queries, generated, strict=True)
        return np.stack([paste_subjects(self.library, query, image) for query, image in pairs])

    @cached_property
    def weights_sha256(self) -> str:
        """Hash of both weight files."""
        files = (self.weights / name for name in (BASE_NAME, ADAPTER_NAME))
        return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()

    @cached_property
    def base_sha256(self) -> str:
        """Hash of the base's file."""
        return hashlib.sha256((self.weights / BASE_NAME).read_bytes()).hexdigest()

    def dependencies(self, row: Row) -> list[object]:
        """What a row's pictures depend on, besides its queries: weights and settings."""
        settings = self.settings
        if row.source == "real":
            return []
        if row.source == "real_vae":
            return [self.base_sha256]  # the autoencoder is always float32
        sampling = [settings.precision, settings.steps]
        if row.source.startswith("text_only"):
            return [self.base_sha256, *sampling, settings.text_only_guidance_scale]
        scales = [settings.text_guidance_scale, settings.image_guidance_scale]
        return [self.weights_sha256, *sampling, *scales]

    def fingerprint(self, row: Row, queries: Sequence[Query]) -> str:
        """Names what a row's pictures depend on."""
        asked = [asdict(query) for query in queries]
        parts = [row.source, asked, *self.dependencies(row)]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]


def cached_pictures(
    path: Path,
    queries: Sequence[Query],
    make: Callable[[Sequence[Query]], np.ndarray],
    batch_size: int,
) -> np.ndarray:
    """All pictures (Q, H, H, 3) of ``queries``; after every batch they are stored at ``path``."""
    done = list(np.load(path)) if path.exists() else []
    for start in tqdm(range(len(done), len(queries), batch_size), desc=path.stem, unit=" batches"):
        done += list(make(queries[start : start + batch_size]))
        save_array(path, np.stack(done))
    return np.stack(done)
