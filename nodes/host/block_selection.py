"""Transformer blocks of a UNet by what people call them: down, mid, up, names, numbers."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ...subject_diffusion_core.errors import shown

_MAX_DIGITS = 9  # Python refuses to read numbers of thousands
_GROUPS = {"all": "", "down": "down_blocks", "mid": "mid_block", "up": "up_blocks"}


def in_order(block_names: Sequence[str]) -> list[str]:
    """diffusers' names of blocks, from the input of the UNet to its output."""
    return sorted(block_names, key=_order)


def find_blocks(key: str, ordered: Sequence[str]) -> list[str]:
    """The blocks that a key means: down, mid, up, all, the beginning of a name up to a full stop,
    or a number that counts the blocks from the picture's input on; empty if there is none.

    Args:
        ordered: the names, as `in_order` gives them.
    """
    if len(key) > _MAX_DIGITS and key.isdecimal():
        return []
    if key.isdecimal():
        return list(ordered[int(key) : int(key) + 1])
    if not key:
        return []
    prefix = _GROUPS.get(key.lower(), key)
    return [name for name in ordered if not prefix or f"{name}.".startswith(f"{prefix}.")]


def select_blocks(text: str, block_names: Sequence[str], argument: str) -> list[str]:
    """All blocks that a text names, keys with commas or line breaks between; empty text = all.

    Args:
        argument: what errors call the text.

    >>> select_blocks("mid, 0", ["mid_block.x.0", "down_blocks.0.x.0", "up_blocks.1.x.0"], "layers")
    ['down_blocks.0.x.0', 'mid_block.x.0']
    """
    ordered = in_order(block_names)
    keys = [key.strip() for key in re.split(r"[,;\n]", text) if key.strip()] or ["all"]
    chosen: set[str] = set()
    for key in keys:
        found = find_blocks(key, ordered)
        if not found:
            raise ValueError(
                f"{argument}: expected all, down, mid, up, or blocks by name or number, got "
                f"'{shown(key)}'. Choose among: {list_blocks(ordered)}."
            )
        chosen.update(found)
    return [name for name in ordered if name in chosen]


def list_blocks(ordered: Sequence[str]) -> str:
    """Number and name of every block, for messages."""
    return ", ".join(f"{index} {name}" for index, name in enumerate(ordered))


def _order(block_name: str) -> tuple[int, list[int]]:
    kind = list(_GROUPS).index(block_name.split("_")[0])
    return kind, [int(number) for number in re.findall(r"\d+", block_name)]
