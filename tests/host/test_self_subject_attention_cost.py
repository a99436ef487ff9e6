"""What self-subject-attention costs at Stable Diffusion 1.5's geometry, counted."""

from __future__ import annotations

from host_models import Host

from benchmarks.self_subject_attention import SD15, counted

# Of a picture of 512 x 512 with guidance, times the plain step.
MOST = {
    "CFG, one shared reference, all keys": 1.7,
    "batch of 4, all keys": 1.35,
    "the same, keys known, all keys": 1.2,
    "CFG, one shared reference, 30% foreground": 1.6,
}


def test_arithmetic_of_a_step(host: Host) -> None:
    ratios = {cost.case: cost.ratio for cost in counted("SD15", SD15, 64)}
    assert {case: ratios[case] for case, most in MOST.items() if ratios[case] > most} == {}
    assert all(ratio > 1.0 for ratio in ratios.values())
