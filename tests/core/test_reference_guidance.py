"""The parts of algorithm 2 that are not sampling."""

from __future__ import annotations

import pytest
import torch

from subject_diffusion_core.errors import ShapeError
from subject_diffusion_core.hifi_tuner import guided_steps, inside_outside, optimize_null_text

GENERATOR = torch.Generator().manual_seed(0)
READS = torch.randn(4, 6, 3, generator=GENERATOR)
NULL = torch.randn(2, 4, 6, generator=GENERATOR)
REFERENCE = torch.randn(1, 3, 5, 7, generator=GENERATOR)
X = torch.randn(2, 3, 5, 7, generator=GENERATOR)
MASK = torch.zeros(5, 7, dtype=torch.bool)
MASK[1:4, 2:6] = True


def next_latent(phi: torch.Tensor) -> torch.Tensor:
    return X[: len(phi)] + torch.einsum("bld,ldc->bc", phi.tanh(), READS)[..., None, None]


def test_the_papers_steps() -> None:
    """t = 40..10 of 50: 10 plain steps before and 9 after."""
    assert guided_steps(50, 0.2, 0.8) == range(10, 41)
    assert guided_steps(20, 0.0, 1.0) == range(20)
    assert guided_steps(20, 0.5, 0.5) == range(10, 11)
    assert len(guided_steps(20, 0.6, 0.5)) == 0
    assert len(guided_steps(1, 0.2, 0.8)) == 1


def test_inside_and_outside() -> None:
    ones, zeros = torch.ones(2, 3, 5, 7), torch.zeros(2, 3, 5, 7)
    both = inside_outside(ones, zeros, MASK)
    assert torch.equal(both[1, 2], MASK.float())
    with pytest.raises(ShapeError, match="mask: expected shape"):
        inside_outside(ones, zeros, MASK[:2])


def test_losses_fall_and_are_those_inside_the_mask() -> None:
    phi, losses = optimize_null_text(next_latent, NULL, REFERENCE, MASK, 50)
    first = (next_latent(NULL) - REFERENCE).square()[..., MASK].mean()
    assert losses[0] == pytest.approx(float(first), rel=1e-5)
    assert losses[-1] < 0.8 * losses[0] and len(losses) == 50
    assert phi.shape == NULL.shape and not phi.requires_grad


def test_nothing_to_do_changes_nothing() -> None:
    phi, losses = optimize_null_text(next_latent, NULL, next_latent(NULL), MASK, 3)
    assert torch.equal(phi, NULL) and losses == [0.0] * 3
    assert torch.equal(optimize_null_text(next_latent, NULL, REFERENCE, MASK, 0)[0], NULL)


def test_outside_the_mask_does_not_matter() -> None:
    other = torch.where(MASK, REFERENCE, REFERENCE + 5.0)
    results = [optimize_null_text(next_latent, NULL, r, MASK, 4)[0] for r in (REFERENCE, other)]
    assert torch.equal(*results)


def test_a_batch_is_its_samples() -> None:
    both, _ = optimize_null_text(next_latent, NULL, REFERENCE, MASK, 4)
    first, _ = optimize_null_text(next_latent, NULL[:1], REFERENCE, MASK, 4)
    assert torch.allclose(both[:1], first, atol=1e-6)
