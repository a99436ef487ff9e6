"""Batches of the diffusion stages: which sample, which reference, which conditions are dropped.

# Shapes: B batch, N subject slots, L text tokens (77), P patch tokens, h x w latents.
Every batch is a function of (seed, step) alone, so a resumed run sees the same data.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from subject_diffusion_core.files.adapter_config import AdapterConfig
from subject_diffusion_core.location_mask import boxes_to_location_mask
from subject_diffusion_core.prompts import ChunkTokens, build_chunk, build_prompt

from ..methods.subject_diffusion.model import Conditioning
from ..networks.text import END_TOKEN, START_TOKEN, CompactVocabulary, encode_words
from .latents import LATENT_SIZE, CompositeTable
from .recipe import DiffusionRecipe
from .references import ReferenceTable

PLACEHOLDER_TOKEN_ID = AdapterConfig.placeholder_token_id
FEW_SUBJECTS = 2
UNKNOWN_TOKEN_ID = 0  # "!" is in no caption: outside the vocabulary, hence the unknown row

cached_encode_words = lru_cache(maxsize=None)(lambda text: tuple(encode_words(text)))


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What one training step needs.

    Attributes:
        latents: (B, c, h, w). conditioning: see :class:`Conditioning`.
        subject_segmaps: (B, N, h, w) in 0..1, the visible part of each subject.
        map_valid: (B, N) bool, subjects whose text tokens take part in the map loss.
    """

    latents: Tensor
    conditioning: Conditioning
    subject_segmaps: Tensor
    map_valid: Tensor

    def to(self, device: torch.device) -> Batch:
        """The batch on ``device``; dtypes stay."""
        return Batch(
            latents=self.latents.to(device),
            conditioning=self.conditioning.to(device, self.latents.dtype),
            subject_segmaps=self.subject_segmaps.to(device),
            map_valid=self.map_valid.to(device),
        )


def template_chunk(
    prompt: str,
    labels: list[str],
    num_slots: int,
    encode: Callable[[str], Any] = cached_encode_words,
) -> ChunkTokens:
    """Token ids and positions of the template with ``labels``."""
    return build_chunk(
        build_prompt(prompt, labels),
        encode,
        num_slots=num_slots,
        placeholder_token_id=PLACEHOLDER_TOKEN_ID,
        start_token_id=START_TOKEN,
        end_token_id=END_TOKEN,
        pad_token_id=END_TOKEN,
    )


def plain_chunk(prompt: str, num_slots: int) -> ChunkTokens:
    """Token ids of a prompt without the template; an empty prompt is the unconditional text."""
    return template_chunk(prompt, [], num_slots)


def corpus_vocabulary(table: CompositeTable, extra_texts: list[str]) -> CompactVocabulary:
    """Every CLIP id that captions, the template and ``extra_texts`` use."""
    texts = {*table.captions, *extra_texts, "the", "is", ","}
    texts |= {label for labels in table.labels for label in labels}
    ids = {token for text in texts for token in cached_encode_words(text)}
    return CompactVocabulary(ids | {PLACEHOLDER_TOKEN_ID})


