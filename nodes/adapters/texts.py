"""Texts through a CLIP, each tokenised and encoded once."""

from __future__ import annotations

from ..host.comfy_types import Clip, Conditioning, Patches, Tokens, WordTokens
from ..host.weight_diffs import without_patches


class TextEncoder:
    """A CLIP that remembers its texts for as long as one node runs."""

    def __init__(self, clip: Clip, words: dict[str, WordTokens] | None = None) -> None:
        self.clip = clip
        self._words = {} if words is None else words
        self._encoded: dict[str, Conditioning] = {}

    def without(self, patches: Patches) -> TextEncoder:
        """The stock encoder: without these differences, but with its LoRAs."""
        if not patches:
            return self
        return TextEncoder(without_patches(self.clip, patches), self._words)

    def words(self, text: str) -> WordTokens:
        """ComfyUI's chunks of (token, weight, number of the word), by text encoder; start, end and
        padding have the number 0."""
        if text not in self._words:
            self._words[text] = self.clip.tokenize(text, return_word_ids=True)
        return self._words[text]

    def encode(self, text: str) -> Conditioning:
        """What ComfyUI's own CLIP Text Encode gives."""
        if text not in self._encoded:
            tokens = {
                name: [[(token, weight) for token, weight, _ in chunk] for chunk in chunks]
                for name, chunks in self.words(text).items()
            }
            self._encoded[text] = self.encode_tokens(tokens)
        return self._encoded[text]

    def encode_tokens(self, tokens: Tokens) -> Conditioning:
        return self.clip.encode_from_tokens_scheduled(tokens)
