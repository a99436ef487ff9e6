"""From a position to a training sample: which picture, which references, which conditions remain.

Everything random is a function of (seed, position).
# Shapes: N subject slots, L text tokens (77), P patch tokens, c latent channels, h x w latents,
# R resolution, S reference size.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from subject_diffusion_core.area_resize import area_resize
from subject_diffusion_core.location_mask import boxes_to_location_mask, masks_to_location_mask
from subject_diffusion_core.prompts import ChunkTokens, build_chunk, build_prompt

from ..bases.base_model import BaseModel
from ..bases.vision import VisionShape
from ..networks.text import END_TOKEN, START_TOKEN, encode_words
from ..recipes.configuration import LATENT_DOWNSCALE, TrainingRecipe
from .bad_sample import BadSample
from .catalogue import Catalogue
from .framing import frame
from .layout import Entity, TrainingSample, decode_sample
from .order import CrowdedSteps, SampleOrder
from .reference_pool import ReferencePool
from .references import Augmentation, cut_out, reference_picture

MAX_SUBSTITUTES = 50
LABEL_TOKENS = 16
BASE_WITHOUT_TEXT = 0.15  # of the samples that the base sees alone
UNKNOWN_TOKEN_ID = 0  # "!" is in no caption: outside every compact vocabulary
words_of = lru_cache(maxsize=100_000)(lambda text: tuple(encode_words(text)))


@dataclass(frozen=True, kw_only=True)
class Kept:
    """Which conditions a sample keeps; ``adapter`` False is the base model alone."""

    text: bool = True
    image: bool = True
    adapter: bool = True


@dataclass(frozen=True, kw_only=True)
class Item:
    """One sample, ready to be stacked.

    Attributes:
        position: in the run. tensors: see :meth:`SubjectDataset.tensors_of`.
        name: shard and key. skipped: (name, reason) of samples it stands in for.
    """

    position: int
    tensors: dict[str, Tensor]
    name: str = ""
    skipped: list[tuple[str, str]] = field(default_factory=list)


def template_chunk(
    recipe: TrainingRecipe, pad_token_id: int, caption: str, labels: list[str], slots: int
) -> ChunkTokens:
    """Token ids of CLIP for the paper's template, and where labels and placeholders stand."""
    return build_chunk(
        build_prompt(caption, labels, recipe.placeholder),
        words_of,
        num_slots=slots,
        placeholder_token_id=recipe.placeholder_token_id,
        start_token_id=START_TOKEN,
        end_token_id=END_TOKEN,
        pad_token_id=pad_token_id,
    )


@dataclass(frozen=True, kw_only=True)
class Draw:
    """What one item is drawn with: its randomness, its number of slots, and a list of what could
    not be used, (name, reason)."""

    rng: np.random.Generator
    slots: int
    skipped: list[tuple[str, str]] = field(default_factory=list)


