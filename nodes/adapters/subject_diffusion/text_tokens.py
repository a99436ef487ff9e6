# Shapes: D width of a token embedding.
"""Prompt and suffixes as ComfyUI's tokens, placeholders at positions known by construction."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from ....subject_diffusion_core.prompts import SubjectPrompt, tokenize_suffix

Token = tuple[Any, float]
Tokens = dict[str, list[list[Token]]]


class SubjectTokens(NamedTuple):
    """Tokens for the text encoder, and where each subject's words are in what it returns.

    Attributes:
        label_positions: per subject, of the last token of the label in its suffix.
        placeholder_positions: per subject.
    """

    tokens: Tokens
    label_positions: list[int]
    placeholder_positions: list[int]


class ChunkFormat:
    """How a CLIP frames its chunks of tokens: read from what it makes of the empty text."""

    def __init__(self, clip: Any) -> None:
        tokens = clip.tokenize("")
        if len(tokens) != 1:
            raise ValueError(
                "clip: expected one CLIP text encoder (Stable Diffusion 1 or 2), got "
                f"{len(tokens)} encoders. Connect the CLIP of the base model that the adapter was "
                "trained on."
            )
        (self.encoder_name,) = tokens
        empty = [token for token, _ in tokens[self.encoder_name][0]]
        self.start, self.end, self.pad = empty[:3]
        self.length = len(empty)

    @property
    def room(self) -> int:
        """Tokens that fit between start and end."""
        return self.length - 2

    def frame(self, content: list[Token]) -> list[Token]:
        chunk = [(self.start, 1.0), *content, (self.end, 1.0)]
        return chunk + [(self.pad, 1.0)] * (self.length - len(chunk))


def subject_tokens(
    clip: Any,
    prompt: SubjectPrompt,
    placeholder_embeds: list[torch.Tensor],
    placeholder_token_id: int,
) -> SubjectTokens:
    """Tokens of "<prompt>, the <label> is <PH>, ...", each PH already replaced by a subject's
    embedding.

    The prompt is chunked as ComfyUI does it, with its weights and embeddings; each suffix stays
    whole in one chunk.

    Args:
        placeholder_embeds: one (D,) per subject.
        placeholder_token_id: only stands in while the suffix is tokenised.
    """
    chunk_format = ChunkFormat(clip)
    text = "".join(segment.text for segment in prompt.prompt_segments)
    chunks = _contents(clip, chunk_format, text)
    label_positions, placeholder_positions = [], []
    for index, embed in enumerate(placeholder_embeds):
        suffix = tokenize_suffix(
            prompt,
            index,
            lambda segment: plain_ids(clip, chunk_format, segment),
            placeholder_token_id,
        )
        content: list[Token] = [(token, 1.0) for token in suffix.token_ids[:-1]]
        content.append((embed, 1.0))
        if len(content) > chunk_format.room:
            raise ValueError(
                f"label: expected a few words, got {len(content)} tokens in "
                f"'{_suffix_text(prompt, index)}'. A CLIP text encoder takes {chunk_format.room}: "
                "shorten the label."
            )
        if len(chunks[-1]) + len(content) > chunk_format.room:
            chunks.append([])
        # behind the chunks before this one and its own start token
        first = (len(chunks) - 1) * chunk_format.length + 1 + len(chunks[-1])
        label_positions.append(first + suffix.label_last)
        placeholder_positions.append(first + len(content) - 1)
        chunks[-1] = chunks[-1] + content
    framed = [chunk_format.frame(content) for content in chunks]
    return SubjectTokens(
        {chunk_format.encoder_name: framed}, label_positions, placeholder_positions
    )


def plain_ids(clip: Any, chunk_format: ChunkFormat, text: str) -> list[int]:
    """Token ids of a text in which parentheses and colons mean nothing."""
    escaped = text.replace("(", "\\(").replace(")", "\\)")
    return [token for content in _contents(clip, chunk_format, escaped) for token, _ in content]


def _suffix_text(prompt: SubjectPrompt, index: int) -> str:
    return "".join(segment.text for segment in prompt.suffix_segments(index)).strip(", ")


def _contents(clip: Any, chunk_format: ChunkFormat, text: str) -> list[list[Token]]:
    """ComfyUI's chunks of a text without start, end and padding, which carry the word id 0."""
    chunks = clip.tokenize(text, return_word_ids=True)[chunk_format.encoder_name]
    return [[(token, weight) for token, weight, word in chunk if word != 0] for chunk in chunks]
