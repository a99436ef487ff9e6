"""Boxes by Grounding DINO: the caption's nouns are looked for in the picture.

# Shapes: B pictures, Q queries, T tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from .models import device_of, dtype_of, load_pretrained, model_folder, to_device
from .pictures import load
from .record import FoundEntity, Noun, Record
from .settings import CurationSettings

STAGE = "boxes"


class Detector:
    """Grounding DINO of transformers. Of a box's words the one with the highest probability names
    it, and that probability is its score; boxes below ``box_floor`` are not kept at all. Only
    pictures of one size go through it at once: padding would change what it finds."""

    def __init__(self, settings: CurationSettings) -> None:
        from transformers import AutoProcessor, GroundingDinoForObjectDetection

        own = settings.boxes
        folder = model_folder(STAGE, own, "Grounding DINO")
        self.device, self.dtype = device_of(own), dtype_of(own)
        self.processor: Any = load_pretrained(STAGE, AutoProcessor, folder)
        model = load_pretrained(STAGE, GroundingDinoForObjectDetection, folder, dtype=self.dtype)
        self.model: Any = model.to(self.device).eval()
        self.floor = settings.box_floor

    @torch.no_grad()
    def __call__(self, records: Sequence[Record]) -> list[Record]:
        """The records with boxes of their nouns."""
        alike: dict[tuple[int | None, int | None], list[Record]] = {}
        for record in records:
            if record.nouns:
                alike.setdefault((record.width, record.height), []).append(record)
        found: dict[str, tuple[FoundEntity, ...]] = {}
        for group in alike.values():
            found |= zip([record.key for record in group], self._detect(group), strict=True)
        return [replace(record, entities=found.get(record.key, ())) for record in records]

    def _detect(self, records: Sequence[Record]) -> list[tuple[FoundEntity, ...]]:
        prompts = [self._prompt(record.nouns or ()) for record in records]
        inputs = self.processor(
            images=[load(record.picture) for record in records],
            text=[text for text, _ in prompts],
            return_tensors="pt",
            padding=True,
        )
        output = self.model(**to_device(inputs, self.device, self.dtype))
        chances = output.logits.float().sigmoid().cpu()  # (B, Q, T)
        boxes = output.pred_boxes.float().cpu()  # (B, Q, 4) middle and size in 0..1
        return [
            entities_of(record.nouns or (), tokens, chances[row], boxes[row], self.floor)
            for row, (record, (_, tokens)) in enumerate(zip(records, prompts, strict=True))
        ]

    def _prompt(self, nouns: Sequence[Noun]) -> tuple[str, list[list[int]]]:
        """ "dog. park bench." and the places of each noun's tokens in it; none of nouns that no
        longer fit into the model's text."""
        for count in range(len(nouns), 0, -1):
            labels = [noun.label for noun in nouns[:count]]
            text = ". ".join(labels) + "."
            encoded = self.processor.tokenizer(text, return_offsets_mapping=True)
            if len(encoded["input_ids"]) <= self.model.config.max_text_len:
                break
        starts = [sum(len(label) + 2 for label in labels[:i]) for i in range(count)]
        tokens = [
            [place for place, (a, b) in enumerate(encoded["offset_mapping"])
             if start <= a < b <= start + len(label)]
            for start, label in zip(starts, labels, strict=True)
        ]  # fmt: skip
        return text, tokens + [[] for _ in nouns[count:]]


def entities_of(
    nouns: Sequence[Noun],
    tokens: Sequence[Sequence[int]],
    chances: Tensor,
    boxes: Tensor,
    floor: float,
) -> tuple[FoundEntity, ...]:
    """The boxes of one picture, the surest first.

    Args:
        tokens: places of each noun's tokens. chances: (Q, T) that a box belongs to a token.
        boxes: (Q, 4) middle x y, width, height in 0..1.
    """
    none = torch.zeros(len(chances))
    scores = torch.stack([chances[:, list(of)].amax(1) if of else none for of in tokens], 1)
    best, which = scores.max(1)
    half = boxes[:, 2:] / 2
    corners = torch.cat([boxes[:, :2] - half, boxes[:, :2] + half], 1).clamp(0, 1)
    found = []
    for query in best.argsort(descending=True, stable=True).tolist():
        x1, y1, x2, y2 = (round(value, 6) for value in corners[query].tolist())
        if best[query] < floor or x1 >= x2 or y1 >= y2:
            continue
        noun = nouns[int(which[query])]
        score = round(float(best[query]), 6)
        found.append(
            FoundEntity(label=noun.label, span=noun.span, box_xyxy=(x1, y1, x2, y2), score=score)
        )
    return tuple(found)
