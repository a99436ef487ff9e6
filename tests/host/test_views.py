"""A batch of pictures in one Subject: several views of one thing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from host_models import Host, random_noise, relative_error
from test_batching import POSITIONS, one_branch
from test_nodes import Encoder, branch_of, make_subject


@pytest.fixture(scope="module", params=[1, 4], ids=["1 slot", "4 slots"])
def encoder(
    request: pytest.FixtureRequest, host: Host, tmp_path_factory: pytest.TempPathFactory
) -> Encoder:
    with torch.inference_mode():
        folder = tmp_path_factory.mktemp("encoder")
        return Encoder(host, folder, num_subjects=request.param, **POSITIONS)


def reorder(subject: Any, order: list[int]) -> Any:
    """The same views in another order, some perhaps several times."""
    masks = None if subject.masks is None else subject.masks[order]
    return replace(subject, images=subject.images[order], masks=masks)


def predictions(host: Host, encoder: Encoder, *subjects: Any) -> list[torch.Tensor]:
    model, _ = host.apply_node.apply_adapter(encoder.base.model, encoder.base.clip, encoder.loaded)
    noise = random_noise(encoder.base)
    results = []
    for subject in subjects:
        positive, image_only, _ = encoder.encode(subject)
        results.append(
            torch.cat([one_branch(model, branch, noise) for branch in (positive, image_only)])
        )
    return results


def three_views(host: Host) -> Any:
    masks = torch.zeros(3, 20, 30)
    for view in range(3):
        masks[view, 3:17, 4 + 5 * view : 14 + 5 * view] = 1
    return make_subject(host, masks, views=3, box="0.1,0.2,0.7,0.8", strength=0.9)


def test_an_animation_counts_with_its_first_views(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    image, mask = torch.rand(63, 4, 5, 4), torch.ones(63, 4, 5)
    node = host.subject_node.SubjectDiffusionSubject
    ((made,),) = node.execute(image, "  fire \n truck ", "0,0,1,1", 1.0, mask=mask).args
    assert torch.equal(made.images, image[:8, ..., :3]) and made.masks.shape == (8, 4, 5)
    assert made.label == "fire truck"
    assert "Subject 1's image: 63 pictures, of which the first 8 are used." in caplog.text


def test_every_view_has_its_own_mask(host: Host, encoder: Encoder) -> None:
    subject = three_views(host)
    together = branch_of(host, encoder.encode(subject)[0]).patch_embeds[:3]
    alone = [
        branch_of(host, encoder.encode(reorder(subject, [view]))[0]).patch_embeds[0]
        for view in range(3)
    ]
    assert torch.equal(together, torch.stack(alone))


def test_their_order_does_not_matter(host: Host, encoder: Encoder) -> None:
    subject = three_views(host)
    first, other = predictions(host, encoder, subject, reorder(subject, [2, 0, 1]))
    assert relative_error(other, first) < 1e-5
    (fewer,) = predictions(host, encoder, reorder(subject, [0, 1]))
    assert relative_error(fewer, first) > 1e-3


def test_a_view_given_twice_counts_as_once(host: Host, encoder: Encoder) -> None:
    """The views share the subject's strength and take no empty slots away."""
    subject = three_views(host)
    once, twice = predictions(
        host, encoder, reorder(subject, [0, 1]), reorder(subject, [0, 1, 0, 1])
    )
    assert relative_error(twice, once) < 1e-5
