"""Makes a row's pictures batch by batch, and keeps them, so that an interrupted run goes on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..methods.subject_diffusion.sampling import SamplingRule
from ..runs import save_array
from ..toy.data.library import Library
from ..toy.files import ADAPTER_NAME, BASE_NAME
from .generation import Generator, load_generator
from .queries import Query
from .rows import Row, generation_request, paste_subjects, real_composite, through_autoencoder

# Shapes: Q queries, H picture side (128).


@dataclass(frozen=True, kw_only=True)
class SamplingSettings:
    """How pictures are generated; all of it is printed with the table."""

    steps: int = 20
    text_guidance_scale: float = 4.0
    image_guidance_scale: float = 5.0
    text_only_guidance_scale: float = 3.0
    precision: str = "float32"
    batch_size: int = 32


class PictureMaker:
    """Turns queries into pictures for every kind of row; weights are loaded when first needed."""

    def __init__(self, library: Library, weights: Path, settings: SamplingSettings) -> None:
        self.library = library
        self.weights = weights
        self.settings = settings

    @cached_property
    def generator(self) -> Generator:
        """The full model."""
        rule = SamplingRule(
            steps=self.settings.steps,
            text_guidance_scale=self.settings.text_guidance_scale,
            image_guidance_scale=self.settings.image_guidance_scale,
        )
        return load_generator(self.weights, rule, precision=self.settings.precision)

    @cached_property
    def base_generator(self) -> Generator:
        """The base model alone."""
        scale = self.settings.text_only_guidance_scale
        rule = SamplingRule(steps=self.settings.steps, text_guidance_scale=scale)
        precision = self.settings.precision
        return load_generator(self.weights, rule, use_adapter=False, precision=precision)

    def make(self, row: Row, queries: Sequence[Query]) -> np.ndarray:
        """Pictures (Q, H, H, 3) uint8 of one batch."""
        if row.source in ("real", "real_vae"):
            pictures = [real_composite(self.library, query) for query in queries]
            if row.source == "real_vae":
                return through_autoencoder(self.generator.autoencoder, pictures)
            return np.stack(pictures)
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
        digest = hashlib.sha256()
        for name in (BASE_NAME, ADAPTER_NAME):
            digest.update((self.weights / name).read_bytes())
        return digest.hexdigest()

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
    path.parent.mkdir(parents=True, exist_ok=True)
    for start in tqdm(range(len(done), len(queries), batch_size), desc=path.stem, unit=" batches"):
        done += list(make(queries[start : start + batch_size]))
        save_array(path, np.stack(done))
    return np.stack(done)
