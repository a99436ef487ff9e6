"""Generation on the training side: DDIM sampling with three-branch guidance, batched.

# Shapes: B batch, N subject slots, P patch tokens, c latent channels, h x w latents.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from diffusers import DDIMScheduler
from torch import Tensor

from subject_diffusion_core.guidance import classifier_free_guidance, three_branch_guidance
from subject_diffusion_core.location_mask import boxes_to_location_mask
from subject_diffusion_core.tiny.block_autoencoder import BlockAutoencoder
from subject_diffusion_core.tiny.tiny_vision import TinyVision, normalise_pixels

from .methods.subject_diffusion.model import (
    Conditioning,
    ContextAdapter,
    PreparedConditioning,
    SubjectDiffusionModel,
)
from .networks.text import CompactVocabulary
from .toy.batches import plain_chunk, template_chunk

LATENT_DOWNSCALE = 8


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


class TinySampler:
    """Generates pictures with the tiny model.

    Args:
        model, autoencoder, vision, vocabulary: the parts of the trained model.
        num_slots: N of the checkpoint.
        steps: DDIM steps.
        text_guidance_scale, image_guidance_scale: s_t and s_i of the three branches.
        use_adapter: False generates with the base model and two branches (prompt, empty).
    """

    def __init__(
        self,
        model: SubjectDiffusionModel,
        autoencoder: BlockAutoencoder,
        vision: TinyVision,
        vocabulary: CompactVocabulary,
        *,
        num_slots: int,
        steps: int = 20,
        text_guidance_scale: float = 4.0,
        image_guidance_scale: float = 5.0,
        use_adapter: bool = True,
        image_size: int = 128,
    ) -> None:
        self.model = model.eval()
        self.autoencoder = autoencoder.eval()
        self.vision = vision.eval()
        self.vocabulary = vocabulary
        self.num_slots = num_slots
        self.steps = steps
        self.text_guidance_scale = text_guidance_scale
        self.image_guidance_scale = image_guidance_scale
        self.use_adapter = use_adapter
        self.latent_size = image_size // LATENT_DOWNSCALE
        self.dtype = next(model.parameters()).dtype
        for module in model.modules():
            if isinstance(module, ContextAdapter):
                module.use_sdpa = True  # without gradients the fused kernel is the faster one

    @torch.no_grad()
    def __call__(self, requests: Sequence[GenerationRequest]) -> np.ndarray:
        """Pictures (B, H, W, 3) uint8, one per request."""
        conditioning = self.model.prepare(self.branches(requests), cache=True)
        size = (self.autoencoder.latent_channels, self.latent_size, self.latent_size)
        noise = [
            torch.randn(size, generator=torch.Generator().manual_seed(r.seed)) for r in requests
        ]
        latents = torch.stack(noise)
        scheduler = DDIMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
            prediction_type="v_prediction", clip_sample=False, set_alpha_to_one=False,
            timestep_spacing="trailing",
        )  # fmt: skip
        scheduler.set_timesteps(self.steps)
        for timestep in scheduler.timesteps:
            prediction = self.guided_prediction(latents, timestep, conditioning)
            latents = scheduler.step(prediction, timestep, latents).prev_sample
        pixels = self.autoencoder.decode(latents).float()
        pixels = pixels.add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)
        return pixels.permute(0, 2, 3, 1).numpy()

    def guided_prediction(
        self, latents: Tensor, timestep: Tensor, conditioning: PreparedConditioning
    ) -> Tensor:
        """The guided prediction (B, c, h, w) from one UNet call over all branches."""
        num_branches = len(conditioning.text_states) // len(latents)
        stacked = latents.repeat(num_branches, 1, 1, 1).to(self.dtype)
        steps = timestep.expand(len(stacked))
        outputs = self.model(stacked, steps, conditioning).float().chunk(num_branches)
        if not self.use_adapter:
            pred_text, pred_uncond = outputs
            return classifier_free_guidance(pred_text, pred_uncond, self.text_guidance_scale)
        return three_branch_guidance(
            *outputs,
            text_guidance_scale=self.text_guidance_scale,
            image_guidance_scale=self.image_guidance_scale,
        )

    def branches(self, requests: Sequence[GenerationRequest]) -> Conditioning:
        """Conditioning of all branches, stacked: text, image, unconditional (or: text, empty)."""
        full = self.full_conditioning(requests)
        empty_ids = self.vocabulary.compact(plain_chunk("", self.num_slots).token_ids)
        nothing = torch.zeros_like(full.text_valid)
        image = replace(full, token_ids=empty_ids.expand_as(full.token_ids), text_valid=nothing)
        uncond = replace(
            image, subject_valid=nothing, location_mask=torch.zeros_like(full.location_mask)
        )
        parts = [full, image, uncond]
        if not self.use_adapter:
            plain = torch.stack([plain_chunk(r.prompt, self.num_slots).token_ids for r in requests])
            base = replace(uncond, adapter_scale=torch.zeros_like(full.adapter_scale))
            parts = [replace(base, token_ids=self.vocabulary.compact(plain)), base]
        return Conditioning(
            **{f.name: torch.cat([getattr(p, f.name) for p in parts]) for f in fields(Conditioning)}
        )

    def full_conditioning(self, requests: Sequence[GenerationRequest]) -> Conditioning:
        """Conditioning of the full branch."""
        batch, slots = len(requests), self.num_slots
        chunks = [template_chunk(r.prompt, [s.label for s in r.subjects], slots) for r in requests]
        valid = torch.zeros(batch, slots, dtype=torch.bool)
        boxes = torch.zeros(batch, slots, 4)
        pictures, places = [], []
        for row, request in enumerate(requests):
            for slot, subject in enumerate(request.subjects):
                valid[row, slot] = True
                boxes[row, slot] = torch.tensor(subject.box_xyxy)
                pictures.append(torch.from_numpy(np.asarray(subject.reference)))
                places.append((row, slot))
        shape = self.model.shape
        patch_embeds = torch.zeros(batch, slots, shape.num_patches, shape.patch_dim)
        image_embeds = torch.zeros(batch, slots, shape.image_embed_dim)
        if pictures:
            pixels = torch.stack(pictures).permute(0, 3, 1, 2).float() / 255
            encoded = self.vision(normalise_pixels(pixels))
            rows, columns = (list(column) for column in zip(*places, strict=True))
            patch_embeds[rows, columns] = encoded.patch_embeds
            image_embeds[rows, columns] = encoded.image_embeds
        conditioning = Conditioning(
            token_ids=self.vocabulary.compact(torch.stack([c.token_ids for c in chunks])),
            placeholder_positions=torch.stack([c.placeholder_positions for c in chunks]),
            label_positions=torch.stack([c.label_last_positions for c in chunks]),
            text_valid=valid,
            subject_valid=valid,
            subject_boxes_xyxy=boxes,
            patch_embeds=patch_embeds,
            image_embeds=image_embeds,
            location_mask=boxes_to_location_mask(boxes, valid, self.latent_size, self.latent_size),
            adapter_scale=torch.ones(batch, 1, 1),
        )
        return conditioning.to(torch.device("cpu"), self.dtype)
