"""The node Reference-Guided Sampler: where the reference stands, which picture it is, bad input."""

from __future__ import annotations

import logging
from typing import Any

import comfy.samplers
import pytest
import torch
from host_models import Host, cfg_guider


class NodeRun:
    """The node with the tiny model's random weights."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.base = host.make_base()
        self.vae = host.tiny_model.build_vae(host.tiny)
        self.values = {
            "method": "optimise",
            "num_updates": 2,
            "learning_rate": 0.01,
            "start_percent": 0.2,
            "end_percent": 0.8,
            "caption": "a photo of a <label>",
            "algorithm": "moments",
            "max_angle": 180.0,
            "inversion_iterations": 1,
        }

    def subject(self, box: str = "0.5,0.1,0.9,0.6", **inputs: Any) -> Any:
        mask = torch.zeros(1, 80, 96)
        mask[:, 20:60, 30:70] = 1.0
        image = torch.rand(1, 80, 96, 3, generator=torch.Generator().manual_seed(1))
        values = {"mask": mask, **inputs}
        node = self.host.subject_node.SubjectDiffusionSubject
        return node.execute(image, "dog", box, values.pop("strength", 1.0), **values).args[0]

    def execute(self, subjects: Any = None, latent: Any = None, **changes: Any) -> Any:
        latent = {"samples": torch.zeros(1, 16, 16, 24)} if latent is None else latent
        node = self.host.reference_guided_sampler_node.SubjectDiffusionReferenceGuidedSampler
        values = {**self.values, **changes}
        vae = values.pop("vae", self.vae)
        subjects = self.subject() if subjects is None else subjects
        return node.execute(self.base.clip, vae, subjects, latent, **values).args


@pytest.fixture(scope="module")
def node(host: Host) -> NodeRun:
    with torch.inference_mode():
        return NodeRun(host)


def test_node(node: NodeRun) -> None:
    """The reference stands in its box, and the sampler runs; ComfyUI gives an empty latent the
    model's channels later."""
    sampler, picture, mask = node.execute(latent={"samples": torch.zeros(1, 4, 16, 24)})
    assert picture.shape == (1, 128, 192, 3) and mask.shape == (1, 128, 192)
    rows, columns = torch.nonzero(mask[0] > 0.5, as_tuple=True)
    assert 0.05 < float(rows.min()) / 128 < 0.2 and 0.5 < float(rows.max()) / 128 < 0.7
    assert 0.42 < float(columns.min()) / 192 < 0.62 and 0.8 < float(columns.max()) / 192 < 0.98
    guider = cfg_guider(
        node.base.model,
        node.host.encode_text(node.base.clip, "a dog"),
        node.host.encode_text(node.base.clip, ""),
        4.0,
    )
    noise = torch.randn(1, 16, 16, 24, generator=torch.Generator().manual_seed(2))
    sampling = node.base.model.get_model_object("model_sampling")
    sigmas = comfy.samplers.calculate_sigmas(sampling, "ddim_uniform", 4)
    run = [
        guider.sample(noise, torch.zeros_like(noise), each, sigmas, seed=0, disable_pbar=True)
        for each in (sampler, comfy.samplers.sampler_object("euler"))
    ]
    assert run[0].isfinite().all() and not torch.equal(*run)


def test_places(node: NodeRun) -> None:
    """A mask first, then the region, then the box."""
    region = torch.zeros(1, 64, 64)
    region[:, 40:60, 2:20] = 1.0
    both = node.subject(region=region)
    low = node.execute(both)[2][0]
    assert float(torch.nonzero(low > 0.5)[:, 0].float().mean()) / 128 > 0.6
    mask = torch.zeros(1, 128, 192)
    mask[:, 5:30, 80:120] = 1.0
    high = node.execute(both, mask=mask)[2][0]
    assert float(torch.nonzero(high > 0.5)[:, 0].float().mean()) / 128 < 0.3


