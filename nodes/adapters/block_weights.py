"""A strength of its own for every block's adapter, written as text."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from ...subject_diffusion_core.errors import shown
from ..host.block_selection import find_blocks, in_order, list_blocks


def parse_block_weights(
    text: str,
    block_names: Sequence[str],
    presets: Mapping[str, Mapping[str, float]] | None = None,
) -> dict[str, float]:
    """Weights by block name; blocks that the text does not mention have 1.

    Args:
        text: "key=number" with commas or line breaks between; a key is down, mid, up, all, the
            beginning of a block's name up to a full stop, or a number that counts the blocks from
            the picture's input on. Or the name of a preset. Later entries win.
        block_names: diffusers' names of the blocks with an adapter.
        presets: weights by block name, by the preset's name in small letters.

    >>> parse_block_weights("down=0.5, 1=0", ["mid_block.x.0", "down_blocks.0.x.0"])
    {'down_blocks.0.x.0': 0.5, 'mid_block.x.0': 0.0}
    """
    ordered = in_order(block_names)
    weights = dict.fromkeys(ordered, 1.0)
    named = presets or {}
    for entry in re.split(r"[,;\n]", text):
        if entry.strip().lower() in named:
            weights.update(named[entry.strip().lower()])
        elif entry.strip():
            key, _, number = (part.strip() for part in entry.partition("="))
            chosen, weight = find_blocks(key, ordered), _to_weight(number)
            if not chosen or weight is None:
                also = f", or a preset ({', '.join(named)})" if named else ""
                raise ValueError(
                    "block_weights: expected entries such as 'down=1, mid=0.5, 3=0' with numbers "
                    f"of 0 or more, got '{shown(entry.strip())}'. Name down, mid, up, all, "
                    f"or one of the blocks: {list_blocks(ordered)}{also}."
                )
            weights.update(dict.fromkeys(chosen, weight))
    return weights


def _to_weight(number: str) -> float | None:
    try:
        weight = float(number)
    except ValueError:
        return None
    return weight if math.isfinite(weight) and weight >= 0.0 else None
