"""Pictures from the two files of the small model, for given prompts, references and boxes.

# Shapes: B batch, N subject slots, P patch tokens, c latent channels, h x w latents.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from subject_diffusion_core import checkpoint
from subject_diffusion_core.location_mask import boxes_to_location_mask
from subject_diffusion_core.prompts import ChunkTokens

from ..bases.base_model import BaseModel
from ..bases.encoders import FrozenEncoders, decode_latents, to_pictures
from ..bases.loading import read_tiny_base
from ..bases.vision import VisionEncoder, load_vision, vision_shape
from ..dataset.samples import template_chunk
from ..methods.conditioning import Conditioning
from ..methods.subject_diffusion.assembly import build_model
from ..methods.subject_diffusion.model import SubjectDiffusionModel
from ..methods.subject_diffusion.sampling import (
    Sampler,
    SamplingRule,
    three_branches,
    two_branches,
)
from ..recipes import TrainingRecipe, recipe_named
from ..recipes.configuration import LATENT_DOWNSCALE
from ..toy.files import ADAPTER_NAME, BASE_NAME, recipe_of_file


@dataclass(frozen=True, kw_only=True)
class SubjectRequest:
    """One subject: its reference picture on white, (S, S, 3) uint8, its label and box (0..1)."""

    reference: np.ndarray
    label: str
    box_xyxy: tuple[float, float, float, float]


@dataclass(frozen=True, kw_only=True)
class GenerationRequest:
    """One picture to generate. No subjects: the base model's plain text-to-image."""

    prompt: str
    subjects: tuple[SubjectRequest, ...]
    seed: int


class Generator:
    """Generates pictures with a trained model.

    Args:
        model, base, vision: the parts of the trained model.
        recipe: its options; without adapter and CLS the base's two branches are used.
    """

    def __init__(
        self,
        model: SubjectDiffusionModel,
        base: BaseModel,
        vision: VisionEncoder,
        recipe: TrainingRecipe,
        rule: SamplingRule,
    ) -> None:
        self.model, self.recipe, self.base = model.eval(), recipe, base
        self.autoencoder, self.vision = base.load_vae(), vision
        self.sampler = Sampler(self.model, base.prediction_type, rule)

    @property
    def reference_size(self) -> int:
        """Side of the reference pictures."""
        return self.model.shape.reference_size

    @torch.no_grad()
    def __call__(self, requests: Sequence[GenerationRequest]) -> np.ndarray:
        """Pictures (B, H, W, 3) uint8, one per request."""
        return to_pictures(decode_latents(self.autoencoder, self.latents(requests)))

    @torch.no_grad()
    def latents(self, requests: Sequence[GenerationRequest]) -> Tensor:
        """The pictures before they are decoded, (B, c, h, w)."""
        side = self.recipe.resolution // LATENT_DOWNSCALE
        size = (self.base.latent_channels, side, side)
        noise = torch.stack(
            [torch.randn(size, generator=torch.Generator().manual_seed(r.seed)) for r in requests]
        )
        full = self.conditioning(requests)
        empty = self.chunk("", []).token_ids
        branches = three_branches(full, empty)
        if not self.recipe.has_references:
            plain = torch.stack([self.chunk(r.prompt, []).token_ids for r in requests])
            branches = two_branches(full, plain, empty)
        return self.sampler(branches, noise)

    def chunk(self, prompt: str, labels: list[str]) -> ChunkTokens:
        """Token ids and positions of the template with ``labels``."""
        recipe, pad = self.recipe, self.base.pad_token_id
        return template_chunk(recipe, pad, prompt, labels, recipe.num_subjects)

    def conditioning(self, requests: Sequence[GenerationRequest]) -> Conditioning:
        """Conditioning of the full branch."""
        batch, slots, size = len(requests), self.recipe.num_subjects, self.reference_size
        valid = torch.zeros(batch, slots, dtype=torch.bool)
        boxes = torch.zeros(batch, slots, 4)
        references = torch.zeros(batch, slots, 3, size, size)
        for row, request in enumerate(requests):
            for slot, subject in enumerate(request.subjects):
                valid[row, slot] = True
                boxes[row, slot] = torch.tensor(subject.box_xyxy)
                pixels = torch.from_numpy(np.asarray(subject.reference)).permute(2, 0, 1)
                references[row, slot] = pixels.float() / 255
        chunks = [self.chunk(r.prompt, [s.label for s in r.subjects]) for r in requests]
        side = self.recipe.resolution // LATENT_DOWNSCALE
        conditioning = Conditioning(
            token_ids=torch.stack([c.token_ids for c in chunks]),
            placeholder_positions=torch.stack([c.placeholder_positions for c in chunks]),
            label_positions=torch.stack([c.label_last_positions for c in chunks]),
            text_valid=valid,
            subject_valid=valid,
            subject_boxes_xyxy=boxes,
            **FrozenEncoders(None, self.vision).encode_references(references, valid),
            location_mask=boxes_to_location_mask(boxes, valid, side, side),
            adapter_scale=torch.ones(batch, 1, 1),
        )
        return conditioning.to(torch.device("cpu"), self.sampler.dtype)


def load_generator(
    weights: Path,
    rule: SamplingRule,
    *,
    use_adapter: bool = True,
    precision: str = "float32",
) -> Generator:
    """The generator of the weights in a folder.

    Args:
        weights: folder with ``tiny_base.safetensors`` and ``tiny_adapter.safetensors``.
        use_adapter: False leaves the adapter's weights out: the plain base model.
        precision: of UNet and text encoder, "float32" or "bfloat16".
    """
    base, init = read_tiny_base(weights / BASE_NAME), weights / ADAPTER_NAME
    recipe = recipe_named("text_to_image_tiny")
    if use_adapter:
        recipe = recipe_of_file(checkpoint.load(init).config)
    shape = vision_shape(recipe, base)
    model = build_model(base, recipe, shape, init if use_adapter else None)
    model = model.requires_grad_(False).to(getattr(torch, precision))
    return Generator(model, base, load_vision(None, recipe, base), recipe, rule)
