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


def pooled_label(texts: TextEncoder, label: str, width: int) -> torch.Tensor:
    """(G,) of CLIP-L: after its last layer norm, at the end token, not projected.

    Args:
        width: G as the adapter reads it; another one gets a sentence.

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
    if pooled.shape[-1] != width:
        raise ValueError(
            f"clip: expected labels of width {width} from the text encoder CLIP-L, got "
            f"{pooled.shape[-1]}. Connect the CLIP of an SDXL checkpoint."
        )
    return pooled[0].float().cpu()


def label_spans(texts: TextEncoder, prompt: str, label: str) -> list[tuple[int, int]]:
    """Positions of the label's first and last token among those of the prompt, wherever the prompt
    names it."""
    tokens = [
        token
        for chunk in _first_encoder(texts.words(_escaped(label)))
        for token, _, word in chunk
        if word != 0
    ]
    found = find_tokens(_first_encoder(texts.words(prompt)), tokens)
    return [(last - len(tokens) + 1, last) for last in found]


def label_span(texts: TextEncoder, prompt: str, label: str) -> tuple[int, int] | None:
    """The first of `label_spans`, None where the prompt does not name it."""
    return next(iter(label_spans(texts, prompt, label)), None)


def watched_labels(texts: TextEncoder, prompt: str, present: Present) -> WatchedText | None:
    """Where the prompt names the subjects, for Record Attention; None if it names none of them.

    This family writes no placeholder into the text: the label's last token stands for both. Of
    subjects with one label each has its own mention, in their order, as far as there are any.
    """
    watched: list[WatchedSubject] = []
    for index, subject in present:
        spans = label_spans(texts, prompt, subject.label)
        if spans:
            before = sum(other.label == subject.label for other in watched)
            _, position = spans[min(before, len(spans) - 1)]
            watched.append(
                WatchedSubject(
                    index=index,
                    name=subject.name,
                    label=subject.label,
                    box_xyxy=subject.box.edges if subject.box else (0.0, 0.0, 1.0, 1.0),
                    label_position=position,
                    placeholder_position=position,
                )
            )
    num_tokens = sum(len(chunk) for chunk in _first_encoder(texts.words(prompt)))
    return WatchedText(subjects=tuple(watched), num_tokens=num_tokens) if watched else None


def find_tokens(
    chunks: Sequence[Sequence[tuple[Any, float, int]]], wanted: Sequence[Any]
) -> list[int]:
    """Positions of the last of the `wanted` tokens wherever they stand in a row in one chunk.

    An embedding, which is no number, is never found.

    >>> find_tokens([[(9, 1.0, 0), (5, 1.0, 1), (6, 1.0, 1)], [(5, 1.0, 2), (6, 1.0, 2)]], [5, 6])
    [2, 4]
    """
    found: list[int] = []
    if not wanted or not all(isinstance(token, int) for token in wanted):
        return found
    before = 0
    for chunk in chunks:
        tokens = [token if isinstance(token, int) else None for token, *_ in chunk]
        for first in range(len(tokens) - len(wanted) + 1):
            if tokens[first : first + len(wanted)] == list(wanted):
                found.append(before + first + len(wanted) - 1)
        before += len(chunk)
    return found


def _first_encoder(words: WordTokens) -> list[list[tuple[Any, float, int]]]:
    return next(iter(words.values()))


def _escaped(label: str) -> str:
    """Parentheses of a label mean nothing."""
    return label.replace("(", "\\(").replace(")", "\\)")