class BatchMaker:
    """Draws batches from the precomputed tables."""

    def __init__(
        self,
        composites: CompositeTable,
        references: ReferenceTable,
        cutouts: list[dict[str, Any]],
        vocabulary: CompactVocabulary,
        recipe: DiffusionRecipe,
        num_subjects: int,
    ) -> None:
        self.composites = composites
        self.references = references
        self.vocabulary = vocabulary
        self.recipe = recipe
        self.num_subjects = num_subjects
        views: dict[str, list[int]] = {}
        for index, cutout in enumerate(cutouts):
            views.setdefault(cutout["identity"], []).append(index)
        self.views_of = [views[cutout["identity"]] for cutout in cutouts]
        counts = (composites.cutout >= 0).sum(1)
        self.few = np.flatnonzero(counts <= FEW_SUBJECTS)
        self.crowded = np.flatnonzero(counts > FEW_SUBJECTS)

    def reference_row(self, cutout: int, rng: np.random.Generator) -> int:
        """A reference row of the same identity: the pasted view itself, or another one."""
        others = [view for view in self.views_of[cutout] if view != cutout]
        if not others or rng.random() < self.recipe.same_view:
            others = [cutout]
        rows = self.references.rows[others[rng.integers(len(others))]]
        return rows[rng.integers(len(rows))]

    def draw_case(self, rng: np.random.Generator) -> str:
        """Which conditions this sample keeps: full, image, text, none, base or base_none."""
        recipe = self.recipe
        if rng.random() < recipe.base_only:
            return "base_none" if rng.random() < 0.15 else "base"
        shares = (recipe.drop_text, recipe.drop_image, recipe.drop_both)
        return str(rng.choice(["image", "text", "none", "full"], p=[*shares, 1 - sum(shares)]))

    def text_of(self, index: int, case: str, slots: int, rng: np.random.Generator) -> ChunkTokens:
        """Tokens for a case; labels become the unknown word now and then, so that looks decide."""
        if case in ("image", "none", "base_none"):
            return plain_chunk("", slots)
        caption, labels = self.composites.captions[index], self.composites.labels[index]
        if case in ("text", "base"):
            return plain_chunk(caption, slots)
        chunk = template_chunk(caption, labels, slots)
        if rng.random() < self.recipe.unknown_label:
            hidden = {t for label in labels for t in cached_encode_words(label)}
            keep = torch.tensor([int(t) not in hidden for t in chunk.token_ids])
            return ChunkTokens(
                token_ids=torch.where(keep, chunk.token_ids, UNKNOWN_TOKEN_ID),
                placeholder_positions=chunk.placeholder_positions,
                label_last_positions=chunk.label_last_positions,
                num_cut_tokens=chunk.num_cut_tokens,
            )
        return chunk

    def draw_indices(self, rng: np.random.Generator) -> tuple[np.ndarray, int]:
        """Samples of a batch, and its number of slots.

        Most batches have pictures of few subjects and as few slots, which is cheaper than all
        slots in every batch; the others are half crowded pictures, half any.
        """
        size = self.recipe.batch_size
        if len(self.crowded) == 0 or rng.random() >= self.recipe.crowded_share:
            slots = min(FEW_SUBJECTS, self.num_subjects)
            return self.few[rng.integers(len(self.few), size=size)], slots
        crowded = self.crowded[rng.integers(len(self.crowded), size=size // 2)]
        others = rng.integers(len(self.composites.captions), size=size - size // 2)
        return np.concatenate([crowded, others]), self.num_subjects

    def draw(self, step: int) -> Batch:
        """The batch of ``step``."""
        rng = np.random.default_rng((self.recipe.seed, step))
        indices, slots = self.draw_indices(rng)
        cases = [self.draw_case(rng) for _ in indices]
        chunks = [self.text_of(i, case, slots, rng) for i, case in zip(indices, cases, strict=True)]
        cutouts = self.composites.cutout[indices, :slots]
        rows = np.array(
            [[self.reference_row(c, rng) if c >= 0 else 0 for c in row] for row in cutouts]
        )
        present = torch.from_numpy(cutouts >= 0)
        has_image = torch.tensor([case in ("full", "image") for case in cases])[:, None]
        has_template = torch.tensor([case == "full" for case in cases])[:, None]
        valid = present & has_image
        boxes = torch.from_numpy(self.composites.boxes_xyxy[indices, :slots])
        adapted = torch.tensor([not case.startswith("base") for case in cases])
        conditioning = Conditioning(
            token_ids=self.vocabulary.compact(torch.stack([c.token_ids for c in chunks])),
            placeholder_positions=torch.stack([c.placeholder_positions for c in chunks]),
            label_positions=torch.stack([c.label_last_positions for c in chunks]),
            text_valid=present & has_template,
            subject_valid=valid,
            subject_boxes_xyxy=boxes,
            patch_embeds=torch.from_numpy(self.references.patch_embeds[rows]).float(),
            image_embeds=torch.from_numpy(self.references.image_embeds[rows]),
            location_mask=boxes_to_location_mask(boxes, valid, LATENT_SIZE, LATENT_SIZE),
            adapter_scale=adapted.float().reshape(-1, 1, 1),
        )
        return Batch(
            latents=torch.from_numpy(self.composites.latents[indices]).float(),
            conditioning=conditioning,
            subject_segmaps=torch.from_numpy(self.composites.segmaps[indices, :slots]).float()
            / 255,
            map_valid=present & has_template,
        )
