"""What self-subject-attention costs at Stable Diffusion 1.5's geometry, counted."""

from __future__ import annotations

from host_models import Host

from benchmarks.self_subject_attention import SD15, SDXL, counted, kept_bytes

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


def test_memory_of_the_keys(host: Host) -> None:
    """Every layer's (h*w, width), keys and values, two bytes each."""
    layers = {"SD15": [(64, 320, 5), (32, 640, 5), (16, 1280, 5), (8, 1280, 1)]}
    layers["SDXL"] = [(64, 640, 10), (32, 1280, 60)]
    for family, config, side in (("SD15", SD15, 64), ("SDXL", SDXL, 128)):
        wanted = sum(4 * count * size**2 * width for size, width, count in layers[family])
        assert kept_bytes(family, config, side, 1.0) == wanted
        assert 0.28 < kept_bytes(family, config, side, 0.3) / wanted < 0.34
