"""Block weights by the names that users of IP-Adapter know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...host.block_selection import in_order

# number of attention modules of the UNet -> weight by the number of the module, from the picture's
# input on; the others are 0. 16: Stable Diffusion 1 and 2, 11: SDXL.
STYLE = {16: dict.fromkeys((0, 1, 2, 3, *range(9, 16)), 1.0), 11: {6: 1.0}}
COMPOSITION = {16: {4: 0.25, 5: 1.0}, 11: {3: 1.0}}
LEAST = 0.05  # weight at the weak end of "ease in" and "ease out"


def block_presets(block_names: Sequence[str]) -> Mapping[str, Mapping[str, float]]:
    """Weights of all blocks for "ease in", "ease out" and, where they have a meaning, "style" and
    "composition".

    "ease in" falls from 1 at the first module to almost 0.05 at the last, "ease out" rises.

    >>> names = ["down_blocks.0.attentions.0.transformer_blocks.0", "mid_block.attentions.0.t.0"]
    >>> [round(weight, 3) for weight in block_presets(names)["ease in"].values()]
    [1.0, 0.525]
    """
    ordered = in_order(block_names)
    modules = list(dict.fromkeys(map(_module_of, ordered)))
    place = {name: modules.index(_module_of(name)) for name in ordered}
    rise = {name: number / len(modules) for name, number in place.items()}
    presets = {
        "ease in": {name: LEAST + (1 - LEAST) * (1 - share) for name, share in rise.items()},
        "ease out": {name: LEAST + (1 - LEAST) * share for name, share in rise.items()},
    }
    for preset, by_size in (("style", STYLE), ("composition", COMPOSITION)):
        if len(modules) in by_size:
            weights = by_size[len(modules)]
            presets[preset] = {name: weights.get(number, 0.0) for name, number in place.items()}
    return presets


def _module_of(block_name: str) -> str:
    """A module of several transformer blocks counts as one."""
    return block_name.split(".transformer_blocks.")[0]
