"""What all converters share: what they yield, keys, the caption that fits best."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from ..record import label_span

UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """Something in the source that no record holds: where it stands, and a countable reason."""

    where: str
    reason: str


def sample_key(dataset: str, name: str) -> str:
    """A key without dots and slashes, which part a shard's names; different for different names.

    >>> sample_key("coco", "000000000139")
    'coco-000000000139'
    >>> sample_key("mine", "a/b.c")
    'mine-a_b_c-c06205'
    """
    safe = UNSAFE.sub("_", name)
    if safe != name:
        safe += "-" + hashlib.sha256(name.encode()).hexdigest()[:6]
    return f"{dataset}-{safe}"


def best_caption(captions: Iterable[str], labels: Iterable[str]) -> str | None:
    """The caption that names the most of the labels; the first of several, None of none."""
    wanted = set(labels)
    texts = [text.strip() for text in captions if text.strip()]
    if not texts:
        return None
    return max(texts, key=lambda text: sum(label_span(label, text) is not None for label in wanted))


def clipped_box(
    x1: float, y1: float, x2: float, y2: float
) -> tuple[float, float, float, float] | None:
    """A box in 0..1 cut to the picture; None where nothing of it is left, or it is not a number."""
    left, top, right, bottom = (min(1.0, max(0.0, value)) for value in (x1, y1, x2, y2))
    return (left, top, right, bottom) if left < right and top < bottom else None
