# Shapes: B samples, L vectors of a text, d their width, n tuned vectors.
"""Conditionings whose last vectors are a tuned embedding's."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from ...subject_diffusion_core.errors import shown
from ...subject_diffusion_core.hifi_tuner import TunedEmbedding, step_ranges, with_last_vectors
from ..host.comfy_types import Conditioning
from ..host.run_attachment import BranchCond
from ..host.sampling_run import WHOLE_PICTURE, WatchedSubject, WatchedText
from ..host.schedule import clip_range
from ..host.watched_words import WORDS_KEY, with_words


def embed(
    conditioning: Conditioning, embedding: TunedEmbedding, is_stepwise: bool, strength: float
) -> Conditioning:
    """The conditioning with c_s at its end, or with c_s^t of every part of the sampling.

    Args:
        strength: 0 leaves it as it is, 1 puts the vectors in place of its own.
    """
    for text, _ in conditioning:
        _require_width(text, embedding)
    if strength == 0.0:
        return conditioning
    if not is_stepwise:
        return _with_vectors(conditioning, embedding.vectors, strength, embedding.label)
    assert embedding.step_vectors is not None
    ranges = step_ranges(embedding.step_timesteps)
    embedded = []
    for vectors, (start, end) in zip(embedding.step_vectors, ranges, strict=True):
        for text, values in _with_vectors(conditioning, vectors, strength, embedding.label):
            clip_start, clip_end = (
                values.get("clip_start_percent", 0.0),
                values.get("clip_end_percent", 1.0),
            )
            bounds = clip_range(start, end, clip_start, clip_end)
            if bounds:
                embedded.append([text, {**values, **bounds}])
    return embedded


def embedded_labels(conditioning: Conditioning) -> list[str]:
    """The labels of embeddings that stand in it already."""
    texts = [values[WORDS_KEY] for _, values in conditioning if WORDS_KEY in values]
    return sorted({subject.label for text in texts for subject in text.subjects})


def _with_vectors(
    conditioning: Conditioning, vectors: torch.Tensor, strength: float, label: str
) -> Conditioning:
    embedded = []
    for text, values in conditioning:
        watched = _watch(text.shape[1], len(vectors), label)
        known = _known_to_adapters(values, text.shape[1], vectors, strength)
        embedded += with_words([[_with_last(text, vectors, strength), known]], watched)
    return embedded


def _known_to_adapters(
    values: dict[str, Any], num_tokens: int, vectors: torch.Tensor, strength: float
) -> dict[str, Any]:
    """The values, in which an adapter's subjects know the text with its vectors as their own: it
    is no text that another node mixed."""
    conds = values.get("model_conds", {})
    known = {
        key: replace(cond, encoded=_with_last(cond.encoded, vectors, strength))
        for key, cond in conds.items()
        if isinstance(cond, BranchCond)
        and cond.encoded is not None
        and cond.encoded.shape[1] == num_tokens
    }
    return {**values, "model_conds": {**conds, **known}} if known else values


def _watch(num_tokens: int, count: int, label: str) -> WatchedText:
    """The vectors at the end, for Record Attention; where the label is, is not known here, so the
    first vector stands for it."""
    first = num_tokens - count
    subject = WatchedSubject(
        index=0,
        name=label,
        label=label,
        box_xyxy=WHOLE_PICTURE,
        label_position=first,
        placeholder_position=first,
        num_placeholders=count,
    )
    return WatchedText(subjects=(subject,), num_tokens=num_tokens)


def _with_last(text: torch.Tensor, vectors: torch.Tensor, strength: float) -> torch.Tensor:
    if strength == 1.0:
        return with_last_vectors(text, vectors)
    own = text[:, -len(vectors) :].to(vectors)
    mixed = torch.lerp(own, vectors.expand_as(own), strength)
    rows = zip(text.split(1), mixed, strict=True)
    return torch.cat([with_last_vectors(row, last) for row, last in rows])


def _require_width(text: torch.Tensor, embedding: TunedEmbedding) -> None:
    count, width = embedding.vectors.shape
    if text.ndim != 3 or text.shape[-1] != width or text.shape[1] <= count:
        base = shown(embedding.provenance.get("base", "another model"))
        raise ValueError(
            f"embedding: expected one for a text of shape {tuple(text.shape)}, got {count} vectors "
            f"of width {width}, tuned on {base}. Use it with the kind of model that it was tuned "
            "on, or tune it again."
        )
