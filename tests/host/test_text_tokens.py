"""Prompt and suffixes as ComfyUI's tokens: placeholders, weights, long prompts."""

from __future__ import annotations

from typing import Any

import torch
from host_models import Host


def placeholder_positions(tokens: Any) -> list[tuple[int, int]]:
    """(chunk, position) of every token that is an embedding."""
    return [
        (row, column)
        for row, chunk in enumerate(tokens)
        for column, (token, _) in enumerate(chunk)
        if torch.is_tensor(token)
    ]


def test_placeholders_and_weights(host: Host) -> None:
    """The user's own placeholder word, weights and parentheses are not misread."""
    clip = host.make_base().clip
    build_prompt = host.core("prompts").build_prompt
    prompt = build_prompt("sks and a (big:1.3) sks", ["dog (old)", "cat"])
    embeds = [torch.full((48,), 1.0), torch.full((48,), 2.0)]
    tokens = host.subject_tokens(clip, prompt, embeds, 48136).tokens["l"]
    assert len(tokens) == 1 and len(tokens[0]) == 77
    positions = placeholder_positions(tokens)
    assert [tokens[row][column][0][0].item() for row, column in positions] == [1.0, 2.0]
    text = "".join(
        "*" if torch.is_tensor(token) else clip.tokenizer.clip_l.inv_vocab[token]
        for token, _ in tokens[0]
    ).replace("</w>", " ")
    wanted = "sks and a big sks , the dog ( old ) is *, the cat is *<|endoftext|>"
    assert text.startswith("<|startoftext|>" + wanted)
    assert [weight for _, weight in tokens[0] if weight != 1.0] == [1.3]


def test_long_prompts_keep_suffixes_whole(host: Host) -> None:
    clip = host.make_base().clip
    build_prompt = host.core("prompts").build_prompt
    for length in (66, 69, 70, 71, 75, 76, 150):
        prompt = build_prompt(" ".join(["word"] * length), ["dog"])
        tokens = host.subject_tokens(clip, prompt, [torch.ones(48)], 48136).tokens["l"]
        assert all(len(chunk) == 77 for chunk in tokens)
        ((row, column),) = placeholder_positions(tokens)
        suffix = [clip.tokenizer.clip_l.inv_vocab[t] for t, _ in tokens[row][column - 4 : column]]
        assert suffix == [",</w>", "the</w>", "dog</w>", "is</w>"]
        assert (
            sum(t == 2653 for chunk in tokens for t, _ in chunk if not torch.is_tensor(t)) == length
        )
