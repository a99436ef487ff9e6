"""The nodes one by one: their frozen interface, views, strengths, errors, progress and cancel."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import comfy.clip_vision
import comfy.model_management
import comfy.utils
import pytest
import torch
from hifi_tuner_interface import HIFI_TUNER
from host_models import Host

INTERFACE = {
    "SubjectDiffusionTinyLoader": (
        [],
        ["MODEL", "CLIP", "VAE", "CLIP_VISION", "SUBJECT_DIFFUSION_ADAPTER"],
    ),
    "SubjectDiffusionAdapterLoader": (["adapter_name"], ["SUBJECT_DIFFUSION_ADAPTER"]),
    "SubjectDiffusionSubject": (
        [
            "image",
            "label",
            "box",
            "strength",
            "mask",
            "previous",
            "start_percent",
            "end_percent",
            "region",
            "mask_marks",
        ],
        ["SUBJECTS"],
    ),
    "SubjectDiffusionLayout": (
        ["subjects", "width", "height", "mode", "place_seed", "boxes", "layout"],
        ["SUBJECTS", "IMAGE"],
    ),
    "SubjectDiffusionReferenceView": (["subjects", "adapter"], ["IMAGE"]),
    "SubjectDiffusionEncodeSubjects": (["subjects", "clip_vision", "adapter"], ["SUBJECTS"]),
    "SubjectDiffusionSaveSubjects": (["subjects", "filename_prefix"], []),
    "SubjectDiffusionLoadSubjects": (["file_name", "previous"], ["SUBJECTS"]),
    "SubjectDiffusionInterpolate": (
        ["noise", "guider", "plain_guider", "sampler", "sigmas", "latent_image", "alphas"],
        ["LATENT"],
    ),
    "SubjectDiffusionEncode": (
        [
            "clip",
            "clip_vision",
            "adapter",
            "subjects",
            "prompt",
            "negative_prompt",
            "box_coordinates",
            "negative_image",
        ],
        ["CONDITIONING"] * 3,
    ),
    "SubjectDiffusionApply": (
        ["model", "clip", "adapter", "strength", "start_percent", "end_percent", "block_weights"],
        ["MODEL", "CLIP"],
    ),
    "SubjectDiffusionGuider": (
        [
            "model",
            "positive",
            "image_only",
            "negative",
            "text_guidance_scale",
            "image_guidance_scale",
            "start_percent",
            "end_percent",
        ],
        ["GUIDER"],
    ),
    "SubjectDiffusionBoxMask": (["subjects", "width", "height", "grow", "feather"], ["MASK"]),
    "SubjectDiffusionSegmentLoader": (["segmenter_name"], ["SUBJECT_DIFFUSION_SEGMENTER"]),
    "SubjectDiffusionSegment": (
        ["image", "segmenter", "box", "points", "largest_component", "fill_holes"],
        ["MASK", "IMAGE"],
    ),
    "SubjectDiffusionCutOut": (
        ["image", "box", "points", "largest_component", "fill_holes"],
        ["MASK", "IMAGE"],
    ),
    "SubjectDiffusionRecordAttention": (
        ["model", "ranges"],
        ["MODEL", "SUBJECT_DIFFUSION_ATTENTION"],
    ),
    "SubjectDiffusionAttentionMaps": (
        ["attention", "image", "tokens", "threshold", "opacity"],
        ["IMAGE", "MASK", "FLOAT", "STRING"],
    ),
    "SubjectDiffusionSelfSubjectAttention": (
        [
            "model",
            "clip",
            "vae",
            "subjects",
            "positive",
            "negative",
            "omega_ref",
            "use_mask",
            "layers",
            "start_percent",
            "end_percent",
            "time_bias_positive",
            "time_bias_negative",
            "reference_size",
            "noise",
            "noise_seed",
            "caption",
            "report_attention",
            "reuse_mb",
        ],
        ["MODEL", "CONDITIONING", "CONDITIONING"],
    ),
    "SubjectDiffusionDreamTunerGuider": (
        [
            "model",
            "positive",
            "negative",
            "mode",
            "reference_guidance_scale",
            "text_guidance_scale",
            "reference_probability",
            "draw_seed",
        ],
        ["GUIDER"],
    ),
    **HIFI_TUNER,
}
DOCS = Path(__file__).resolve().parents[2] / "web" / "docs"


@pytest.mark.parametrize("node_id", INTERFACE)
def test_interface_is_frozen_and_explained(comfy_nodes: Any, node_id: str) -> None:
    """Saved workflows and API clients depend on ids, names and order."""
    schema = comfy_nodes.NODE_CLASS_MAPPINGS[node_id].GET_SCHEMA()
    inputs, outputs = INTERFACE[node_id]
    assert [entry.id for entry in schema.inputs] == inputs
    assert [str(entry.io_type) for entry in schema.outputs] == outputs
    assert schema.category == "Subject-Diffusion"
    assert schema.description
    assert all(entry.tooltip for entry in (*schema.inputs, *schema.outputs))
    page = (DOCS / f"{node_id}.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in page for name in inputs)


def make_subject(host: Host, mask: torch.Tensor | None = None, **options: Any) -> Any:
    image = torch.rand(options.pop("views", 1), 20, 30, options.pop("channels", 3))
    inputs = {"label": "dog", "box": "0,0,1,1", "strength": 1.0, **options}
    (subjects,) = host.subject_node.SubjectDiffusionSubject.execute(image, mask=mask, **inputs).args
    return subjects[-1]


def test_reference_view_is_what_the_encoder_gets(host: Host, encoder: Encoder) -> None:
    mask = torch.zeros(1, 20, 30)
    mask[:, 5:10, 8:28] = 1
    subjects = (make_subject(host, mask), make_subject(host, views=2))
    seen: list[torch.Tensor] = []

    class Watched(type(encoder.vision)):
        def encode_image(self, image: torch.Tensor, crop: bool = True) -> Any:
            seen.append(image)
            return super().encode_image(image, crop)

    encoder.encode(*subjects, vision=Watched(host.tiny))
    (shown,) = host.reference_view_node.SubjectDiffusionReferenceView.execute(
        subjects, encoder.loaded
    ).args
    assert shown.shape == (3, 96, 96, 3)
    assert torch.equal(shown, torch.cat(seen))
    assert bool((shown[0, :30] > 0.98).all())  # four times as wide as high: white above


class Encoder:
    """A tiny CLIP with an adapter, and its Encode node."""

    def __init__(self, host: Host, folder: Path, **options: Any) -> None:
        self.host = host
        self.base = host.make_base()
        self.loaded = host.make_adapter(self.base, folder, **options)
        _, self.clip = host.apply_node.apply_adapter(self.base.model, self.base.clip, self.loaded)
        self.vision = host.tiny_clip_vision.TinyClipVision(host.tiny)

    def encode(self, *subjects: Any, prompt: str = "a dog", vision: Any = None) -> Any:
        return self.host.encode_node.SubjectDiffusionEncode.execute(
            self.clip, vision or self.vision, self.loaded, subjects, prompt, ""
        ).args


@pytest.fixture(scope="module")
def encoder(host: Host, tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    with torch.inference_mode():
        return Encoder(host, tmp_path_factory.mktemp("encoder"))


def branch_of(host: Host, conditioning: Any) -> Any:
    return conditioning[0][1]["model_conds"][host.family.ATTACHMENT_KEY].value


def test_branches(host: Host, encoder: Encoder) -> None:
    positive, image_only, negative = encoder.encode(make_subject(host), make_subject(host))
    branch = branch_of(host, positive)
    assert branch.subject_valid.tolist() == [True, True, False, False]
    assert branch is branch_of(host, image_only)
    assert branch_of(host, negative).is_null
    assert torch.equal(image_only[0][0], negative[0][0])
    stock = host.encode_text(encoder.base.clip, "a dog")[0][0]
    assert torch.equal(positive[0][1]["cross_attn_controlnet"], stock)


def test_views_share_their_subjects_strength(host: Host, encoder: Encoder) -> None:
    positive, _, _ = encoder.encode(make_subject(host, views=5, strength=0.5))
    branch = branch_of(host, positive)
    # five views, and the three empty slots that one subject has beside it in training
    assert branch.subject_valid.tolist() == [True] * 5 + [False] * 3
    torch.testing.assert_close(branch.token_strengths[:5], torch.full((5,), 0.1))


def test_strength_zero_removes_the_subject(host: Host, encoder: Encoder) -> None:
    kept, removed = make_subject(host), make_subject(host, label="cat", strength=0.0)
    with_both = encoder.encode(kept, removed)
    alone = encoder.encode(kept)
    assert torch.equal(with_both[0][0][0], alone[0][0][0])
    nobody = encoder.encode(removed)
    assert branch_of(host, nobody[0]).is_null


def test_errors_count_all_subjects(host: Host, encoder: Encoder) -> None:
    left_out = make_subject(host, strength=0.0)
    node = host.subject_node.SubjectDiffusionSubject
    image = torch.rand(1, 8, 8, 3)
    (subjects,) = node.execute(image, "cat", "", 1.0, previous=(left_out,)).args
    with pytest.raises(ValueError, match="Subject 2 has no box"):
        encoder.encode(*subjects)


def test_label_that_is_too_long(host: Host, encoder: Encoder) -> None:
    with pytest.raises(ValueError, match="label: expected a few words, got 84 tokens"):
        encoder.encode(make_subject(host, label="word " * 80))


def test_label_that_the_prompt_does_not_name(
    host: Host, encoder: Encoder, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        encoder.encode(make_subject(host), prompt="a picnic")
    assert "Subject 1: its label 'dog' is not in the prompt" in caplog.text


def test_wrong_vision_encoder(host: Host, encoder: Encoder, tmp_path: Path) -> None:
    """ComfyUI's own class around a small ViT."""
    config = tmp_path / "vision.json"
    config.write_text(
        '{"model_type": "clip_vision_model", "num_hidden_layers": 2, "hidden_size": 32,'
        ' "num_attention_heads": 2, "intermediate_size": 64, "hidden_act": "gelu",'
        ' "num_channels": 3, "patch_size": 56, "image_size": 224, "projection_dim": 24}'
    )
    other = comfy.clip_vision.ClipVisionModel(str(config))
    for parameter in other.model.parameters():
        torch.nn.init.zeros_(parameter)
    sentence = (
        r"clip_vision: expected an encoder with 144 patches of width 200 and an image embedding of "
        r"width 400, got 16 patches of width 32 and width 24\. Connect the CLIP_VISION output"
    )
    with pytest.raises(ValueError, match=sentence):
        encoder.encode(make_subject(host), vision=other)


