"""A lesson for the text encoder alone: a label's states must tell how the thing looks, a scene's
how the place looks, in the features of the training side's image encoder (EfficientNet-Lite0).

# Shapes: B captions, L tokens, D text width, F feature width, K = 64 kept directions.
Where pictures show the subjects, little makes the text encoder tell one label from another: of a
label's looks, edition four's states say nothing where the label stands. Captions need no pictures,
and the encoder is causal, so tokens behind the end are left out.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPTextModel

from ...loop.step_cost import count_flops
from ...networks.text import encode_text
from ...precision import fastest_autocast
from ...runs import cosine_learning_rate, save_array
from ..data.compose import with_article, write_caption
from ..data.library import Library, draw_rows
from ..data.pictures import reference_image
from .drawing import Base
from .encoder import training_encoder

SEED = 74
BATCH, KEPT, WARMUP = 96, 64, 20
BACKGROUNDS_OF_A_SCENE = 12
BEHIND_END = 3  # of the end and the padding, which all say the same


def directions(features: np.ndarray) -> np.ndarray:
    """(M, KEPT) principal parts of features (M, F), of unit variance together."""
    centred = features - features.mean(0)
    left, values, _ = np.linalg.svd(centred, full_matrices=False)
    kept = left[:, :KEPT] * values[:KEPT] ** 0.5
    spread = kept / kept.std()
    return np.pad(spread, ((0, 0), (0, KEPT - spread.shape[1]))).astype(np.float32)


def looks_of(library: Library, work: Path) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """How every label and every scene's caption looks, (KEPT,) each; kept in ``work``."""
    labels: dict[str, list[int]] = {}
    for label, rows in (*library.models, *library.emoji):
        labels.setdefault(label, []).append(rows[len(rows) // 3])
    scenes: dict[str, list[int]] = {}
    for row in library.scene_rows:
        scenes.setdefault(library.scenes[row]["caption"], []).append(row)
    path = work / "evaluation" / "looks.npy"
    if not path.exists():
        encoder = training_encoder()
        means = []
        for rows in labels.values():
            shown = [reference_image(np.asarray(library.cutouts[row]), 128) for row in rows]
            means.append(encoder.encode(np.stack(shown)).mean(0))
        places = [
            encoder.encode(np.asarray(library.backgrounds[rows[:BACKGROUNDS_OF_A_SCENE]])).mean(0)
            for rows in scenes.values()
        ]
        save_array(path, np.concatenate([directions(np.stack(m)) for m in (means, places)]))
    looks = torch.from_numpy(np.load(path))
    count = len(labels)
    return (
        dict(zip(labels, looks[:count], strict=True)),
        dict(zip(scenes, looks[count:], strict=True)),
    )


@dataclass(frozen=True, kw_only=True)
class Captions:
    """A batch of a lesson.

    Attributes:
        ids: (B, L) compact. labels: of the captions.
        label_ends, ends: (B,) where the label's last token and the end stand.
        label_looks, scene_looks: (B, KEPT).
    """

    ids: Tensor
    labels: list[str]
    label_ends: Tensor
    ends: Tensor
    label_looks: Tensor
    scene_looks: Tensor

    def to(self, device: torch.device) -> Captions:
        """The same there."""
        moved: dict[str, Any] = {
            field.name: value.to(device)
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), Tensor)
        }
        return replace(self, **moved)


class Lesson:
    """Captions, and what their states must tell through heads that are thrown away."""

    seed, batch_size = SEED, BATCH

    def __init__(self, library: Library, work: Path, base: Base) -> None:
        self.library, self.base = library, base
        self.labels, self.scenes = looks_of(library, work)
        self.captions = sorted(self.scenes)
        torch.manual_seed(self.seed)
        self.heads = nn.ModuleList(self.head(KEPT) for _ in range(2))

    def head(self, width: int) -> nn.Linear:
        """Reads ``width`` numbers from a state."""
        return nn.Linear(self.base.base.text_config.hidden_size, width)

    def batch(self, step: int) -> Captions:
        """The captions of a step."""
        rng = np.random.default_rng((self.seed, step))
        rows = [draw_rows(self.library, rng, 1)[0] for _ in range(self.batch_size)]
        labels = [self.library.records[row]["label"] for row in rows]
        scenes = [self.captions[n] for n in rng.integers(len(self.captions), size=len(rows))]
        prompts = [write_caption([of], at, rng) for of, at in zip(labels, scenes, strict=True)]
        ids = torch.stack([self.base.token_ids(prompt) for prompt in prompts])
        label_ends = [self.end_of(text, of) for text, of in zip(prompts, labels, strict=True)]
        return Captions(
            ids=ids,
            labels=labels,
            label_ends=torch.tensor(label_ends),
            ends=(ids == ids[:, -1:]).float().argmax(1),
            label_looks=torch.stack([self.labels[label] for label in labels]),
            scene_looks=torch.stack([self.scenes[scene] for scene in scenes]),
        )

    def end_of(self, prompt: str, label: str) -> int:
        """Where the last token of the label stands."""
        before = prompt[: prompt.index(with_article(label)) + len(with_article(label))]
        ids = self.base.token_ids(before)
        return int((ids == ids[-1]).float().argmax()) - 1

    def read(self, text_encoder: CLIPTextModel, captions: Captions) -> Tensor:
        """The states (B, L', D) that the lesson looks at: all up to the last end and a little
        behind."""
        seen = captions.ids[:, : int(captions.ends.max()) + BEHIND_END]
        with fastest_autocast(seen.device):
            return encode_text(text_encoder, seen).float()

    def errors(self, states: Tensor, captions: Captions) -> list[Tensor]:
        """Of the label at its own end and behind the caption's, and of the scene behind it."""
        rows = torch.arange(len(states))
        behind = torch.stack([states[rows, captions.ends + n] for n in range(BEHIND_END)], 1)
        wanted = (captions.label_looks, captions.scene_looks)
        late = (
            F.mse_loss(head(behind), looks[:, None].expand(-1, BEHIND_END, -1))
            for head, looks in zip(self.heads[:2], wanted, strict=True)
        )
        own = self.heads[0](states[rows, captions.label_ends])
        return [F.mse_loss(own, captions.label_looks), *late]


def teach(lesson: Lesson, steps: int, rate: float) -> float:
    """Train the text encoder of the lesson's base in place. Returns the tera-operations that this
    took."""
    text: nn.Module = lesson.base.model.text_encoder
    text.requires_grad_(True)
    trained = [*text.parameters(), *lesson.heads.parameters()]
    optimizer = torch.optim.AdamW(trained, lr=rate, betas=(0.9, 0.98), weight_decay=0.01)
    flops = 0
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = cosine_learning_rate(step, steps, rate, WARMUP)
        losses: list[float] = []
        flops += count_flops(partial(learn, losses, lesson, lesson.batch(step)))
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if (step + 1) % 25 == 0:
            print(f"{type(lesson).__name__} {step + 1}: {losses}", flush=True)
    text.requires_grad_(False)
    return flops / 1e12


def learn(losses: list[float], lesson: Lesson, captions: Captions) -> None:
    """Gradients of a batch; adds its errors to ``losses``."""
    states = lesson.read(lesson.base.model.text_encoder, captions)
    errors = lesson.errors(states, captions)
    torch.stack(errors).sum().backward()
    losses += [round(error.item(), 3) for error in errors]
