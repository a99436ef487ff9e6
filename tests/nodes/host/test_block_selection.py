"""Blocks of a UNet, chosen by a text."""

from __future__ import annotations

import pytest
from subject_diffusion_pack.nodes.host.block_selection import in_order, select_blocks

BLOCKS = (
    "up_blocks.1.attentions.2.transformer_blocks.0",
    "down_blocks.0.attentions.1.transformer_blocks.0",
    "down_blocks.10.attentions.0.transformer_blocks.0",
    "down_blocks.2.attentions.0.transformer_blocks.0",
    "mid_block.attentions.0.transformer_blocks.0",
)


def test_from_the_input_to_the_output() -> None:
    assert [name.split(".attentions")[0] for name in in_order(BLOCKS)] == [
        "down_blocks.0",
        "down_blocks.2",
        "down_blocks.10",
        "mid_block",
        "up_blocks.1",
    ]


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        ("", [0, 1, 2, 3, 4]),
        ("all", [0, 1, 2, 3, 4]),
        (" mid ,up", [3, 4]),
        ("4\n0", [0, 4]),
        ("down_blocks.1", []),
        ("down_blocks.10; mid_block", [2, 3]),
        ("Down", [0, 1, 2]),
    ],
)
def test_what_a_text_selects(text: str, chosen: list[int]) -> None:
    if not chosen:
        with pytest.raises(ValueError, match="layers: expected all, down, mid, up, or blocks"):
            select_blocks(text, BLOCKS, "layers")
    else:
        ordered = in_order(BLOCKS)
        assert select_blocks(text, BLOCKS, "layers") == [ordered[index] for index in chosen]


@pytest.mark.parametrize("text", ["left", "5", "up, x", "-1"])
def test_what_it_does_not_know_is_said(text: str) -> None:
    with pytest.raises(ValueError, match=r"Choose among: 0 down_blocks\.0.* 4 up_blocks\.1"):
        select_blocks(text, BLOCKS, "layers")


@pytest.mark.parametrize("text", ["9" * 10_000, "left " * 10_000])
def test_long_texts_are_not_repeated(text: str) -> None:
    with pytest.raises(ValueError, match="layers: expected all, down, mid, up") as error:
        select_blocks(text, BLOCKS, "layers")
    assert len(str(error.value)) < 1000