def test_wrong_text_encoder(host: Host, tmp_path: Path) -> None:
    """ComfyUI would drop an embedding of another width with only a line in its log."""
    parts = ("adapters", "grounding", "mlp")
    options = {"projector_out_dim": 32, "trained_parts": parts, "location_control": False}
    encoder = Encoder(host, tmp_path, **options)
    with pytest.raises(ValueError, match=r"clip: expected a text encoder of width 32 .*, got 48"):
        encoder.encode(make_subject(host))


def test_progress_and_cancel(host: Host, encoder: Encoder) -> None:
    """Newer versions of ComfyUI leave messages out that follow each other too soon, but never the
    first and the last."""
    subjects = [make_subject(host, views=2), make_subject(host, label="cat")]
    seen: list[tuple[int, int]] = []

    def on_progress(value: int, total: int, *_args: Any, **_kwargs: Any) -> None:
        seen.append((value, total))

    def cancel(*args: Any, **kwargs: Any) -> None:
        on_progress(*args, **kwargs)
        comfy.model_management.interrupt_current_processing()

    try:
        comfy.utils.set_progress_bar_global_hook(on_progress)
        encoder.encode(*subjects)
        assert (seen[0], seen[-1]) == ((1, 3), (3, 3)) and seen == sorted(set(seen))
        seen.clear()
        comfy.utils.set_progress_bar_global_hook(cancel)
        with pytest.raises(comfy.model_management.InterruptProcessingException):
            encoder.encode(*subjects)
        assert seen == [(1, 3)]
    finally:
        comfy.utils.set_progress_bar_global_hook(None)
        comfy.model_management.interrupt_current_processing(False)


def test_apply_checks_the_model(host: Host, encoder: Encoder) -> None:
    other = host.make_base("sd15")
    with pytest.raises(ValueError, match=r"model: expected a tiny base with input channels 16"):
        host.apply_node.apply_adapter(other.model, other.clip, encoder.loaded)


def test_size_of_a_block_without_comfyuis_help(host: Host) -> None:
    size = host.unet_geometry.latent_size_of_block
    options = {"original_shape": [1, 4, 65, 97]}
    for wanted in ((65, 97), (33, 49), (17, 25), (9, 13)):
        assert size(options, wanted[0] * wanted[1]) == wanted
    with pytest.raises(ValueError, match="latent: expected a size"):
        size(options, 100)
