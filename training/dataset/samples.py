"""From a position to a training sample: which picture, which references, which conditions remain.

Everything random is a function of (seed, position).
# Shapes: N subject slots, L text tokens (77), P patch tokens, c latent channels, h x w latents,
# R resolution, S reference size.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from subject_diffusion_core.area_resize import area_resize
from subject_diffusion_core.location_mask import boxes_to_location_mask, masks_to_location_mask
from subject_diffusion_core.prompts import ChunkTokens, build_chunk, build_prompt

from ..bases.vision import VisionShape
from ..networks.text import END_TOKEN, START_TOKEN, encode_words
from ..recipes.configuration import LATENT_DOWNSCALE, TrainingRecipe
from .catalogue import Catalogue
from .framing import frame
from .layout import BadSample, Entity, TrainingSample, decode_sample
from .order import SampleOrder
from .references import Augmentation, reference_picture

MAX_SUBSTITUTES = 50
words_of = lru_cache(maxsize=100_000)(lambda text: tuple(encode_words(text)))


@dataclass(frozen=True, kw_only=True)
class Item:
    """One sample, ready to be stacked.

    Attributes:
        tensors: see :meth:`SubjectDataset.tensors_of`.
        name: shard and key. skipped: (name, reason) of samples it stands in for.
    """

    tensors: dict[str, Tensor]
    name: str
    skipped: list[tuple[str, str]]


class SubjectDataset(Dataset[Item]):
    """Samples by position in the run's order.

    Latents and reference tokens come from the shards' features where those hold them, otherwise
    pictures are given for the loop to encode.

    Args:
        pad_token_id: the base's.
        plain: no dropped conditions, no augmentation (sample sheets).
    """

    def __init__(
        self,
        catalogue: Catalogue,
        recipe: TrainingRecipe,
        vision: VisionShape,
        pad_token_id: int,
        *,
        plain: bool = False,
    ) -> None:
        self.catalogue = catalogue
        self.recipe = recipe
        self.vision = vision
        self.pad_token_id = pad_token_id
        self.plain = plain
        self.use_latents = "latents" in catalogue.features
        self.use_tokens = "tokens" in catalogue.features
        self.order = SampleOrder(catalogue.counts, recipe.shuffle_shards, recipe.seed)
        self.latent_size = recipe.resolution // LATENT_DOWNSCALE
        self.augmentation = Augmentation(
            flip=recipe.flip, rotation=recipe.rotation, perspective=recipe.perspective
        )

    def __getitem__(self, position: int) -> Item:
        rng = np.random.default_rng((self.recipe.seed, 3, position))
        skipped: list[tuple[str, str]] = []
        place = self.order[position]
        for _ in range(MAX_SUBSTITUTES):
            try:
                tensors = self.tensors_of(*place, rng, skipped)
                return Item(tensors=tensors, name=self.catalogue.name(*place), skipped=skipped)
            except BadSample as reason:
                skipped.append((self.catalogue.name(*place), str(reason)))
                place = self.order.any_sample(rng)
        name, reason = skipped[-1]
        raise ValueError(
            f"--data: expected usable samples, got {MAX_SUBSTITUTES} unusable ones in a row, the "
            f"last {name}: {reason}. Check the shards."
        )

    def read(self, shard: int, row: int, with_picture: bool) -> TrainingSample:
        """A decoded sample, framed to the resolution if it comes with its picture."""
        key, raw = self.catalogue.read(shard, row)
        sample = decode_sample(key, raw, with_picture)
        if sample.image is None:
            return sample
        image, entities = frame(sample.image, sample.entities, self.recipe.resolution)
        if (self.use_latents or self.use_tokens) and image is not sample.image:
            raise BadSample("picture of another size than its features")
        return TrainingSample(
            key=key, caption=sample.caption, entities=entities, image=image,
            features=sample.features,
        )  # fmt: skip

    def tensors_of(
        self, shard: int, row: int, rng: np.random.Generator, skipped: list[tuple[str, str]]
    ) -> dict[str, Tensor]:
        """token_ids (L,), placeholder_positions, label_positions (N,), text_valid, subject_valid,
        map_valid (N,), subject_boxes_xyxy (N, 4), subject_segmaps (N, h, w), location_mask
        (1, h, w); latents (c, h, w) or pixels (3, R, R) in -1..1; patch_embeds (N, P, C) and
        image_embeds (N, E), or references (N, 3, S, S) in 0..1.
        """
        sample = self.read(shard, row, not (self.use_latents and self.use_tokens))
        slots = self.recipe.num_subjects
        chosen = sorted(rng.permutation(len(sample.entities))[:slots].tolist())
        entities = [sample.entities[index] for index in chosen]
        has_text, has_image = (True, True) if self.plain else self.draw_case(rng)
        templated = has_text and has_image
        chunk = self.tokens(sample.caption if has_text else "", entities if templated else [])
        present = torch.arange(slots) < len(entities)
        tensors = {
            "token_ids": chunk.token_ids,
            "placeholder_positions": chunk.placeholder_positions,
            "label_positions": chunk.label_last_positions,
            "text_valid": present & templated,
            "map_valid": present & templated,
            "subject_valid": present & has_image,
            **self.places(entities, has_image),
        }
        tensors |= self.content(sample)
        views = [self.view(sample, (shard, row), i, e, rng, skipped)
                 for i, e in zip(chosen, entities, strict=True)]  # fmt: skip
        for name in views[0]:
            stacked = torch.stack([view[name] for view in views])
            empty = stacked.new_zeros(slots - len(views), *stacked.shape[1:])
            tensors[name] = torch.cat([stacked, empty])
        return tensors

    def draw_case(self, rng: np.random.Generator) -> tuple[bool, bool]:
        """Whether this sample keeps its text and its subjects."""
        recipe = self.recipe
        draw = rng.random()
        if draw < recipe.drop_both:
            return False, False
        if draw < recipe.drop_both + recipe.drop_text:
            return False, True
        return True, draw >= recipe.drop_both + recipe.drop_text + recipe.drop_image

    def tokens(self, caption: str, entities: list[Entity]) -> ChunkTokens:
        """The paper's template, or the plain caption without entities."""
        try:
            return build_chunk(
                build_prompt(caption, [e.label for e in entities], self.recipe.placeholder),
                words_of,
                num_slots=self.recipe.num_subjects,
                placeholder_token_id=self.recipe.placeholder_token_id,
                start_token_id=START_TOKEN,
                end_token_id=END_TOKEN,
                pad_token_id=self.pad_token_id,
            )
        except ValueError as error:
            raise BadSample("labels too long for the prompt") from error

    def places(self, entities: list[Entity], has_image: bool) -> dict[str, Tensor]:
        """Boxes, segmentations and the location mask."""
        slots, size = self.recipe.num_subjects, self.latent_size
        boxes = torch.zeros(slots, 4)
        segmaps = torch.zeros(slots, size, size)
        for slot, entity in enumerate(entities):
            boxes[slot] = torch.tensor(entity.box_xyxy)
            mask = torch.from_numpy(entity.mask.astype(np.float32))
            segmaps[slot] = area_resize(mask, size, size)
        valid = (torch.arange(slots) < len(entities)) & has_image
        if self.recipe.mask_kind == "box":
            mask = boxes_to_location_mask(boxes[None], valid[None], size, size)
        else:
            mask = masks_to_location_mask(segmaps[None], valid[None], size, size)
        return {
            "subject_boxes_xyxy": boxes,
            "subject_segmaps": segmaps,
            "location_mask": mask[0],
        }

    def content(self, sample: TrainingSample) -> dict[str, Tensor]:
        """Latents where they were computed before, otherwise pixels."""
        if self.use_latents:
            latents = sample.features.get("latents")
            if latents is None or latents.shape[-1] != self.latent_size:
                raise BadSample("latents missing or of another size")
            return {"latents": latents.float()}
        assert sample.image is not None
        pixels = torch.from_numpy(np.array(sample.image)).permute(2, 0, 1)
        return {"pixels": pixels.float().div(127.5).sub(1)}

    def view(
        self,
        sample: TrainingSample,
        place: tuple[int, int],
        index: int,
        entity: Entity,
        rng: np.random.Generator,
        skipped: list[tuple[str, str]],
    ) -> dict[str, Tensor]:
        """One subject's reference: from another picture of it where there is one."""
        others = [
            view for view in self.catalogue.views.get(entity.identity, []) if view[:2] != place
        ]
        if others and rng.random() >= self.recipe.same_view:
            shard, row, number = others[int(rng.integers(len(others)))]
            try:
                other = self.read(shard, row, not self.use_tokens)
                return self.reference_of(other, number, rng)
            except (BadSample, IndexError) as reason:
                skipped.append((self.catalogue.name(shard, row), f"as a reference: {reason}"))
        return self.reference_of(sample, index, rng)

    def reference_of(
        self, sample: TrainingSample, index: int, rng: np.random.Generator
    ) -> dict[str, Tensor]:
        """Features of a subject, one of its variants; or its picture, augmented."""
        if self.use_tokens:
            patches: Any = sample.features.get("patch_embeds")
            if patches is None or tuple(patches.shape[2:]) != (
                self.vision.num_patches, self.vision.patch_dim,
            ):  # fmt: skip
                raise BadSample("patch tokens missing or of another size")
            variant = 0 if self.plain else int(rng.integers(patches.shape[1]))
            return {
                "patch_embeds": patches[index, variant].float(),
                "image_embeds": sample.features["image_embeds"][index, variant].float(),
            }
        assert sample.image is not None
        size, turned = self.vision.reference_size, None if self.plain else rng
        mask = sample.entities[index].mask
        return {
            "references": reference_picture(sample.image, mask, size, turned, self.augmentation)
        }
