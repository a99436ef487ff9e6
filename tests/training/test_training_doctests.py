"""The examples in the docstrings of the training loop run."""

from __future__ import annotations

import doctest
import importlib

import pytest

MODULES = (
    "training.curation.convert.coco",
    "training.curation.convert.conversion",
    "training.curation.convert.cutouts",
    "training.dataset.batches",
    "training.dataset.packing",
    "training.dataset.framing",
    "training.dataset.order",
    "training.loop.progress",
    "training.recipes.settings",
)


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    outcome = doctest.testmod(importlib.import_module(name))
    assert outcome.attempted > 0 and outcome.failed == 0
