"""The node Self-Subject Attention: from subjects to references, its settings, its sentences."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.model_patcher
import comfy.sd
import comfy.supported_models
import comfy.taesd.taesd
import pytest
import torch
from host_models import Base, Host, cfg_guider, random_noise, relative_error, sample
from test_control import make_control
from test_nodes import make_subject
from test_saved_subjects import output_folder, save_and_load  # noqa: F401

PROMPT = "a dog in a forest"


class Setup:
    """The tiny base with its VAE, and the node."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.base: Base = host.make_base()
        self.vae = host.tiny_model.build_vae(host.tiny)
        self.positive, self.negative = (host.encode_text(self.base.clip, t) for t in (PROMPT, ""))
        self.noise = random_noise(self.base)

    def apply(self, *subjects: Any, **changes: Any) -> tuple[Any, Any, Any]:
        node = self.host.self_subject_attention_node.SubjectDiffusionSelfSubjectAttention
        inputs = {
            "model": self.base.model,
            "clip": self.base.clip,
            "vae": self.vae,
            "subjects": subjects or (make_subject(self.host, box=""),),
            "positive": self.positive,
            "negative": self.negative,
            "omega_ref": 3.0,
            "use_mask": True,
            "layers": "all",
            "start_percent": 0.0,
            "end_percent": 1.0,
            "time_bias_positive": 0,
            "time_bias_negative": 0,
            "reference_size": 768,
            "noise": "fixed",
            "noise_seed": 0,
        }
        return node.execute(**{**inputs, **changes}).args

    def sample(self, model: Any, positive: Any, negative: Any, **options: Any) -> torch.Tensor:
        return sample(cfg_guider(model, positive, negative, 3.0), self.noise, steps=2, **options)

    def stock(self) -> torch.Tensor:
        return self.sample(self.base.model, self.positive, self.negative)

    def references(self, conditioning: Any) -> Any:
        key = self.host.references.REFERENCES_KEY
        return conditioning[0][1]["model_conds"][key].value


@pytest.fixture(scope="module")
def setup(host: Host) -> Setup:
    with torch.inference_mode():
        return Setup(host)


def test_from_subjects_to_a_picture(setup: Setup) -> None:
    """Both branches see the same pictures; what came in stays as it was."""
    subject = make_subject(setup.host, box="0,0,0.5,1")
    model, positive, negative = setup.apply(subject)
    assert relative_error(setup.sample(model, positive, negative), setup.stock()) > 1e-3
    assert setup.references(positive).subjects == setup.references(negative).subjects
    assert torch.equal(
        setup.sample(setup.base.model, setup.positive, setup.negative), setup.stock()
    )
    assert "model_conds" not in setup.positive[0][1]
    # a conditioning that went through without its MODEL is the stock one
    assert torch.equal(setup.sample(setup.base.model, positive, negative), setup.stock())


def test_what_a_reference_is_made_of(setup: Setup) -> None:
    """Two views share the weight; strength, range and place are the subject's own."""
    mask = torch.zeros(2, 20, 30)
    mask[:, 4:14, 10:20] = 1
    region = torch.rand(1, 9, 9)
    node = setup.host.subject_node.SubjectDiffusionSubject
    (subjects,) = node.execute(
        torch.rand(2, 20, 30, 3), "dog", "0.1,0.2,0.5,1", 0.5, mask=mask, region=region,
        start_percent=0.1, end_percent=0.8,
    ).args  # fmt: skip
    _, positive, _ = setup.apply(*subjects, omega_ref=2.0)
    (subject,) = setup.references(positive).subjects
    assert subject.omega == 0.5 and len(subject.pictures) == 2
    assert subject.box_xyxy == (0.1, 0.2, 0.5, 1.0)
    assert subject.region.shape == (9, 9)
    assert (subject.start_percent, subject.end_percent) == (0.1, 0.8)
    first = subject.pictures[0]
    assert first.latent.shape == (1, 16, 2, 2)  # 12 x 12 pixels: the mask and its margin
    assert first.mask.shape == (16, 16)
    wanted = setup.host.encode_text(setup.base.clip, "a photo of a dog")
    assert torch.equal(first.caption[0][0], wanted[0][0])
    _, positive, _ = setup.apply(*subjects, use_mask=False, caption="the <label>, front view")
    picture = setup.references(positive).subjects[0].pictures[0]
    assert picture.mask is None and picture.latent.shape == (1, 16, 2, 4)
    wanted = setup.host.encode_text(setup.base.clip, "the dog, front view")
    assert torch.equal(picture.caption[0][0], wanted[0][0])


