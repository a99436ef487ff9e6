"""Parts of the sampling in which the same subjects take part."""

from __future__ import annotations

from subject_diffusion_pack.nodes.subjects.periods import split_into_periods as split


def test_periods() -> None:
    assert split([], 0.2, 0.8) == [(0.2, 0.8, ())]
    assert split([(0.0, 1.0)] * 2, 0.0, 1.0) == [(0.0, 1.0, (0, 1))]
    assert split([(0.0, 0.1), (0.9, 1.0)], 0.2, 0.8) == [(0.2, 0.8, ())]
    assert split([(0.4, 1.0), (0.0, 0.4)], 0.0, 0.7) == [
        (0.0, 0.4, (1,)),
        (0.4, 0.7, (0,)),
    ]
