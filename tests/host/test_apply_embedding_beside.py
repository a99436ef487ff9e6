"""Apply Embedding on conditionings that other nodes made: what goes together, and what is said."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from host_models import Host, cfg_guider, sample
from test_apply_embedding import Setup, apply, make_embedding
from test_nodes import Encoder, make_subject


@pytest.fixture(scope="module")
def setup(host: Host) -> Setup:
    with torch.inference_mode():
        return Setup(host)


@pytest.mark.parametrize("mode", ["whole", "step-wise"])
def test_one_on_top_of_another_is_said(
    setup: Setup, mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The first one is gone; at strength 0 nothing is put there."""
    cat = make_embedding(setup.host, label="cat")
    with caplog.at_level(logging.WARNING):
        first = apply(setup.host, cat, mode, conditioning=setup.stock)
        apply(setup.host, setup.embedding, mode, 0.0, conditioning=first)
    assert caplog.text == ""
    with caplog.at_level(logging.WARNING):
        apply(setup.host, setup.embedding, "whole", conditioning=first)
    assert "conditioning: it has the embedding of 'cat' at its end already" in caplog.text


def test_areas_go_with_one_set_and_masks_with_many(
    setup: Setup, caplog: pytest.LogCaptureFixture
) -> None:
    """ComfyUI gives the negative prompt the area of the first set, with its range; so it is said
    of areas, and of masks that become one, where it matters."""
    sets = setup.embedding.vectors.expand(50, -1, -1)
    embedding = make_embedding(setup.host, vectors=setup.embedding.vectors, step_vectors=sets)
    mask = torch.zeros(1, 128, 128)
    mask[:, :64] = 1.0

    def both(**values: Any) -> list[Any]:
        parts = [[text, {**v, **values}] for text, v in setup.stock] + setup.negative
        return [
            apply(setup.host, embedding, mode, conditioning=parts)
            for mode in ("whole", "step-wise")
        ]

    with caplog.at_level(logging.WARNING):
        whole, stepwise = both(mask=mask, mask_strength=1.0, set_area_to_bounds=False)
    assert caplog.text == ""
    assert torch.equal(setup.picture(stepwise), setup.picture(whole))
    for values in (
        {"area": (8, 8, 0, 0)},
        {"mask": mask, "mask_strength": 1.0, "set_area_to_bounds": True},
    ):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            whole, stepwise = both(**values)
        assert caplog.text.count("conditioning: it has an area, which ComfyUI gives") == 1
        assert not torch.equal(setup.picture(stepwise), setup.picture(whole))


@pytest.mark.parametrize("mode", ["whole", "step-wise"])
def test_on_a_prompt_with_an_adapters_subjects(
    setup: Setup, mode: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its vectors are no text that was mixed; a text that was mixed before it is."""
    encoder = Encoder(setup.host, tmp_path)
    loaded, base = encoder.loaded, encoder.base
    model, _ = setup.host.apply_node.apply_adapter(base.model, base.clip, loaded)
    subject = make_subject(setup.host, box="0.1,0.1,0.9,0.9")
    positive, _, negative = encoder.encode(subject, prompt="a dog")

    def picture(conditioning: Any) -> Any:
        put = apply(setup.host, setup.embedding, mode, 0.5, conditioning=conditioning)
        return sample(cfg_guider(model, put, negative, 3.0), setup.noise, 2)

    with caplog.at_level(logging.WARNING):
        made = picture(positive)
    assert caplog.text == ""
    assert not torch.equal(made, sample(cfg_guider(model, positive, negative, 3.0), setup.noise, 2))
    with caplog.at_level(logging.WARNING):
        picture([[1.1 * text, values] for text, values in positive])
    assert "The text of a conditioning with subjects was mixed or weighed" in caplog.text