class SubjectDataset(Dataset[Item]):
    """Samples by position in the run's order.

    Latents and reference tokens come from the shards' features where those hold them, otherwise
    pictures are given for the loop to encode.

    Args:
        base: tells the prompts' padding, the vocabulary and the latents' channels.
        plain: no dropped conditions, no augmentation (sample sheets).
    """

    def __init__(
        self,
        catalogue: Catalogue,
        recipe: TrainingRecipe,
        vision: VisionShape,
        base: BaseModel,
        *,
        plain: bool = False,
    ) -> None:
        self.catalogue = catalogue
        self.recipe = recipe
        self.vision = vision
        self.pad_token_id, self.vocabulary = base.pad_token_id, base.vocabulary
        self.latent_channels = base.latent_channels
        self.plain = plain
        self.pool = ReferencePool(catalogue.pool) if catalogue.pool else None
        self.use_latents = "latents" in catalogue.features
        self.use_tokens = "tokens" in catalogue.features or not recipe.has_references
        self.order = SampleOrder(catalogue.counts, recipe.shuffle_shards, recipe.seed)
        self.crowding = None
        if recipe.few_slots and not plain:
            self.crowding = CrowdedSteps(catalogue.num_entities(), recipe)
        self.latent_size = recipe.resolution // LATENT_DOWNSCALE
        self.augmentation = Augmentation(
            flip=recipe.flip, rotation=recipe.rotation, perspective=recipe.perspective
        )

    def __getitem__(self, position: int) -> Item:
        rng = np.random.default_rng((self.recipe.seed, 3, position))
        slots = self.recipe.num_subjects
        if self.crowding is not None:
            slots = self.crowding.slots(position // self.recipe.global_batch_size)
        draw = Draw(rng=rng, slots=slots)
        for attempt in range(MAX_SUBSTITUTES):
            if self.crowding is not None:
                place = self.crowding.sample(position, rng)
            else:
                place = self.order.any_sample(rng) if attempt else self.order[position]
            name = self.catalogue.name(*place)
            try:
                tensors = self.tensors_of(*place, draw)
                return Item(position=position, tensors=tensors, name=name, skipped=draw.skipped)
            except BadSample as reason:
                draw.skipped.append((name, str(reason)))
        name, why = draw.skipped[-1]
        raise ValueError(
            f"--data: expected usable samples, got {MAX_SUBSTITUTES} unusable ones in a row, the "
            f"last {name}: {why}. Check the shards."
        )

    def read(self, shard: int, row: int, with_picture: bool) -> TrainingSample:
        """A decoded sample, framed to the resolution if it comes with its picture."""
        key, raw = self.catalogue.read(shard, row)
        sample = decode_sample(key, raw, with_picture)
        if sample.image is None:
            return sample
        image, entities = frame(sample.image, sample.entities, self.recipe.resolution)
        if sample.features is not None and image is not sample.image:
            raise BadSample("picture of another size than its features")
        return replace(sample, entities=entities, image=image)

    def tensors_of(self, shard: int, row: int, draw: Draw) -> dict[str, Tensor]:
        """token_ids (L,), placeholder_positions, label_positions (N,), text_valid, subject_valid,
        map_valid (N,), subject_boxes_xyxy (N, 4), subject_segmaps (N, h, w), location_mask
        (1, h, w), adapter_scale (); latents (c, h, w) or pixels (3, R, R) in -1..1; patch_embeds
        (N, P, C) and image_embeds (N, E), or references (N, 3, S, S) in 0..1; label_token_ids
        (N, LABEL_TOKENS) for MS-Diffusion. N is the draw's slots.
        """
        sample = self.read(shard, row, not (self.use_latents and self.use_tokens))
        rng, slots = draw.rng, draw.slots
        chosen = sorted(rng.permutation(len(sample.entities))[:slots].tolist())
        entities = [sample.entities[index] for index in chosen]
        kept = Kept() if self.plain else self.draw_kept(rng)
        templated = kept.text and kept.image and self.recipe.method == "subject_diffusion"
        hides = templated and not self.plain and self.recipe.unknown_label > 0
        hidden = hides and rng.random() < self.recipe.unknown_label
        caption = sample.caption if kept.text else ""
        chunk = self.tokens(caption, entities if templated else [], slots, hidden)
        present = torch.arange(slots) < len(entities)
        tensors = {
            "token_ids": chunk.token_ids,
            "placeholder_positions": chunk.placeholder_positions,
            "label_positions": chunk.label_last_positions,
            "text_valid": present & templated,
            "map_valid": present & templated,
            "subject_valid": present & kept.image,
            "adapter_scale": torch.tensor(float(kept.adapter)),
            **self.places(entities, kept.image, slots),
        }
        if self.recipe.method == "ms_diffusion":
            tensors["label_token_ids"] = self.labels(entities, slots)
        if self.use_latents:
            tensors["latents"] = self.latents(sample)
        else:
            pixels = torch.from_numpy(np.array(sample.pixels)).permute(2, 0, 1)
            tensors["pixels"] = pixels.float().div(127.5).sub(1)
        if not self.recipe.has_references:
            return tensors
        views = [self.view(sample, (shard, row), i, e, draw)
                 for i, e in zip(chosen, entities, strict=True)]  # fmt: skip
        for name in views[0]:
            stacked = torch.stack([view[name] for view in views])
            empty = stacked.new_zeros(slots - len(views), *stacked.shape[1:])
            tensors[name] = torch.cat([stacked, empty])
        return tensors

    def draw_kept(self, rng: np.random.Generator) -> Kept:
        """Whether this sample keeps its text, its subjects and the adapters."""
        recipe = self.recipe
        if recipe.base_only and rng.random() < recipe.base_only:
            return Kept(text=rng.random() >= BASE_WITHOUT_TEXT, image=False, adapter=False)
        draw = rng.random()
        if draw < recipe.drop_both:
            return Kept(text=False, image=False)
        if draw < recipe.drop_both + recipe.drop_text:
            return Kept(text=False)
        return Kept(image=draw >= recipe.drop_both + recipe.drop_text + recipe.drop_image)

    def tokens(
        self, caption: str, entities: list[Entity], slots: int | None = None, hidden: bool = False
    ) -> ChunkTokens:
        """The paper's template, or the plain caption without entities; ``hidden`` labels become
        the unknown word wherever they stand."""
        chunk = self.chunk(caption, entities, slots or self.recipe.num_subjects)
        ids = chunk.token_ids
        if hidden:
            words = {token for entity in entities for token in words_of(entity.label)}
            seen = torch.tensor([int(token) not in words for token in ids])
            ids = torch.where(seen, ids, UNKNOWN_TOKEN_ID)
        if self.vocabulary is not None:
            ids = self.vocabulary.compact(ids)
        return replace(chunk, token_ids=ids)

    def chunk(self, caption: str, entities: list[Entity], slots: int) -> ChunkTokens:
        """Token ids of CLIP, and where labels and placeholders stand."""
        labels = [entity.label for entity in entities]
        try:
            return template_chunk(self.recipe, self.pad_token_id, caption, labels, slots)
        except ValueError as error:
            raise BadSample("labels too long for the prompt") from error

    def labels(self, entities: list[Entity], slots: int) -> Tensor:
        """(N, LABEL_TOKENS) each label alone. Text encoders are causal: nothing behind the end
        token is needed."""
        rows = [self.chunk(entity.label, [], slots).token_ids[:LABEL_TOKENS] for entity in entities]
        if any(END_TOKEN not in row for row in rows):
            raise BadSample("label too long")
        rows += [torch.full((LABEL_TOKENS,), END_TOKEN)] * (slots - len(rows))
        ids = torch.stack(rows)
        return ids if self.vocabulary is None else self.vocabulary.compact(ids)

    def places(self, entities: list[Entity], has_image: bool, slots: int) -> dict[str, Tensor]:
        """Boxes, segmentations and the location mask."""
        size = self.latent_size
        boxes = torch.zeros(slots, 4)
        segmaps = torch.zeros(slots, size, size)
        if entities:
            boxes[: len(entities)] = torch.tensor([entity.box_xyxy for entity in entities])
            masks = torch.from_numpy(np.stack([entity.mask for entity in entities])).float()
            segmaps[: len(entities)] = self.cell_means(masks)
        valid = (torch.arange(slots) < len(entities)) & has_image
        if self.recipe.mask_kind == "box":
            mask = boxes_to_location_mask(boxes[None], valid[None], size, size)
        else:
            mask = masks_to_location_mask(segmaps[None], valid[None], size, size)
        named = {"subject_boxes_xyxy": boxes, "subject_segmaps": segmaps}
        return {**named, "location_mask": mask[0]}

    def cell_means(self, masks: Tensor) -> Tensor:
        """Masks (N, H, W) to (N, h, w): the mean of each latent cell."""
        if masks.shape[-1] == masks.shape[-2] == self.recipe.resolution:
            return F.avg_pool2d(masks, LATENT_DOWNSCALE)  # the same numbers, four times as fast
        return area_resize(masks, self.latent_size, self.latent_size)

    def latents(self, sample: TrainingSample) -> Tensor:
        """The stored latents (c, h, w), of the size and channels of the others."""
        shape = () if sample.features is None else sample.features.shape("latents")
        if len(shape) != 3 or shape[1:] != (self.latent_size, self.latent_size):
            raise BadSample("latents missing or of another size")
        if shape[0] != self.latent_channels:
            raise BadSample(f"latents of {shape[0]} channels")
        assert sample.features is not None
        return sample.features.tensor("latents")

    def view(
        self,
        sample: TrainingSample,
        place: tuple[int, int],
        index: int,
        entity: Entity,
        draw: Draw,
    ) -> dict[str, Tensor]:
        """One subject's reference: from another picture of it where there is one."""
        rng = draw.rng
        if self.pool is not None:
            same_view = 1.0 if self.plain else self.recipe.same_view
            return self.pool.draw(entity.cutout, same_view, rng)
        views = self.catalogue.views.get(entity.identity, [])
        others = [view for view in views if view[:2] != place]
        if others and rng.random() >= self.recipe.same_view:
            shard, row, number = others[int(rng.integers(len(others)))]
            try:
                other = self.read(shard, row, not self.use_tokens)
                return self.reference_of(other, number, rng)
            except (BadSample, IndexError) as reason:
                draw.skipped.append((self.catalogue.name(shard, row), f"as a reference: {reason}"))
        return self.reference_of(sample, index, rng)

    def reference_of(
        self, sample: TrainingSample, index: int, rng: np.random.Generator
    ) -> dict[str, Tensor]:
        """One of the stored variants of a subject's features; or its picture, augmented."""
        if not self.use_tokens:
            size, turned = self.vision.reference_size, None if self.plain else rng
            cut = cut_out(sample.pixels, sample.entities[index].mask)
            return {"references": reference_picture(cut, size, turned, self.augmentation)}
        features = sample.features
        shape = () if features is None else features.shape("patch_embeds")
        if features is None or shape[2:] != (self.vision.num_patches, self.vision.patch_dim):
            raise BadSample("patch tokens missing or of another size")
        if shape[1] == 0 or features.shape("image_embeds")[2:] != (self.vision.image_embed_dim,):
            raise BadSample("image embeddings missing or of another size")
        variant = 0 if self.plain else int(rng.integers(shape[1]))
        return {
            "patch_embeds": features.tensor("patch_embeds", index, variant),
            "image_embeds": features.tensor("image_embeds", index, variant),
        }
