"""Embeddings and LoRAs of the subjects, tuned through the nodes once and kept."""

from __future__ import annotations

import hashlib
import importlib
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from devtools.api_client import Graph
from training.runs import atomic_path

from ..made_picture import input_folder, output_folder
from ..structure.in_process import InProcessHost
from .rows import LORA_LEARNING_RATE, LORA_RANK, Row, Sizes, Tuning, tuning_graph, weights_graph
from .subjects import TunedSubject

EMBEDDINGS, LORAS = "subject_diffusion_tuned", "loras"


class TunedFiles:
    """Tunes what is not yet in `folder`, and puts it where the loaders of ComfyUI look.

    `weights` is the small model's hash: what was tuned on other weights is tuned again.
    """

    def __init__(self, host: InProcessHost, folder: Path, weights: str, sizes: Sizes) -> None:
        self._host, self._folder, self._weights, self._sizes = host, folder, weights, sizes

    def picture_of(self, subject: TunedSubject) -> Path:
        """The subject's picture in ComfyUI's input folder, its alpha the subject's mask."""
        path = input_folder() / f"{hashlib.sha256(subject.picture.tobytes()).hexdigest()[:12]}.png"
        if not path.exists():
            Image.fromarray(subject.picture, "RGBA").save(path)
        return path

    def files_of(self, row: Row, subject: TunedSubject) -> list[str]:
        """The names by which the row's loaders find the subject's files."""
        if row.has_weights:
            return [self._lora(subject)]
        return [] if row.tuning is None else [self._embedding(subject, row.tuning)]

    def _embedding(self, subject: TunedSubject, tuning: Tuning) -> str:
        settings = [asdict(tuning), self._sizes.tuning_steps, self._sizes.learning_rate]
        if tuning.is_stepwise:
            settings += [self._sizes.steps, self._sizes.steps_per_set]
        target = output_folder() / EMBEDDINGS
        return self._kept(
            subject,
            settings,
            target,
            target,
            lambda name: tuning_graph(
                tuning,
                subject.queries[0],
                self.picture_of(subject),
                f"{EMBEDDINGS}/{name}",
                self._sizes,
            ),
        )

    def _lora(self, subject: TunedSubject) -> str:
        folder_paths: Any = importlib.import_module("folder_paths")
        torch.manual_seed(0)  # Train LoRA draws noise levels and first weights by the global one
        return self._kept(
            subject,
            ["LoRA", LORA_RANK, LORA_LEARNING_RATE, self._sizes.weight_steps],
            output_folder() / LORAS,
            Path(folder_paths.get_folder_paths(LORAS)[0]),
            lambda name: weights_graph(
                subject.queries[0], self.picture_of(subject), f"{LORAS}/{name}", self._sizes
            ),
        )

    def _kept(
        self,
        subject: TunedSubject,
        settings: list[Any],
        saved_in: Path,
        loaded_from: Path,
        graph: Callable[[str], Graph],
    ) -> str:
        """The name of a file in `loaded_from`; made by the graph unless it was made before."""
        parts = [subject.picture.tobytes().hex(), subject.label, settings, self._weights]
        name = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
        kept = self._folder / f"{name}.safetensors"
        if not kept.exists():
            self._host.run(graph(name))
            (made,) = saved_in.glob(f"{name}*")
            with atomic_path(kept) as temporary:
                shutil.move(made, temporary)
            self._host.forget()
        target = loaded_from / kept.name
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(kept, target)
        return target.name
