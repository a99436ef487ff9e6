"""Settings of a build, and the sides that its pictures go to."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from training.curation.settings import (
    CurationSettings,
    ModelSettings,
    read_settings,
    settings_of,
    with_settings,
)
from training.curation.sides import groups, near_pairs


def test_settings_go_through_json_and_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    path.write_text(json.dumps({"thresholds": {"min_side": 64}, "caption": {"dtype": "bfloat16"}}))
    settings = with_settings(read_settings(path), ["masks.gpus=0.25", "held_out=0.1"])
    assert settings.thresholds.min_side == 64 and settings.caption.dtype == "bfloat16"
    assert settings.masks.gpus == 0.25 and settings.held_out == 0.1
    assert settings.boxes == CurationSettings().boxes


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            "min_side=3",
            r"^--set: expected one of the settings, got 'min_side'. Did you mean thresh",
        ),
        ("thresholds.min_side", r"^--set: expected name=value, got"),
        ("thresholds.min_side=x", r"^thresholds.min_side: expected a whole number, got 'x'"),
        ("caption.dtype=int8", r"^dtype: expected float32, float16, bfloat16, got 'int8'"),
        ("held_out=1", r"^held_out: expected 0 to below 1, got 1.0"),
    ],
)
def test_wrong_settings_are_told(change: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        with_settings(CurationSettings(), [change])


def test_wrong_files_of_settings_are_told(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    texts = ("[]", "{", '{"nonsense": 1}', '{"caption": 3}', '{"caption": {"batch_size": "many"}}')
    for text in texts:
        path.write_text(text)
        with pytest.raises(ValueError, match=r"^--settings: expected a JSON file of settings"):
            read_settings(path)
    with pytest.raises(ValueError, match=r"^batch_size: expected 1 or more, got 0"):
        ModelSettings(batch_size=0)
    assert settings_of({}) == CurationSettings()


@pytest.mark.parametrize("near_bits", [0, 1, 4, 7])
def test_near_pairs_are_all_of_them(near_bits: int) -> None:
    """Against comparing everything with everything."""
    rng = np.random.default_rng(near_bits)
    hashes = list(rng.integers(0, 2**63, 40, np.uint64))
    for one in hashes[:20]:
        bits = rng.permutation(64)[: rng.integers(0, 9)]
        hashes.append(np.uint64(int(one) ^ sum(1 << int(bit) for bit in bits)))
    values = np.unique(np.array(hashes, np.uint64))
    expected = {
        (a, b)
        for a, b in combinations(range(len(values)), 2)
        if (int(values[a]) ^ int(values[b])).bit_count() <= near_bits
    }
    found = {tuple(sorted(pair)) for pair in near_pairs(values, near_bits)}
    assert found == expected and (near_bits == 0 or expected)


def test_chains_are_one_group() -> None:
    hashes = np.array([0, 1 << 40, 3, 7, 1 << 40], np.uint64)
    assert groups(hashes, near_bits=2) == [0, 0, 0, 0, 0], "0-3-7, 0-2**40"
    assert groups(hashes, near_bits=0) == [0, 1, 2, 3, 1]
    assert groups(np.array([], np.uint64), near_bits=2) == []
