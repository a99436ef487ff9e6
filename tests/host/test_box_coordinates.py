"""Encode's `box_coordinates`: the paper's ablation (d) in ComfyUI."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from host_models import Host, random_context, random_noise, relative_error
from test_batching import POSITIONS, one_branch
from test_nodes import Encoder, branch_of, make_subject


@pytest.fixture(scope="module")
def encoder(host: Host, tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    with torch.inference_mode():
        return Encoder(host, tmp_path_factory.mktemp("encoder"))


def encode(encoder: Encoder, subjects: tuple[Any, ...], *switch: bool) -> Any:
    node = encoder.host.encode_node.SubjectDiffusionEncode
    return node.execute(
        encoder.clip, encoder.vision, encoder.loaded, subjects, "a dog", "", *switch
    ).args


def test_encode_hands_the_switch_to_the_subjects(host: Host, encoder: Encoder) -> None:
    subjects = (make_subject(host, box="0.1,0.2,0.6,0.8"),)
    default, on, off = (encode(encoder, subjects, *switch) for switch in ((), (True,), (False,)))
    assert branch_of(host, default[0]).box_coordinates
    assert branch_of(host, on[1]).box_coordinates
    for conditioning in off[:2]:
        assert not branch_of(host, conditioning).box_coordinates
    assert branch_of(host, off[2]).is_null
    assert torch.equal(default[0][0][0], off[0][0][0])  # the text is the same


@pytest.mark.parametrize("options", [{}, POSITIONS], ids=["paper", "positions"])
def test_without_them_only_the_mask_knows_the_place(
    host: Host, tmp_path: Path, options: dict[str, Any]
) -> None:
    base = host.make_base()
    context, noise = random_context(base), random_noise(base)

    def predictions(loaded: Any) -> list[torch.Tensor]:
        model, _ = host.apply_node.apply_adapter(base.model, base.clip, loaded)
        here = host.branch(loaded, 2)
        there = replace(here, subject_boxes_xyxy=here.subject_boxes_xyxy.roll(1, 0))
        return [
            one_branch(model, host.conditioning(context, branch), noise)
            for branch in (here, *(replace(b, box_coordinates=False) for b in (here, there)))
        ]

    maskless = {"location_control": False, **options}
    with_boxes, without, moved = predictions(host.make_adapter(base, tmp_path, **maskless))
    assert torch.equal(without, moved)
    assert relative_error(without, with_boxes) > 1e-3
    masked = predictions(host.make_adapter(base, tmp_path, **options))
    assert relative_error(masked[2], masked[1]) > 1e-3  # the location mask stays
