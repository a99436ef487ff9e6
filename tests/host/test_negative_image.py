"""Encode's `negative_image`: the negative branch shows it in the subjects' places."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from host_models import Host, cfg_guider, denoise_once, random_noise, relative_error
from test_batching import TIMESTEP, one_branch, unet_calls
from test_nodes import Encoder, branch_of, make_subject

from subject_diffusion_core.guidance import three_branch_guidance

NEGATIVE = torch.rand(1, 24, 16, 3, generator=torch.Generator().manual_seed(9))


@pytest.fixture(scope="module")
def encoder(host: Host, tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    with torch.inference_mode():
        return Encoder(host, tmp_path_factory.mktemp("encoder"))


def encode(encoder: Encoder, subjects: tuple[Any, ...], negative: torch.Tensor | None) -> Any:
    node = encoder.host.encode_node.SubjectDiffusionEncode
    arguments = (encoder.clip, encoder.vision, encoder.loaded, subjects, "a dog", "blurry")
    return node.execute(*arguments, negative_image=negative).args


def two_subjects(host: Host) -> tuple[Any, ...]:
    first = make_subject(host, box="0.1,0.2,0.5,0.8", strength=0.5)
    return first, make_subject(host, views=2, label="cat", box="0.5,0.1,0.9,0.9")


def test_the_negative_stands_in_every_subjects_place(host: Host, encoder: Encoder) -> None:
    subjects = two_subjects(host)
    plain, avoiding = (encode(encoder, subjects, image) for image in (None, NEGATIVE))
    for index in (0, 1):  # positive and image_only do not change
        assert torch.equal(plain[index][0][0], avoiding[index][0][0])
        ours, theirs = (branch_of(host, result[index]) for result in (plain, avoiding))
        assert torch.equal(ours.patch_embeds, theirs.patch_embeds)
    assert torch.equal(plain[2][0][0], avoiding[2][0][0])
    branch = branch_of(host, avoiding[2])
    wanted = branch_of(host, encode(encoder, (make_subject(host),), None)[0]).patch_embeds
    assert branch_of(host, plain[2]).is_null
    alone = host.image_encoding.encode_pictures(
        encoder.vision, NEGATIVE, None, encoder.loaded.pictures
    )
    assert branch.subject_valid.tolist() == [True, True, False, False]
    assert torch.equal(branch.patch_embeds[:2], alone["patch_embeds"].expand(2, -1, -1))
    assert branch.patch_embeds.shape == wanted.shape
    expected = torch.tensor([[0.1, 0.2, 0.5, 0.8], [0.5, 0.1, 0.9, 0.9]])
    torch.testing.assert_close(branch.subject_boxes_xyxy[:2], expected)
    assert branch.token_strengths.tolist() == [0.5, 1.0, 1.0, 1.0]


def test_several_views_and_ranges(host: Host, encoder: Encoder) -> None:
    first, second = two_subjects(host)
    views = torch.cat((NEGATIVE, 1 - NEGATIVE))
    _, _, negative = encode(encoder, (first, replace(second, start_percent=0.5)), views)
    counts = [
        int(values["model_conds"][host.family.ATTACHMENT_KEY].value.subject_valid.sum())
        for _, values in negative
    ]
    assert counts == [2, 4]
    assert branch_of(host, negative).token_strengths[:2].tolist() == [0.25, 0.25]


def test_both_guidances(host: Host, encoder: Encoder) -> None:
    """One UNet call of all branches, and the formulas of Guider and KSampler."""
    model, _ = host.apply_node.apply_adapter(encoder.base.model, encoder.base.clip, encoder.loaded)
    noise = random_noise(encoder.base)
    branches = encode(encoder, two_subjects(host), NEGATIVE)
    separate = [one_branch(model, branch, noise) for branch in branches]
    calls = unet_calls(model)
    (guider,) = host.guider_node.SubjectDiffusionGuider.execute(model, *branches, 3.0, 1.5).args
    got = denoise_once(guider, noise, TIMESTEP)
    assert relative_error(got, three_branch_guidance(*separate, 3.0, 1.5)) < 1e-4
    two = denoise_once(cfg_guider(model, branches[0], branches[2], cfg=3.0), noise, TIMESTEP)
    assert relative_error(two, separate[2] + 3 * (separate[0] - separate[2])) < 1e-4
    assert [shape[0] for shape in calls] == [3, 2]
    plain = encode(encoder, two_subjects(host), None)
    assert relative_error(one_branch(model, plain[2], noise), separate[2]) > 1e-2


def test_the_picture_itself_as_negative_cancels_the_subject(
    host: Host, encoder: Encoder, tmp_path: Path
) -> None:
    """Then the negative branch is the image-only branch, and their difference is nothing."""
    model, _ = host.apply_node.apply_adapter(encoder.base.model, encoder.base.clip, encoder.loaded)
    subject = make_subject(host, box="0.1,0.2,0.5,0.8")
    _, image_only, negative = encode(encoder, (subject,), subject.images)
    noise = random_noise(encoder.base)
    assert torch.equal(*(one_branch(model, branch, noise) for branch in (image_only, negative)))
