# Shapes: B draws of one update, C channels, h, w size of a latent, L vectors of a text, d their
#         width, n tuned vectors, S noise levels of the model, T steps of a schedule.
"""Tuning a subject embedding: HiFi Tuner eq. 6, and algorithm 1 for one set per step."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from .context_vectors import last_vectors, with_last_vectors
from .embedding_loss import distance_to_null, masked_sum, noise_error
from .loss_scale import FIRST_LOSS_SCALE, scaled_gradient

# (x (B, C, h, w), sigma (B,), context (1, L, d)) -> the clean latent (B, C, h, w), with a gradient
# to the context; x = latent + sigma * noise.
Predict = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class TuningSettings:
    """How an embedding is tuned.

    Attributes:
        num_vectors: n.
        steps: updates of the one set for all noise levels.
        steps_per_set: I of algorithm 1; 0 = no sets for single steps.
        regularization: w_s of eq. 6.
        batch_size: B, draws of noise and noise level per update, all of one picture.
    """

    num_vectors: int = 5
    steps: int = 1000
    steps_per_set: int = 10
    learning_rate: float = 5e-3
    regularization: float = 0.001
    batch_size: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        least = {"num_vectors": 1, "steps": 0, "steps_per_set": 0, "batch_size": 1}
        for name, smallest in least.items():
            if getattr(self, name) < smallest:
                raise ValueError(
                    f"{name}: expected {smallest} or more, got {getattr(self, name)}. Raise it."
                )
        if self.learning_rate <= 0 or self.regularization < 0:
            raise ValueError(
                "learning_rate, regularization: expected numbers above 0 and from 0 on, got "
                f"{self.learning_rate:g} and {self.regularization:g}. 0.005 and 0.001 are usual."
            )


@dataclass(frozen=True, kw_only=True, eq=False)
class Picture:
    """One picture of the subject: its latent (C, h, w) and mask (h, w) bool, None = all of it."""

    latent: torch.Tensor
    mask: torch.Tensor | None


@dataclass(kw_only=True, eq=False)
class TuningState:
    """Everything that goes on after an interruption.

    Attributes:
        update: how many are done.
        vectors: (n, d) float32, what is being tuned now.
        mean, mean_square: (n, d), Adam's moments.
        whole: (n, d), the one set for all noise levels, once it is done.
        sets: those of single steps that are done, (n, d) each.
        loss_scale: see `scaled_gradient`.
    """

    update: int
    vectors: torch.Tensor
    mean: torch.Tensor
    mean_square: torch.Tensor
    whole: torch.Tensor | None
    sets: list[torch.Tensor]
    loss_scale: float


@dataclass(frozen=True, kw_only=True, eq=False)
class TuningUpdate:
    """What one update did: its number from 1 on, its loss and what the model saw, (B, C, h, w)."""

    number: int
    loss: float
    denoised: torch.Tensor


class EmbeddingTuner:
    """Goes through all updates; between two of them `state` is what a later one goes on from.

    Run it where gradients are recorded; no gradient of the model's weights is computed.

    Args:
        predict: the model.
        pictures: of the subject, on the device of the model.
        context: (1, L, d), the encoded caption.
        null_context: (1, L, d), the encoded empty text.
        sigmas: (S,), the model's noise levels, of which each is drawn as often.
        step_sigmas: (T,), falling; a set of vectors is tuned for each.
        state: of an earlier tuner with the same arguments; None begins at the null text.
    """

    def __init__(
        self,
        predict: Predict,
        pictures: Sequence[Picture],
        context: torch.Tensor,
        null_context: torch.Tensor,
        sigmas: torch.Tensor,
        step_sigmas: torch.Tensor,
        settings: TuningSettings,
        state: TuningState | None = None,
    ) -> None:
        if not pictures:
            raise ValueError("pictures: expected one or more, got none. Pass the subject's.")
        self._predict = predict
        self._pictures = pictures
        self._context = context
        self._null = last_vectors(null_context, settings.num_vectors).float()
        self._sigmas = sigmas
        self._step_sigmas = step_sigmas
        self._settings = settings
        self.state = first_state(self._null) if state is None else state
        self._vectors = self.state.vectors.to(self._null, copy=True).requires_grad_()
        self._optimizer = self._make_optimizer()

    @property
    def total(self) -> int:
        """The number of all updates."""
        return self._settings.steps + self._settings.steps_per_set * len(self._step_sigmas)

    def __iter__(self) -> Iterator[TuningUpdate]:
        if self.state.update == self._settings.steps and self.state.whole is None:
            self._finish_update(self.state.update)
        while self.state.update < self.total:
            yield self._update()

    def _make_optimizer(self) -> torch.optim.Adam:
        rate = self._settings.learning_rate
        optimizer = torch.optim.Adam([self._vectors], lr=rate, foreach=False)
        if self.state.update > 0:
            optimizer.state[self._vectors] = {
                "step": torch.tensor(float(self.state.update)),
                "exp_avg": self.state.mean.to(self._null, copy=True),
                "exp_avg_sq": self.state.mean_square.to(self._null, copy=True),
            }
        return optimizer

    def _update(self) -> TuningUpdate:
        number = self.state.update
        picture, sigma, noise = self._draw(number)
        loss, denoised = self._set_gradient(picture, sigma, noise)
        self._optimizer.step()
        self._finish_update(number + 1)
        return TuningUpdate(number=number + 1, loss=loss, denoised=denoised)

    def _draw(self, number: int) -> tuple[Picture, torch.Tensor, torch.Tensor]:
        """A picture, noise levels (B,) and noise (B, C, h, w); the seed and the update decide."""
        generator = torch.Generator().manual_seed(
            random.Random(f"{self._settings.seed} {number}").getrandbits(63)
        )
        index = int(torch.randint(len(self._pictures), (1,), generator=generator))
        picture, batch = self._pictures[index], self._settings.batch_size
        level = torch.randint(len(self._sigmas), (batch,), generator=generator)
        noise = torch.randn(batch, *picture.latent.shape, generator=generator)
        step = number - self._settings.steps
        if step < 0:
            sigma = self._sigmas[level.to(self._sigmas.device)]
        else:
            sigma = self._step_sigmas[step // self._settings.steps_per_set].expand(batch)
        return picture, sigma.to(picture.latent), noise.to(picture.latent)

    def _set_gradient(
        self, picture: Picture, sigma: torch.Tensor, noise: torch.Tensor
    ) -> tuple[float, torch.Tensor]:
        """Eq. 6 and its gradient: the loss, and what the model saw."""
        x = picture.latent + sigma.view(-1, 1, 1, 1) * noise
        weight = self._settings.regularization
        distance = weight * distance_to_null(self._vectors, self._null)
        (pull,) = torch.autograd.grad(distance, [self._vectors])
        context = with_last_vectors(self._context, self._vectors)
        denoised = self._predict(x, sigma, context)
        total, count = masked_sum(noise_error(denoised, picture.latent, sigma), picture.mask)
        gradient, self.state.loss_scale = scaled_gradient(
            total, self._vectors, self.state.loss_scale
        )
        self._vectors.grad = gradient / count + pull
        return float(total.detach() / count + distance.detach()), denoised.detach()

    def _finish_update(self, done: int) -> None:
        """Put what the update left into `state`, and the sets that are done."""
        state, settings = self.state, self._settings
        state.update = done
        state.vectors = self._vectors.detach().clone()
        moments = self._optimizer.state.get(self._vectors, {})
        if moments:
            state.mean = moments["exp_avg"].clone()
            state.mean_square = moments["exp_avg_sq"].clone()
        if done == settings.steps:
            state.whole = state.vectors
        elif done > settings.steps and (done - settings.steps) % settings.steps_per_set == 0:
            state.sets.append(state.vectors)


def first_state(null_vectors: torch.Tensor) -> TuningState:
    """At the null text: phi_s, (n, d)."""
    zeros = torch.zeros_like(null_vectors)
    return TuningState(
        update=0,
        vectors=null_vectors.clone(),
        mean=zeros,
        mean_square=zeros.clone(),
        whole=None,
        sets=[],
        loss_scale=FIRST_LOSS_SCALE,
    )
