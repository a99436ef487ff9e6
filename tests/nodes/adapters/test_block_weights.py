"""What can be written in Apply's `block_weights`."""

from __future__ import annotations

import pytest
from subject_diffusion_pack.nodes.adapters.block_weights import parse_block_weights

TINY_BLOCKS = [
    "down_blocks.1.attentions.0.transformer_blocks.0",
    "mid_block.attentions.0.transformer_blocks.0",
    "up_blocks.0.attentions.0.transformer_blocks.0",
    "up_blocks.0.attentions.1.transformer_blocks.0",
]


@pytest.mark.parametrize(
    ("text", "weights"),
    [
        ("", [1, 1, 1, 1]),
        (" , ", [1, 1, 1, 1]),
        ("down=0.5, mid=0, up = 2", [0.5, 0, 2, 2]),
        ("ALL=0\nmid=1", [0, 1, 0, 0]),
        ("0=0.25; 3=0.75", [0.25, 1, 1, 0.75]),
        ("up_blocks.0.attentions.1=0", [1, 1, 1, 0]),
        (f"{TINY_BLOCKS[2]}=3", [1, 1, 3, 1]),
        ("up=0, up_blocks.0.attentions.0=1", [1, 1, 1, 0]),
    ],
)
def test_what_can_be_written(text: str, weights: list[float]) -> None:
    parsed = parse_block_weights(text, list(reversed(TINY_BLOCKS)))
    assert parsed == dict(zip(TINY_BLOCKS, weights, strict=True))
    assert list(parsed) == TINY_BLOCKS


@pytest.mark.parametrize(
    "text",
    ["left=1", "up_block=1", "99=1", "-1=1", "down", "down=", "=1", "down=-1", "mid=nan", "0.5"],
)
def test_what_is_refused_names_the_blocks(text: str) -> None:
    with pytest.raises(ValueError, match="block_weights: expected entries such as") as error:
        parse_block_weights(f"up=1, {text}", TINY_BLOCKS)
    assert f"got '{text}'" in str(error.value)
    assert all(name in str(error.value) for name in TINY_BLOCKS)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["9" * 10_000 + "=1", "0=" + "1=" * 10_000])
def test_long_texts_are_not_repeated(text: str) -> None:
    with pytest.raises(ValueError, match="block_weights: expected entries such as") as error:
        parse_block_weights(text, TINY_BLOCKS)
    assert len(str(error.value)) < 1000
