"""The loss of a subject embedding and its tuning, on models that are functions."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable

import pytest
import torch

from subject_diffusion_core.errors import ShapeError
from subject_diffusion_core.hifi_tuner import (
    EmbeddingTuner,
    Picture,
    TunedEmbedding,
    TuningSettings,
    distance_to_null,
    last_vectors,
    latent_mask,
    masked_sum,
    noise_error,
    step_ranges,
    with_last_vectors,
)

LENGTH, WIDTH, CHANNELS = 7, 4, 3
SIGMAS = torch.linspace(0.1, 10.0, 20)
STEP_SIGMAS = torch.tensor([8.0, 3.0, 0.5])


def seeded(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


CONTEXT, NULL = seeded(1, LENGTH, WIDTH, seed=1), seeded(1, LENGTH, WIDTH, seed=2)
LATENT = seeded(CHANNELS, 5, 6, seed=3)
READS = seeded(LENGTH, WIDTH, CHANNELS, seed=4)


def predict(x: torch.Tensor, sigma: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
    """A model whose clean latent depends on all of the text and on the noise level."""
    colour = torch.einsum("bld,ldc->bc", context.tanh(), READS)
    return x / (1 + sigma.view(-1, 1, 1, 1)) + colour[..., None, None]


def tuner(
    pictures: list[Picture] | None = None,
    state: object = None,
    model: Callable[..., torch.Tensor] = predict,
    **settings: object,
) -> EmbeddingTuner:
    values = {"num_vectors": 2, "steps": 6, "steps_per_set": 2, "seed": 5, **settings}
    return EmbeddingTuner(
        model,
        pictures or [Picture(latent=LATENT, mask=None)],
        CONTEXT,
        NULL,
        SIGMAS,
        STEP_SIGMAS,
        TuningSettings(**values),
        state,
    )


def run(each: EmbeddingTuner, most: int = 10**6) -> list[float]:
    losses = []
    for update in each:
        losses.append(update.loss)
        if update.number == most:
            break
    return losses


def test_own_last_vectors_change_nothing() -> None:
    assert torch.equal(with_last_vectors(CONTEXT, last_vectors(CONTEXT, 3)), CONTEXT)


def test_vectors_of_another_width_are_refused() -> None:
    with pytest.raises(ShapeError, match="vectors: expected shape"):
        with_last_vectors(CONTEXT, torch.zeros(2, WIDTH + 1))
    with pytest.raises(ShapeError, match="Leave room for the prompt"):
        with_last_vectors(CONTEXT, torch.zeros(LENGTH, WIDTH))
    with pytest.raises(ShapeError, match="num_vectors: expected 1 to 6, got 7"):
        last_vectors(CONTEXT, LENGTH)


def test_noise_error_is_that_of_the_predicted_noise() -> None:
    noise, sigma = seeded(2, CHANNELS, 5, 6, seed=6), torch.tensor([0.5, 4.0])
    x = LATENT + sigma.view(-1, 1, 1, 1) * noise
    predicted = seeded(2, CHANNELS, 5, 6, seed=7)
    denoised = x - sigma.view(-1, 1, 1, 1) * predicted
    assert torch.allclose(noise_error(denoised, LATENT, sigma), predicted - noise, atol=1e-5)


def test_masked_loss_by_hand() -> None:
    error = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    assert [float(v) for v in masked_sum(error, None)] == [30.0, 4.0]
    mask = torch.tensor([[True, False], [False, True]])
    assert [float(v) for v in masked_sum(error, mask)] == [17.0, 2.0]
    with pytest.raises(ValueError, match="mask: expected the subject in at least one cell"):
        masked_sum(error, torch.zeros(2, 2, dtype=torch.bool))
    assert float(distance_to_null(torch.ones(2, 2), torch.zeros(2, 2))) == 1.0


def test_mask_at_the_latents_size() -> None:
    mask = torch.zeros(4, 4)
    mask[:2, :3] = 1.0  # 3/4 of the second cell's left half
    assert latent_mask(mask, 2, 2).tolist() == [[True, False], [False, False]]


def test_all_of_the_picture_is_plain_textual_inversion() -> None:
    """A mask of ones and w_s 0: the mean square error of the noise, by autograd alone."""
    ones = Picture(latent=LATENT, mask=torch.ones(5, 6, dtype=torch.bool))
    masked, plain = tuner([ones], regularization=0.0), tuner(regularization=0.0)
    assert run(masked) == run(plain)
    assert torch.equal(masked.state.vectors, plain.state.vectors)
    first = tuner(regularization=0.0)
    picture, sigma, noise = first._draw(0)
    vectors = last_vectors(NULL, 2).clone().requires_grad_()
    denoised = predict(picture.latent + sigma * noise, sigma, with_last_vectors(CONTEXT, vectors))
    loss = ((LATENT - denoised) / sigma).square().mean()
    optimizer = torch.optim.Adam([vectors], lr=5e-3)
    loss.backward()
    optimizer.step()
    assert run(first, most=1) == [pytest.approx(float(loss.detach()), rel=1e-6)]
    assert torch.allclose(first.state.vectors, vectors.detach(), atol=1e-6)


def test_the_loss_falls() -> None:
    losses = run(tuner(steps=300, steps_per_set=0, learning_rate=0.05, regularization=0.0))
    assert sum(losses[-50:]) < 0.7 * sum(losses[:50])


def test_a_strong_pull_holds_the_null_text() -> None:
    held = tuner(steps=200, regularization=1e6)
    free = tuner(steps=200, regularization=0.0)
    run(held), run(free)
    null = last_vectors(NULL, 2)
    assert float((held.state.vectors - null).abs().max()) < 0.02
    assert float((free.state.vectors - null).abs().max()) > 0.2


def test_what_is_outside_the_mask_does_not_matter() -> None:
    mask = torch.zeros(5, 6, dtype=torch.bool)
    mask[1:4, 2:5] = True
    other = torch.where(mask, LATENT, seeded(CHANNELS, 5, 6, seed=9))
    results = []
    for latent in (LATENT, other):
        each = tuner([Picture(latent=latent, mask=mask)])
        run(each)
        results.append(each.state.vectors)
    assert torch.equal(*results)


def test_only_the_last_vectors_are_tuned() -> None:
    seen = []

    def model(x: torch.Tensor, sigma: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        seen.append(context.detach())
        return predict(x, sigma, context)

    run(tuner(model=model))
    assert all(torch.equal(context[:, :-2], CONTEXT[:, :-2]) for context in seen)
    assert torch.equal(seen[0][:, -2:], NULL[:, -2:])
    assert not torch.equal(seen[1][:, -2:], NULL[:, -2:])


def test_sets_follow_the_steps_and_each_other() -> None:
    """Algorithm 1: from the noisiest step on, each from the one before, at that level only."""
    levels, each = [], None

    def model(x: torch.Tensor, sigma: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        levels.append(float(sigma[0]))
        if len(levels) == 7:  # the first draw for a single step
            assert torch.equal(context[0, -2:].detach(), each.state.whole)
        return predict(x, sigma, context)

    each = tuner(model=model)
    losses = run(each)
    assert len(losses) == each.total == 12
    assert levels[6:] == [8.0, 8.0, 3.0, 3.0, 0.5, 0.5]
    assert len(each.state.sets) == 3 and torch.equal(each.state.sets[-1], each.state.vectors)


@pytest.mark.parametrize("stop", [0, 1, 5, 6, 7, 8, 11, 12])
def test_resumed_is_uninterrupted(stop: int) -> None:
    whole = tuner()
    losses = run(whole)
    first = tuner()
    done = run(first, most=stop) if stop else []
    second = tuner(state=copy.deepcopy(first.state))
    assert done + run(second) == losses
    assert torch.equal(second.state.whole, whole.state.whole)
    assert torch.equal(torch.stack(second.state.sets), torch.stack(whole.state.sets))


def test_gradients_that_overflow_halve_the_scale() -> None:
    """As in half precision, where the loss is scaled; the result is the same."""

    class Overflowing(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, tensor: torch.Tensor) -> torch.Tensor:
            return tensor.clone()

        @staticmethod
        def backward(ctx: object, gradient: torch.Tensor) -> torch.Tensor:
            return gradient.half().float()

    def steep(x: torch.Tensor, sigma: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        return Overflowing.apply(predict(x, sigma, context))

    plain, scaled = tuner(), tuner(model=steep)
    plain.state.loss_scale = scaled.state.loss_scale = 2.0**20
    run(plain), run(scaled)
    assert plain.state.loss_scale == 2.0**20 > scaled.state.loss_scale
    assert torch.allclose(scaled.state.vectors, plain.state.vectors, atol=1e-3)


def test_a_model_that_gives_nan_is_said() -> None:
    with pytest.raises(ValueError, match="model: expected finite numbers, got NaN"):
        run(tuner(model=lambda x, sigma, context: predict(x, sigma, context) * float("nan")))


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="num_vectors: expected 1 or more, got 0"):
        TuningSettings(num_vectors=0)
    with pytest.raises(ValueError, match="learning_rate, regularization: expected"):
        TuningSettings(learning_rate=0.0)
    with pytest.raises(ValueError, match="pictures: expected one or more"):
        EmbeddingTuner(predict, [], CONTEXT, NULL, SIGMAS, STEP_SIGMAS, TuningSettings())


def test_ranges_are_without_gap_and_one_ends_where_the_next_begins() -> None:
    ranges = step_ranges(tuple(float(t) for t in range(981, 0, -20)))
    assert ranges[0][0] == 0.0 and ranges[-1][1] == 1.0
    assert all(before[1] == after[0] for before, after in itertools.pairwise(ranges))
    assert step_ranges((500.0,)) == [(0.0, 1.0)]


def test_an_embedding_checks_its_sets() -> None:
    vectors = torch.zeros(2, 4)
    sets = torch.zeros(3, 2, 4)
    TunedEmbedding(vectors=vectors, step_vectors=sets, step_timesteps=(9, 5, 1), label="dog")
    with pytest.raises(ShapeError, match="step_vectors"):
        TunedEmbedding(vectors=vectors, step_vectors=sets, step_timesteps=(9, 5), label="dog")
    with pytest.raises(ValueError, match="step_timesteps: expected a falling timestep"):
        TunedEmbedding(vectors=vectors, step_vectors=sets, step_timesteps=(1, 5, 9), label="dog")
    with pytest.raises(ValueError, match="step_timesteps"):
        TunedEmbedding(vectors=vectors, step_vectors=None, step_timesteps=(9,), label="dog")
