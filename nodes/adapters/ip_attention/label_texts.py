# Shapes: G width of the text encoder.
"""Labels as the text encoder reads them: their pooled vectors, and where a prompt has them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ...host.comfy_types import WordTokens
from ...host.sampling_run import WatchedSubject, WatchedText
from ..family import Present
from ..texts import TextEncoder

ENCODER = "clip_l"


def pooled_label(texts: TextEncoder, label: str) -> torch.Tensor:
    """(G,) of CLIP-L: after its last layer norm, at the end token, not projected.

    ComfyUI projects pooled vectors, with a matrix that checkpoints of Stable Diffusion lack, unless
    it is told otherwise.
    """
    clip = texts.clip
    encoder = getattr(clip.cond_stage_model, ENCODER, None)
    words = texts.words(_escaped(label)).get("l")
    if encoder is None or words is None:
        raise ValueError(
            "clip: expected a CLIP with the text encoder CLIP-L, which reads the labels, got one "
            "without it. Connect the CLIP of an SDXL checkpoint."
        )
    clip.load_model()
    tokens = [[(token, weight) for token, weight, _ in words[0]]]
    options = {"projected_pooled": False, "execution_device": clip.patcher.load_device}
    encoder.set_clip_options(options)
    try:
        pooled: torch.Tensor = encoder.encode_token_weights(tokens)[1]
    finally:
        encoder.reset_clip_options()
    return pooled[0].float().cpu()


def label_span(texts: TextEncoder, prompt: str, label: str) -> tuple[int, int] | None:
    """Positions of the label's first and last token among those of the prompt, None where the
    prompt does not name it."""
    tokens = [
        token
        for chunk in _first_encoder(texts.words(_escaped(label)))
        for token, _, word in chunk
        if word != 0
    ]
    last = find_tokens(_first_encoder(texts.words(prompt)), tokens)
    return None if last is None else (last - len(tokens) + 1, last)


def watched_labels(texts: TextEncoder, prompt: str, present: Present) -> WatchedText | None:
    """Where the prompt names the subjects, for Record Attention; None if it names none of them.

    This family writes no placeholder into the text: the label's last token stands for both.
    """
    watched = []
    for index, subject in present:
        span = label_span(texts, prompt, subject.label)
        if span is not None:
            watched.append(
                WatchedSubject(
                    index=index,
                    name=subject.name,
                    label=subject.label,
                    box_xyxy=subject.box.edges if subject.box else (0.0, 0.0, 1.0, 1.0),
                    label_position=span[1],
                    placeholder_position=span[1],
                )
            )
    num_tokens = sum(len(chunk) for chunk in _first_encoder(texts.words(prompt)))
    return WatchedText(subjects=tuple(watched), num_tokens=num_tokens) if watched else None


def find_tokens(
    chunks: Sequence[Sequence[tuple[Any, float, int]]], wanted: Sequence[Any]
) -> int | None:
    """Position of the last of the `wanted` tokens where they first stand in a row in one chunk.

    >>> find_tokens([[(9, 1.0, 0), (5, 1.0, 1), (6, 1.0, 1)]], [5, 6])
    2
    """
    before = 0
    for chunk in chunks:
        tokens = [token if isinstance(token, int) else None for token, *_ in chunk]
        for first in range(len(tokens) - len(wanted) + 1):
            if wanted and tokens[first : first + len(wanted)] == list(wanted):
                return before + first + len(wanted) - 1
        before += len(chunk)
    return None


def _first_encoder(words: WordTokens) -> list[list[tuple[Any, float, int]]]:
    return next(iter(words.values()))


def _escaped(label: str) -> str:
    """Parentheses of a label mean nothing."""
    return label.replace("(", "\\(").replace(")", "\\)")