@pytest.mark.parametrize(
    ("size", "limit", "wanted"),
    [
        ((100, 60), 0, (96, 64)),
        ((100, 60), 50, (48, 32)),
        ((100, 60), 400, (96, 64)),
        ((64, 64), 0, (64, 64)),
        ((3, 900), 90, (8, 88)),
    ],
)
def test_sizes_of_references(host: Host, size: Any, limit: int, wanted: Any) -> None:
    image, mask = torch.rand(*size, 3), torch.ones(size)
    prepare = host.reference_pictures.prepare_picture
    picture, resized = prepare(image, mask, limit, 8)
    assert picture.shape == (*wanted, 3) and resized.shape == wanted
    assert torch.allclose(resized, torch.ones(wanted))
    assert prepare(image, None, limit, 8)[1] is None
    if size == wanted:
        assert torch.equal(picture, image)


def test_time_biases_go_to_their_branches(setup: Setup) -> None:
    _, positive, negative = setup.apply(time_bias_positive=20, time_bias_negative=40)
    assert setup.references(positive).time_bias == -20
    assert setup.references(negative).time_bias == 40


def test_what_cannot_act_leaves_everything_as_it_is(
    setup: Setup, caplog: pytest.LogCaptureFixture
) -> None:
    for changes, sentence in (
        ({"omega_ref": 0.0}, "omega_ref is 0, so the model stays as it is"),
        ({"start_percent": 0.5, "end_percent": 0.5}, "start_percent is not below end_percent"),
        ({"subjects": ()}, "subjects: none takes part"),
        ({"subjects": (make_subject(setup.host, strength=0.0),)}, "subjects: none takes part"),
    ):
        caplog.clear()
        came = setup.apply(**changes)
        assert came[0] is setup.base.model
        assert came[1] is setup.positive and came[2] is setup.negative
        assert sentence in caplog.text