def test_nothing_to_guide_is_said(node: NodeRun, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        node.execute(mask=torch.zeros(1, 128, 192))
        node.execute(start_percent=0.9, end_percent=0.1)
    assert "mask: it is empty, so the sampler is Euler's" in caplog.text
    assert "start_percent is above end_percent" in caplog.text


def test_a_subject_that_fills_no_cell_is_said(
    node: NodeRun, caplog: pytest.LogCaptureFixture
) -> None:
    thin = torch.zeros(1, 80, 96)
    thin[:, 20:60, 48:50] = 1.0
    line = torch.zeros(1, 128, 192)
    line[:, :, 90] = 1.0
    with caplog.at_level(logging.WARNING):
        sampler, _, mask = node.execute(node.subject(mask=thin), mask=line)
    assert float(mask.max()) > 0.5 and not sampler.extra_options["guidance"].mask.any()
    assert "mask: Subject 1 is too small or thin in its place to fill half a cell" in caplog.text


def test_masks_of_other_proportions_are_said(
    node: NodeRun, caplog: pytest.LogCaptureFixture
) -> None:
    """They are stretched; those of another size in the same proportions are not."""
    with caplog.at_level(logging.WARNING):
        node.execute(mask=torch.ones(1, 64, 96))
    assert caplog.text == ""
    with caplog.at_level(logging.WARNING):
        node.execute(mask=torch.ones(1, 96, 96))
        node.execute(node.subject(region=torch.ones(1, 64, 64)))
    assert "mask: it is 96x96 and will be stretched to the picture's 192x128" in caplog.text
    assert "Subject 1's region is 64x64 and will be stretched" in caplog.text


def test_the_closest_picture_is_the_reference(
    node: NodeRun, caplog: pytest.LogCaptureFixture
) -> None:
    """The subject of the generated picture is the second one's, smaller; with a part of the inputs
    the first is taken, and it is said."""
    generator = torch.Generator().manual_seed(5)
    pictures = torch.rand(3, 64, 64, 3, generator=generator).round()
    pictures[1] = torch.tensor([0.9, 0.1, 0.1])
    masks = torch.ones(3, 64, 64)
    generated = torch.rand(1, 128, 192, 3, generator=generator)
    generated[0, 20:60, 100:140] = pictures[1, 0, 0]
    mask = torch.zeros(1, 128, 192)
    mask[0, 20:60, 100:140] = 1.0
    make = node.host.subject_node.SubjectDiffusionSubject.execute
    (subject,) = make(pictures, "ball", "", 1.0, mask=masks).args[0]
    encoder = node.host.tiny_clip_vision.TinyClipVision(node.host.tiny)
    both = {"generated": generated, "clip_vision": encoder}

    def middle(subjects: Any, **inputs: Any) -> torch.Tensor:
        return node.execute(subjects, mask=mask, **inputs)[1][0, 40, 120]

    assert middle((subject,), **both)[0] > 0.85 and middle((subject,), **both)[1] < 0.15
    with caplog.at_level(logging.WARNING):
        first = node.execute((subject,), mask=mask, generated=generated)[1]
    assert "Subject 1 has 3 pictures, of which the first is the reference" in caplog.text
    (alone,) = make(pictures[:1], "ball", "", 1.0, mask=masks[:1]).args[0]
    assert torch.equal(first, node.execute((alone,), mask=mask)[1])


BAD = {
    "method": ({"method": "best"}, "method: expected optimise or caption as negative, got 'best'"),
    "algorithm": ({"algorithm": "x"}, "algorithm: expected moments or paper, got 'x'"),
    "updates": ({"num_updates": -1}, "num_updates: expected a whole number from 0 to 100, got -1"),
    "numbers": ({"max_angle": float("nan")}, "max_angle: expected a "),
    "vae": ({"vae": None}, "vae: expected VAE, got nothing"),
    "masks": ({"mask": torch.ones(2, 8, 8)}, "mask: expected one mask of the generated picture"),
    "nan mask": ({"mask": torch.full((1, 8, 8), float("nan"))}, "mask: expected "),
    "size": ({"generated": torch.zeros(1, 64, 64, 3)}, "generated: expected a picture of the late"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_input(node: NodeRun, kind: str) -> None:
    changes, sentence = BAD[kind]
    with pytest.raises(ValueError, match=sentence):
        node.execute(**changes)


def test_bad_subjects(node: NodeRun) -> None:
    with pytest.raises(ValueError, match="Subject 1 has no mask: expected where it is"):
        node.execute(node.subject(mask=None))
    with pytest.raises(ValueError, match="subjects: expected one with a strength above 0, got 0"):
        node.execute(node.subject(strength=0.0))
    with pytest.raises(ValueError, match="subjects: expected one with a strength above 0, got 2"):
        node.execute(node.subject(previous=node.subject()))
    with pytest.raises(ValueError, match="mask: expected where Subject 1 stands in the generated"):
        node.execute(node.subject(box=""))
