"""Whether a base's own loss tells captions of real pictures apart: cheap, and without sampling.

# Shapes: Q questions, c latent channels, h x w latents.
Of a real composite of the question the loss is taken under its own caption, under one with the
label of another group, and under one of another scene, with the same noise and timesteps.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from training.methods.objective import noise_scheduler
from training.toy.data.library import Library
from training.toy.text.drawing import BATCH, Base, real_latents, seeded

from .questions import ToldQuestion

TIMESTEPS = (450, 650, 800, 900)


def predictions(
    base: Base, latents: Tensor, questions: Sequence[ToldQuestion], timestep: int
) -> tuple[Tensor, list[Tensor]]:
    """The velocity (Q, c, h, w) that is right, and what the base says under the right caption, the
    wrong label and the wrong scene."""
    scheduler = noise_scheduler(base.base.prediction_type)
    seeds = [question.seed + timestep for question in questions]
    noise = torch.stack([torch.randn(latents.shape[1:], generator=seeded(s)) for s in seeds])
    steps = torch.full((len(questions),), timestep)
    noisy = scheduler.add_noise(latents, noise, steps)  # type: ignore[arg-type]
    said = [
        base.model(noisy, steps, base.told(prompts))
        for prompts in (
            [question.prompt for question in questions],
            [question.wrong_label for question in questions],
            [question.wrong_scene for question in questions],
        )
    ]
    return scheduler.get_velocity(latents, noise, steps), said  # type: ignore[arg-type]


def inside_mean(values: Tensor, mask: Tensor) -> Tensor:
    """(Q,) mean of values (Q, h, w) weighted by mask (Q, h, w)."""
    return (values * mask).sum((1, 2)) / mask.sum((1, 2))


@torch.no_grad()
def tell_apart(
    base: Base, library: Library, questions: Sequence[ToldQuestion]
) -> dict[str, np.ndarray]:
    """(Q,) by name, over all timesteps.

    ``loss``: the base's own under the right caption, in all of the picture, in thousandths.
    ``label_gap``: how much more the loss inside the subject is under the wrong label, in per cent;
    ``scene_gap``: the same outside of it, of the wrong scene. ``label_effect``: how far the wrong
    label moves what the base says inside the subject, in per cent of how far the wrong scene does.
    """
    found: dict[str, list[Tensor]] = {name: [] for name in ("loss", "label", "scene", "effect")}
    for first in range(0, len(questions), BATCH):
        some = questions[first : first + BATCH]
        latents, inside = real_latents(base, library, some)
        sums, loss = torch.zeros(6, len(some)), torch.zeros(len(some))
        for timestep in TIMESTEPS:
            target, (right, label, scene) = predictions(base, latents, some, timestep)
            outside = 1 - inside
            loss += (right - target).square().mean((1, 2, 3))
            pairs = (
                (right, target, inside), (label, target, inside), (right, target, outside),
                (scene, target, outside), (label, right, inside), (scene, right, inside),
            )  # fmt: skip
            sums += torch.stack([inside_mean((a - b).square().mean(1), m) for a, b, m in pairs])
        found["loss"].append(1000 * loss / len(TIMESTEPS))
        found["label"].append(100 * (sums[1] / sums[0] - 1))
        found["scene"].append(100 * (sums[3] / sums[2] - 1))
        found["effect"].append(100 * (sums[4] / sums[5]).sqrt())
    gaps = {name: torch.cat(values).numpy() for name, values in found.items()}
    return {
        "loss": gaps["loss"],
        "label_gap": gaps["label"],
        "scene_gap": gaps["scene"],
        "label_effect": gaps["effect"],
    }
