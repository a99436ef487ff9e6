"""Captions by BLIP-2, as the paper's data has them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from .models import device_of, dtype_of, load_pretrained, model_folder, to_device
from .pictures import load
from .record import Record
from .settings import CurationSettings

STAGE = "caption"


class Captioner:
    """BLIP-2 of transformers; a batch of records gets captions in one generation."""

    def __init__(self, settings: CurationSettings) -> None:
        from transformers import Blip2ForConditionalGeneration, Blip2Processor

        own = settings.caption
        folder = model_folder(STAGE, own, "BLIP-2")
        self.device, self.dtype = device_of(own), dtype_of(own)
        self.processor: Any = load_pretrained(STAGE, Blip2Processor, folder)
        model = load_pretrained(STAGE, Blip2ForConditionalGeneration, folder, dtype=self.dtype)
        self.model: Any = model.to(self.device).eval()
        self.prompt, self.max_tokens = settings.prompt, settings.max_caption

    @torch.no_grad()
    def __call__(self, records: Sequence[Record]) -> list[Record]:
        """The records with their captions; greedy, so always the same ones."""
        pictures = [load(record.picture) for record in records]
        text = [self.prompt] * len(pictures) if self.prompt else None
        inputs = self.processor(images=pictures, text=text, return_tensors="pt", padding=True)
        made = self.model.generate(
            **to_device(inputs, self.device, self.dtype),
            max_new_tokens=self.max_tokens,
            do_sample=False,
        )
        captions = self.processor.batch_decode(made, skip_special_tokens=True)
        return [
            replace(record, caption=caption.strip(), captioned=True)
            for record, caption in zip(records, captions, strict=True)
        ]
