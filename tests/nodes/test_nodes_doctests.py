"""The examples in the docstrings of what imports no ComfyUI."""

from __future__ import annotations

import doctest
import importlib

import pytest

MODULES = (
    "adapters.block_weights",
    "host.block_selection",
    "segmentation.points",
    "subjects.layout_text",
    "subjects.periods",
    "subjects.placement",
)


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    outcome = doctest.testmod(importlib.import_module(f"subject_diffusion_pack.nodes.{name}"))
    assert outcome.attempted > 0 and outcome.failed == 0
