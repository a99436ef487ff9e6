# Shapes: L columns of a text.
"""Which columns of two prompts are the same words, and which are a subject's that changes."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ...subject_diffusion_core.errors import shown
from ...subject_diffusion_core.hifi_tuner import token_mapper
from ..host.comfy_types import Entry, TokenValue
from ..host.run_attachment import BranchCond
from .prompt_room import WordChunks

NEW = object()  # stands for a column that no column of another text can be


@dataclass(frozen=True, kw_only=True, eq=False)
class TextColumns:
    """A text's columns, by what stands in each.

    Attributes:
        tokens: L, with start, end and padding.
        end: number of columns up to the text's own last one.
    """

    tokens: tuple[Hashable, ...]
    end: int

    def with_suffix(self, last: int) -> TextColumns:
        """The columns where an adapter's words stand behind the text, up to the column `last`."""
        added = last + 1 - self.end
        if added <= 0:
            return self
        tokens = (*self.tokens[: self.end], *[NEW] * added, *self.tokens[self.end :])
        return TextColumns(tokens=tokens[: len(self.tokens)], end=last + 1)


def columns_of(words: WordChunks) -> TextColumns:
    """Of ComfyUI's chunks of a text; where there are several text encoders, all have the same."""
    chunks = next(iter(words.values()))
    placed = [(token, word) for chunk in chunks for token, _, word in chunk]
    end = max((place for place, (_, word) in enumerate(placed) if word > 0), default=0) + 1
    return TextColumns(tokens=tuple(_told_apart(token) for token, _ in placed), end=end)


def _told_apart(token: TokenValue) -> Hashable:
    """A token's number, or what is as good as one for an embedding's vector in its place."""
    if isinstance(token, torch.Tensor):
        return token.detach().cpu().float().numpy().tobytes()
    return token


def replace_word(caption: str, word: str, replacement: str) -> str:
    """The caption with the replacement wherever the word stands.

    >>> replace_word("A cat beside a caterpillar", "cat", "hot dog")
    'A hot dog beside a caterpillar'
    """
    for name, text in (("word", word), ("replacement", replacement)):
        if not text.strip():
            raise ValueError(f"{name}: expected a word of the picture, got nothing. Write one.")
    pattern = re.compile(rf"(?<!\w){re.escape(word.strip())}(?!\w)", re.IGNORECASE)
    replaced, count = pattern.subn(lambda _: replacement.strip(), caption)
    if count == 0:
        raise ValueError(
            f"word: expected one that stands in the caption, got {shown(word)}, which does not. "
            "Write the caption with the word that is replaced."
        )
    return replaced


def map_columns(
    source: TextColumns, target: TextColumns, num_free_last: int
) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
    """The mapper (L_source, L_target) of `token_mapper`, and the columns of the replaced word in
    the source and in the target: the tuned ones where no word was exchanged."""
    mapper = token_mapper(source.tokens, target.tokens, num_free_last)
    words = []
    for free, end in ((mapper.sum(dim=1) == 0, source.end), (mapper.sum(dim=0) == 0, target.end)):
        columns = free.nonzero().flatten()
        words.append(columns[columns < end] if bool((columns < end).any()) else columns)
    return mapper, (words[0], words[1])


def columns_in_run(target: TextColumns, positive: Sequence[Entry]) -> TextColumns:
    """The target's columns as the run has them: adapters may have put words behind the text."""
    for entry in positive:
        conds: Mapping[str, Any] = entry["model_conds"]
        for cond in conds.values():
            if isinstance(cond, BranchCond) and cond.text is not None:
                return target.with_suffix(
                    max(subject.placeholder_position for subject in cond.text.subjects)
                )
    return target
