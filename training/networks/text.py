"""Text for training: CLIP's tokenizer, a compact vocabulary, a text encoder with fused subjects.

# Shapes: B batch, N subject slots, L text tokens (77), D text width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

import torch
from open_clip.tokenizer import SimpleTokenizer
from torch import Tensor, nn
from transformers import CLIPTextModel

START_TOKEN, END_TOKEN = 49406, 49407


@lru_cache(maxsize=1)
def clip_tokenizer() -> SimpleTokenizer:
    """CLIP's byte-pair tokenizer, its vocabulary taken from the open_clip package."""
    return SimpleTokenizer()


def encode_words(text: str) -> list[int]:
    """CLIP token ids of ``text``, without start and end tokens."""
    return list(clip_tokenizer().encode(text))


class CompactVocabulary:
    """Maps CLIP's 49408 ids to the few a corpus uses. Row 0 is the *unknown* token.

    ``token_ids`` are the kept CLIP ids, sorted; compact id = position + 1.
    """

    def __init__(self, token_ids: Iterable[int]) -> None:
        self.token_ids = sorted({START_TOKEN, END_TOKEN, *token_ids})
        lookup = torch.zeros(END_TOKEN + 1, dtype=torch.long)
        lookup[self.token_ids] = torch.arange(1, len(self.token_ids) + 1)
        self.lookup = lookup

    def __len__(self) -> int:
        return len(self.token_ids) + 1

    def compact(self, ids: Tensor) -> Tensor:
        """CLIP ids to compact ids, any shape; ids outside the vocabulary become 0."""
        return self.lookup[ids]


def compact_text_arguments(
    arguments: dict[str, Any], vocabulary: CompactVocabulary
) -> dict[str, Any]:
    """Arguments of CLIPTextConfig for an encoder over the compact vocabulary."""
    start, end = vocabulary.compact(torch.tensor([START_TOKEN, END_TOKEN])).tolist()
    return {
        **arguments,
        "vocab_size": len(vocabulary),
        "bos_token_id": start,
        "eos_token_id": end,
        "pad_token_id": end,
    }


def token_embedding(model: CLIPTextModel) -> nn.Embedding:
    """The table of token embeddings."""
    table = model.get_input_embeddings()
    assert isinstance(table, nn.Embedding)
    return table


def encode_text(
    model: CLIPTextModel, compact_ids: Tensor, fuse: Callable[[Tensor], Tensor] | None = None
) -> Tensor:
    """Text states (B, L, D) of ``compact_ids`` (B, L).

    ``fuse`` replaces token embeddings (B, L, D) before position embeddings are added.
    """
    hook = None
    if fuse is not None:
        replace = fuse
        hook = token_embedding(model).register_forward_hook(lambda _m, _i, out: replace(out))
    try:
        states: Tensor = model(input_ids=compact_ids).last_hidden_state
        return states
    finally:
        if hook is not None:
            hook.remove()
