# Shapes: L text tokens, D width of the text encoder.
"""Texts that other nodes mix or weigh after their subjects were encoded."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from .node_warnings import show_warnings

CHANGED = (
    "The text of a conditioning with subjects was mixed or weighed by another node (such as "
    "Conditioning Average): its subjects act at their whole strength, those of another "
    "conditioning in the mix not at all. Connect Conditioning Combine, or set the strength of "
    "each Subject."
)


def warn_of_changed_texts(
    texts: Iterable[tuple[torch.Tensor | None, torch.Tensor | None]],
) -> None:
    """Texts (1, L, D) of branches with subjects, as they were encoded and as they are now, None
    where that is not known; one that was lengthened is none that was changed."""
    if any(_is_changed(encoded, text) for encoded, text in texts):
        show_warnings([CHANGED])


def _is_changed(encoded: torch.Tensor | None, text: torch.Tensor | None) -> bool:
    if encoded is None or text is None or text is encoded or not bool(text.any()):
        return False
    begins_alike = torch.equal(text[:, : encoded.shape[1]], encoded.to(text))
    return not begins_alike
