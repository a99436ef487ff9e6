"""The small base as a plain text-to-image model, and what it draws.

# Shapes: Q questions, H picture side (128), L text tokens, c latent channels, h x w latents.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from subject_diffusion_core.prompts import build_chunk, build_prompt

from ...bases.base_model import BaseModel
from ...bases.encoders import decode_latents, encode_latents, to_pictures
from ...bases.vision import vision_shape
from ...dataset.samples import words_of
from ...loop.trained import TrainedModel
from ...methods.conditioning import Conditioning
from ...methods.registry import method_of
from ...methods.subject_diffusion.sampling import Sampler, SamplingRule, two_branches
from ...networks.fused_attention import use_fused_attention
from ...networks.text import END_TOKEN, START_TOKEN
from ...precision import fastest_autocast
from ...recipes import recipe_named
from ..data.library import Library
from .questions import Question, real_picture

BATCH = 32
CELL = 8
NOT_THE_BASE = (".fuser.", "position_net.")


class Base:
    """A text-to-image model of the small base's kind."""

    def __init__(self, model: Any, base: BaseModel) -> None:
        self.model, self.base = model.eval().requires_grad_(False), base
        use_fused_attention(model.unet)
        self.vae = base.load_vae()
        self.side = int(base.unet_arguments["sample_size"])

    def token_ids(self, prompt: str) -> Tensor:
        """(L,) compact ids of a prompt."""
        chunk = build_chunk(
            build_prompt(prompt, []), words_of, num_slots=1, placeholder_token_id=-1,
            start_token_id=START_TOKEN, end_token_id=END_TOKEN, pad_token_id=self.base.pad_token_id,
        )  # fmt: skip
        assert self.base.vocabulary is not None
        return self.base.vocabulary.compact(chunk.token_ids)

    def told(self, prompts: Sequence[str]) -> Conditioning:
        """The prompts alone, without subjects."""
        count = len(prompts)
        none = torch.zeros(count, 1, dtype=torch.bool)
        nowhere = torch.zeros(count, 1, dtype=torch.long)
        return Conditioning(
            token_ids=torch.stack([self.token_ids(prompt) for prompt in prompts]),
            placeholder_positions=nowhere,
            label_positions=nowhere,
            text_valid=none,
            subject_valid=none,
            subject_boxes_xyxy=torch.zeros(count, 1, 4),
            patch_embeds=None,
            image_embeds=None,
            location_mask=torch.zeros(count, 1, self.side, self.side),
            adapter_scale=torch.zeros(count, 1, 1),
        )

    @torch.no_grad()
    def draw(self, questions: Sequence[Question], steps: int, guidance: float) -> np.ndarray:
        """Pictures (Q, H, H, 3) uint8 by DDIM with classifier-free guidance."""
        return self.decode(self.draw_latents(questions, steps, guidance))

    def decode(self, latents: Tensor) -> np.ndarray:
        """Pictures (Q, H, H, 3) uint8 of latents (Q, c, h, w)."""
        parts = latents.split(BATCH)
        return np.concatenate([to_pictures(decode_latents(self.vae, some)) for some in parts])

    @torch.no_grad()
    def draw_latents(self, questions: Sequence[Question], steps: int, guidance: float) -> Tensor:
        """The same as latents (Q, c, h, w); in bf16 where that is fastest."""
        return self.sample(self.sampler(steps, guidance), questions, self.noise(questions))

    def sampler(self, steps: int, guidance: float) -> Sampler:
        """DDIM with classifier-free guidance."""
        rule = SamplingRule(steps=steps, text_guidance_scale=guidance)
        return Sampler(self.model, self.base.prediction_type, rule)

    def noise(self, questions: Sequence[Question]) -> Tensor:
        """(Q, c, h, w) by the questions' seeds."""
        shape = (self.base.latent_channels, self.side, self.side)
        return torch.stack([torch.randn(shape, generator=seeded(q.seed)) for q in questions])

    @torch.no_grad()
    def sample(self, sampler: Sampler, questions: Sequence[Question], noised: Tensor) -> Tensor:
        """Latents (Q, c, h, w) of what ``sampler`` makes of ``noised`` ones; in bf16 where that is
        fastest."""
        empty, drawn = self.token_ids(""), []
        for first in range(0, len(questions), BATCH):
            some = questions[first : first + BATCH]
            full = self.told([q.prompt for q in some])
            branches = two_branches(full, full.token_ids, empty)
            with fastest_autocast(noised.device):
                drawn.append(sampler(branches, noised[first : first + BATCH]))
        return torch.cat(drawn)


def real_latents(
    base: Base, library: Library, questions: Sequence[Question]
) -> tuple[Tensor, Tensor]:
    """Latents (Q, c, h, w) of the real composites, and the subject's share of each cell
    (Q, h, w)."""
    made = [real_picture(library, question) for question in questions]
    pixels = torch.from_numpy(np.stack([image for image, _ in made])).permute(0, 3, 1, 2)
    masks = torch.from_numpy(np.stack([mask for _, mask in made])).float()
    latents = encode_latents(base.vae, pixels.float().div(127.5).sub(1))
    return latents, F.avg_pool2d(masks, CELL)


def plain_model(base: BaseModel) -> Any:
    """The model of a base alone, without adapters."""
    recipe = recipe_named("text_to_image_tiny")
    return method_of(recipe).build_model(base, recipe, vision_shape(recipe, base), None)


def plain_base(trained: TrainedModel) -> Base:
    """What training made of the base, without adapters."""
    model = plain_model(trained.base)
    state = {
        name: tensor
        for name, tensor in trained.model.state_dict().items()
        if not name.startswith("mlp.") and not any(part in name for part in NOT_THE_BASE)
    }
    model.load_state_dict(state, strict=False)
    return Base(model, trained.base)


def seeded(seed: int) -> torch.Generator:
    """A generator of its own."""
    return torch.Generator().manual_seed(seed)
