# Shapes: L text tokens, D width of the text encoder.
"""Texts that other nodes mix or weigh after their subjects were encoded."""

from __future__ import annotations

from dataclasses import replace

import torch

from .comfy_types import Conditioning, Entry
from .node_warnings import show_warnings
from .sampling_run import BranchCond

CHANGED = (
    "The text of a conditioning with subjects was mixed or weighed by another node (such as "
    "Conditioning Average): its subjects act at their whole strength, those of another "
    "conditioning in the mix not at all. Connect Conditioning Combine, or set the strength of "
    "each Subject."
)


def remember_texts(conditioning: Conditioning, key: str) -> Conditioning:
    """The same conditioning, whose values under `key` know the text that they came with."""
    remembered = []
    for text, values in conditioning:
        conds = values.get("model_conds", {})
        if isinstance(conds.get(key), BranchCond):
            values = {**values, "model_conds": {**conds, key: replace(conds[key], encoded=text)}}
        remembered.append([text, values])
    return remembered


def warn_of_changed_texts(conds: dict[str, list[Entry]], key: str) -> None:
    """Once a run; a text that was lengthened is none that was changed."""
    entries = [entry for branch in conds.values() for entry in branch]
    if any(
        _is_changed(entry["model_conds"].get(key), entry.get("cross_attn")) for entry in entries
    ):
        show_warnings([CHANGED])


def _is_changed(cond: BranchCond | None, text: torch.Tensor | None) -> bool:
    """text: (1, L, D)"""
    if cond is None or cond.encoded is None or text is None or not cond.value.acts:
        return False
    encoded = cond.encoded
    if text is encoded or not bool(text.any()):
        return False
    begins_alike = torch.equal(text[:, : encoded.shape[1]], encoded.to(text))
    return not begins_alike
