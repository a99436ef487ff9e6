"""Whether a prompt leaves the last vectors of its encoding to a tuned embedding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..host.comfy_types import TokenValue

# ComfyUI's chunks of (token, weight, number of the word), by text encoder.
WordChunks = Mapping[str, Sequence[Sequence[tuple[TokenValue, float, int]]]]


def tokens_too_many(words: WordChunks, num_vectors: int) -> int:
    """How many tokens of the text, its end token included, stand where the vectors go; 0: it fits.

    Start, end and padding have word number 0. The vectors replace the end of the last chunk.

    >>> chunk = [(49406, 1.0, 0), (320, 1.0, 1), (1929, 1.0, 2), (49407, 1.0, 0), (0, 1.0, 0)]
    >>> [tokens_too_many({"l": [chunk]}, n) for n in (1, 2, 3)]
    [0, 1, 2]
    """
    return max((_too_many(chunks[-1], num_vectors) for chunks in words.values()), default=0)


def _too_many(chunk: Sequence[tuple[TokenValue, float, int]], num_vectors: int) -> int:
    last_word = max((place for place, (_, _, word) in enumerate(chunk) if word > 0), default=0)
    end = last_word + 1
    return max(0, end - (len(chunk) - num_vectors) + 1)


def require_room(words: WordChunks, num_vectors: int, argument: str) -> None:
    """One sentence about `argument` if the text is too long."""
    too_many = tokens_too_many(words, num_vectors)
    if too_many > 0:
        raise ValueError(
            f"{argument}: expected a text that leaves its last {num_vectors} places to the tuned "
            f"embedding, got {too_many} tokens too many. Shorten it by about {too_many} words."
        )
