"""Which step of a schedule a model call belongs to."""

from __future__ import annotations

import torch


def step_of(timestep: torch.Tensor, sigmas: torch.Tensor | None) -> int:
    """The last step that begins at the call's noise level or above; 0 outside of a schedule.

    Args:
        timestep: noise level of the call.
        sigmas: (S,) noise levels of the schedule, falling.

    >>> sigmas = torch.tensor([10.0, 5.0, 1.0, 0.0])
    >>> [step_of(torch.tensor([level]), sigmas) for level in (10.0, 7.0, 5.0, 0.5)]
    [0, 0, 1, 2]
    """
    if sigmas is None:
        return 0
    return max(0, int((sigmas >= timestep.flatten()[0]).sum()) - 1)


def level_of_step(timestep: torch.Tensor, sigmas: torch.Tensor | None) -> float:
    """The noise level at which that step begins; the call's own outside of a schedule.

    It is the same where a schedule is cut in two and sampled in two stages.
    """
    if sigmas is None:
        return float(timestep.flatten()[0])
    return float(sigmas[step_of(timestep, sigmas)])