def test_boxes_that_hardly_work_are_told(setup: Setup, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        setup.apply(make_subject(setup.host, box="0,0,0.1,0.1"))
    assert "Subject 1's box covers 1.0% of the picture" in caplog.text


def test_a_saved_subjects_preview_is_told(
    setup: Setup,
    output_folder: Path,  # noqa: F811
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Its embeddings are whole, its picture is not."""
    host = setup.host
    adapter, vision = (
        host.make_adapter(setup.base, tmp_path),
        host.tiny_clip_vision.TinyClipVision(host.tiny),
    )
    node = host.subject_node.SubjectDiffusionSubject
    subjects = node.execute(torch.rand(1, 300, 400, 3), "dog", "", 1.0).args[0]
    encode = host.encode_subjects_node.SubjectDiffusionEncodeSubjects
    (encoded,) = encode.execute(subjects, vision, adapter).args
    with caplog.at_level(logging.WARNING):
        setup.apply(*encoded)
        assert "preview" not in caplog.text
        setup.apply(*save_and_load(host, encoded))
    assert "Subject 1 comes from a saved file, which holds a preview of 128 x 96" in caplog.text


def test_two_stages_and_image_to_image(setup: Setup, comfy_nodes: Any) -> None:
    """KSamplerAdvanced in two stages is one run; from a latent picture it works as well."""
    model, positive, negative = setup.apply()
    advanced = comfy_nodes.NODE_CLASS_MAPPINGS["KSamplerAdvanced"]().sample
    latent = {"samples": torch.zeros(1, 16, 16, 16)}

    def run(begin: int, end: int, image: Any, noise: str, rest: str) -> Any:
        return advanced(
            model, noise, 5, 4, 3.0, "euler", "normal", positive, negative, image, begin, end, rest
        )[0]

    whole = run(0, 4, latent, "enable", "disable")["samples"]
    first = run(0, 2, latent, "enable", "enable")
    second = run(2, 4, first, "disable", "disable")["samples"]
    assert relative_error(second, whole) < 1e-5
    simple = comfy_nodes.NODE_CLASS_MAPPINGS["KSampler"]().sample
    (again,) = simple(
        model, 5, 4, 3.0, "euler", "normal", positive, negative, {"samples": whole}, 0.5
    )
    assert bool(again["samples"].isfinite().all())


def test_a_controlnet_is_not_in_the_pass(setup: Setup, comfy_nodes: Any) -> None:
    control = make_control(setup.base, "controlnet")
    model, positive, negative = setup.apply()
    apply = comfy_nodes.NODE_CLASS_MAPPINGS["ControlNetApplyAdvanced"]().apply_controlnet
    hint = torch.rand(1, 128, 128, 3)
    both = apply(positive, negative, control, hint, 1.0, 0.0, 1.0)
    seen = []

    def watch(executor: Any, x: Any, t: Any, context: Any, y: Any, control: Any, *args: Any,
              **kwargs: Any) -> Any:  # fmt: skip
        seen.append((x.shape[0], control is not None))
        return executor(x, t, context, y, control, *args, **kwargs)

    model.add_wrapper_with_key("diffusion_model", "watch", watch)
    assert relative_error(setup.sample(model, *both), setup.sample(*setup.apply())) > 1e-3
    assert seen == [(1, False), (2, True)] * 2


def taesd_vae(channels: int) -> Any:
    return comfy.sd.VAE(sd=comfy.taesd.taesd.TAESD(latent_channels=channels).state_dict())


def flux_model() -> Any:
    """A diffusion transformer at tiny size."""
    config = comfy.supported_models.Flux(
        {
            "image_model": "flux", "in_channels": 16, "out_channels": 16, "vec_in_dim": 32,
            "context_in_dim": 32, "hidden_size": 64, "mlp_ratio": 2.0, "num_heads": 2, "depth": 1,
            "depth_single_blocks": 1, "axes_dim": [8, 12, 12], "theta": 10000, "patch_size": 2,
            "qkv_bias": True, "guidance_embed": False,
        }
    )  # fmt: skip
    config.set_inference_dtype(torch.float32, None)
    device = torch.device("cpu")
    model = config.get_model({}, device=device)
    return comfy.model_patcher.ModelPatcher(model, load_device=device, offload_device=device)


def test_bad_inputs_get_a_sentence_each(setup: Setup) -> None:
    host = setup.host
    nan = float("nan")
    cases: list[tuple[dict[str, Any], str]] = [
        ({"model": flux_model()}, r"model: expected a UNet .* got Flux\. Self-subject-attention"),
        ({"model": setup.apply()[0]}, r"model: expected a MODEL without self-subject-attention"),
        ({"vae": None}, r"vae: expected the VAE of the model, got nothing\. The checkpoint has"),
        ({"vae": taesd_vae(4)}, r"vae: expected one that gives latents of 16 channels .* \(1, 4,"),
        ({"omega_ref": -1.0}, r"omega_ref: expected a number from 0 to \d+, got -1\.0\. Write a"),
        ({"omega_ref": nan}, r"Subject Attention's omega_ref: expected a finite number, got nan"),
        ({"layers": "left"}, r"layers: expected all, down, mid, up, .* got 'left'\. Choose among"),
        ({"layers": "up, 9"}, r"layers: expected all, down, mid, up, .* got '9'\. Choose among: 0"),
        ({"noise": "none"}, r"noise: expected fixed or per step, got 'none'\. Choose one of them"),
        ({"start_percent": nan}, r"start_percent: expected a finite number, got nan"),
        (
            {"subjects": (make_subject(host, box='{"x": 1, "y": 1, "width": 8, "height": 8}'),)},
            r"Subject 1's box is in pixels of a picture of unknown size\. Put a .* Layout node",
        ),
    ]
    for changes, sentence in cases:
        with pytest.raises(ValueError, match=sentence) as error:
            setup.apply(**changes)
        assert str(error.value).endswith((".", "0"))
    with pytest.raises(ValueError, match="Subject 1's mask: expected 1 where the subject is"):
        make_subject(host, mask=torch.zeros(1, 20, 30))
    with pytest.raises(ValueError, match="Subject 1's mask: expected 1 mask or one per view"):
        make_subject(host, mask=torch.ones(3, 20, 30))
    with pytest.raises(ValueError, match="Subject 1's image: expected finite numbers, got NaN"):
        host.subject_node.SubjectDiffusionSubject.execute(
            torch.full((1, 8, 8, 3), nan), "dog", "0,0,1,1", 1.0
        )
    with pytest.raises(ValueError, match="Subject 1's region: expected one mask"):
        make_subject(host, region=torch.ones(2, 8, 8))
