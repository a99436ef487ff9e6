"""Conditionings of Encode in the hands of other nodes and other MODELs."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from host_models import Host, cfg_guider, random_noise, sample
from test_nodes import Encoder, make_subject


@pytest.fixture(scope="module")
def encoder(host: Host, tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    with torch.inference_mode():
        return Encoder(host, tmp_path_factory.mktemp("beside"))


@pytest.fixture(scope="module")
def conditionings(host: Host, encoder: Encoder) -> Any:
    with torch.inference_mode():
        return encoder.encode(make_subject(host, box="0,0,0.5,0.5"))


def zeroed(conditioning: Any) -> Any:
    """What ComfyUI's ConditioningZeroOut gives."""
    return [[torch.zeros_like(x), dict(values)] for x, values in conditioning]


def run(model: Any, positive: Any, negative: Any, encoder: Encoder) -> torch.Tensor:
    noise = random_noise(encoder.base)
    return sample(cfg_guider(model, positive, negative, 3.0), noise, steps=2)


def test_a_zeroed_positive_is_a_negative_without_subjects(
    host: Host, encoder: Encoder, conditionings: Any
) -> None:
    model, _ = host.apply_node.apply_adapter(encoder.base.model, encoder.base.clip, encoder.loaded)
    positive = conditionings[0]
    key = host.family.ATTACHMENT_KEY
    bare = [
        [x, {k: v for k, v in values.items() if k != "model_conds"}]
        for x, values in zeroed(positive)
    ]
    assert key in positive[0][1]["model_conds"]
    got = run(model, positive, zeroed(positive), encoder)
    assert torch.equal(got, run(model, positive, bare, encoder))


def test_a_model_that_does_not_know_the_subjects_says_so(
    encoder: Encoder, conditionings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """As where a sampler gets the loader's MODEL; once, however many steps there are."""
    positive, _, negative = conditionings
    with caplog.at_level(logging.WARNING):
        run(encoder.base.model, negative, negative, encoder)
        assert "The conditioning carries subjects" not in caplog.text
        run(encoder.base.model, positive, negative, encoder)
    assert caplog.text.count("The conditioning carries subjects, but the MODEL that samples") == 1


def test_the_adapters_model_is_silent(
    host: Host, encoder: Encoder, conditionings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    model, _ = host.apply_node.apply_adapter(encoder.base.model, encoder.base.clip, encoder.loaded)
    fresh = encoder.encode(make_subject(host, box="0,0,0.5,0.5"))
    with caplog.at_level(logging.WARNING):
        run(model, fresh[0], fresh[2], encoder)
    assert "The conditioning carries subjects" not in caplog.text
