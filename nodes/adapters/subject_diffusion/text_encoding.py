# Shapes: E width of an image embedding, D width of a token embedding.
"""Texts to conditionings: the stock encoding, and the one with the subjects fused in."""

from __future__ import annotations

import uuid
from typing import Any, NamedTuple

import torch

from ....subject_diffusion_core.prompts import build_prompt
from ....subject_diffusion_core.text_fusion import blend_towards_label
from ...host.schedule import Conditioning
from ...subjects.subject import Subjects
from ..adapter_types import AppliedAdapter, LoadedAdapter
from ..vision import SubjectViews
from .text_tokens import ChunkFormat, plain_ids, subject_tokens


class FusedText(NamedTuple):
    """Prompt and suffixes, encoded; the positions are those of `SubjectTokens`."""

    conditioning: Conditioning
    label_positions: list[int]
    placeholder_positions: list[int]


def encode_text(clip: Any, text: str) -> Conditioning:
    """What ComfyUI's own CLIP Text Encode gives."""
    return clip.encode_from_tokens_scheduled(clip.tokenize(text))


def without_adapter(clip: Any, applied: AppliedAdapter) -> Any:
    """The same CLIP, with its LoRAs, but without the differences of the adapter."""
    stock = clip.clone()
    ours = applied.text_patches
    for name, patches in list(stock.patcher.patches.items()):
        kept = [entry for entry in patches if entry[1] is not ours.get(name)]
        if kept:
            stock.patcher.patches[name] = kept
        else:
            del stock.patcher.patches[name]
    stock.patcher.patches_uuid = uuid.uuid4()
    return stock


def encode_fused_text(
    clip: Any,
    prompt: str,
    subjects: Subjects,
    views: list[SubjectViews],
    loaded: LoadedAdapter,
) -> FusedText:
    """The paper's template, every placeholder replaced by its subject's image embedding.

    Without subjects this is the prompt in the retrained text encoder.
    """
    config = loaded.config
    _require_text_width(clip, loaded)
    projector = loaded.adapter.build_projector()
    embeds = []
    for subject, encoded in zip(subjects, views, strict=True):
        embed = projector(encoded.image_embeds).mean(dim=0)
        if subject.strength < 1.0:
            embed = blend_towards_label(embed, _label_embed(clip, subject.label), subject.strength)
        embeds.append(embed)
    template = build_prompt(prompt, [subject.label for subject in subjects], config.placeholder)
    tokens, *positions = subject_tokens(clip, template, embeds, config.placeholder_token_id)
    return FusedText(clip.encode_from_tokens_scheduled(tokens), *positions)


def _token_embedding(clip: Any) -> Any:
    encoder = getattr(clip.cond_stage_model, clip.cond_stage_model.clip)
    return encoder.transformer.get_input_embeddings()


def _require_text_width(clip: Any, loaded: LoadedAdapter) -> None:
    """ComfyUI drops an embedding of another width with only a line in the log."""
    ChunkFormat(clip)
    width = _token_embedding(clip).weight.shape[-1]
    wanted = loaded.config.projector_out_dim
    if width != wanted:
        raise ValueError(
            f"clip: expected a text encoder of width {wanted} for the adapter '{loaded.name}', got "
            f"{width}. Connect the CLIP of the base model that the adapter was trained on."
        )


def _label_embed(clip: Any, label: str) -> torch.Tensor:
    """(D,) the token embedding of the label's last token."""
    table = _token_embedding(clip)
    clip.load_model()
    last = plain_ids(clip, ChunkFormat(clip), label)[-1]
    ids = torch.tensor([last], device=table.weight.device)
    return table(ids, out_dtype=torch.float32)[0].cpu()
