"""Recording attention: the maps are the model's own probabilities, and the picture stays."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import comfy.samplers
import pytest
import torch
from host_models import Host, cfg_guider, random_context, random_noise, sample
from test_identity import Setup, two_branches

LONG_PROMPT = "a dog and a cat " + "in a very quiet forest " * 16


@pytest.fixture(scope="module")
def setup(host: Host, tmp_path_factory: pytest.TempPathFactory) -> Setup:
    with torch.inference_mode():
        return Setup(host, tmp_path_factory.mktemp("attention"))


def paper_guider(host: Host, model: Any, conditionings: tuple[Any, Any, Any]) -> Any:
    node = host.guider_node.SubjectDiffusionGuider
    return node.execute(model, *conditionings, 3.0, 1.5).args[0]


def recorded(host: Host, model: Any, ranges: str = "0-1") -> tuple[Any, Any]:
    return host.record_attention_node.SubjectDiffusionRecordAttention.execute(model, ranges).args


CHUNK = 77  # tokens of a text


def with_texts(setup: Setup, prompt: str, negative: str) -> tuple[Any, tuple[Any, Any, Any]]:
    """MODEL and conditionings; prompts of any length."""
    model, clip = setup.host.apply_node.apply_adapter(
        setup.base.model, setup.base.clip, setup.loaded
    )
    node = setup.host.encode_node.SubjectDiffusionEncode
    return model, node.execute(
        clip, setup.vision, setup.loaded, setup.subjects, prompt, negative
    ).args


def spy_on_attention(model: Any) -> tuple[Any, list[torch.Tensor]]:
    """A clone, and whole softmax maps (rows of the positive branch, H, Q, L) of every
    cross-attention as its fused kernel gets it."""
    seen: list[torch.Tensor] = []

    def override(function: Any, q: Any, k: Any, v: Any, heads: int, **kwargs: Any) -> torch.Tensor:
        options = kwargs["transformer_options"]
        is_text = k.shape[1] % CHUNK == 0  # a gated layer sees cells and subjects, too
        if q.shape[1] != k.shape[1] and is_text:
            query, key = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in (q, k))
            probs = (query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5).softmax(-1)
            chunks = probs.chunk(len(options["cond_or_uncond"]))
            seen.append(chunks[options["cond_or_uncond"].index(0)])
        return function(q, k, v, heads, **kwargs)

    spied = model.clone()
    spied.model_options["transformer_options"]["optimized_attention_override"] = override
    return spied, seen


@pytest.mark.parametrize("branches", [2, 3])
def test_the_picture_stays_the_same_bit_for_bit(setup: Setup, branches: int) -> None:
    model, conditionings = setup.apply(1.0)
    watched, handle = recorded(setup.host, model, "0-0.4, 0.4-1")
    latents = []
    for each in (model, watched):
        if branches == 2:
            guider = two_branches(each, conditionings)
        else:
            guider = paper_guider(setup.host, each, conditionings)
        latents.append(sample(guider, setup.noise, sampler="dpmpp_2m"))
    assert torch.equal(*latents)
    assert handle.record.maps.shape == (2, 2, 2, 2, 16, 16)  # ranges, subjects, pictures, words
    assert handle.record.present.all()


@pytest.mark.parametrize("family", ["sd2", "sd15"])
def test_stock_model_classes(host: Host, family: str, tmp_path: Path) -> None:
    base = host.make_base(family)
    loaded = host.make_adapter(base, tmp_path)
    model, _ = host.apply_node.apply_adapter(base.model, base.clip, loaded)
    subject = host.sampling_run.WatchedSubject(
        index=0, name="Subject 1", label="dog", box_xyxy=(0.1, 0.2, 0.5, 0.9),
        label_position=5, placeholder_position=7,
    )  # fmt: skip
    text = host.sampling_run.WatchedText(subjects=(subject,), num_tokens=77)
    cond = host.run_attachment.BranchCond(value=host.branch(loaded, 1), text=text)
    values = {"pooled_output": None, "model_conds": {host.family.ATTACHMENT_KEY: cond}}
    positive = [[random_context(base), values]]
    negative = host.conditioning(random_context(base, seed=4), None)
    noise = random_noise(base, size=(16, 24))
    watched, handle = recorded(host, model)
    latents = [
        sample(cfg_guider(each, positive, negative, cfg=3.0), noise) for each in (model, watched)
    ]
    assert torch.equal(*latents)
    assert handle.record.maps.shape == (1, 1, 1, 2, 16, 24)
    spied, seen = spy_on_attention(watched)
    sample(cfg_guider(spied, positive, negative, cfg=3.0), noise)
    wanted = sum(probs[..., 5].mean() for probs in seen) / len(seen)
    torch.testing.assert_close(handle.record.maps[0, 0, 0, 0].mean(), wanted, rtol=0.02, atol=0)


@pytest.mark.parametrize(
    ("prompt", "negative"),
    [("a dog and a cat", "blurry"), (LONG_PROMPT, ""), ("a dog and a cat", LONG_PROMPT)],
    ids=["one chunk", "two chunks", "repeated beside a longer negative"],
)
def test_maps_are_the_probabilities_of_the_words(setup: Setup, prompt: str, negative: str) -> None:
    """Against the whole softmax of what every cross-attention really gets."""
    model, conditionings = with_texts(setup, prompt, negative)
    watched, handle = recorded(setup.host, model)
    spied, seen = spy_on_attention(watched)
    sample(two_branches(spied, conditionings), setup.noise)
    (text,) = [values["model_conds"]["subject_diffusion"].text for _, values in conditionings[0]]
    resize = setup.host.core("attention_maps").resize_maps
    for slot, subject in enumerate(text.subjects):
        for kind, position in enumerate((subject.label_position, subject.placeholder_position)):
            total = torch.zeros(2, 16, 16)
            for probs in seen:
                columns = probs.unflatten(-1, (-1, text.num_tokens)).sum(-2)[..., position].mean(1)
                side = round(columns.shape[1] ** 0.5)
                total += resize(columns.reshape(2, side, side), 16, 16)
            got = handle.record.maps[0, slot, :, kind]
            torch.testing.assert_close(got, total / len(seen), rtol=1e-4, atol=1e-6)
    assert len(seen) > 3


def test_positions_are_those_of_the_suffixes(setup: Setup) -> None:
    """Words of the clip's own tokeniser at the recorded places, in the first and later chunks."""
    clip = setup.base.clip
    for prompt in ("a dog and a cat", LONG_PROMPT):
        template = setup.host.core("prompts").build_prompt(prompt, ["dog", "fire truck"])
        made = setup.host.subject_tokens(clip, template, [torch.zeros(48), torch.ones(48)], 48136)
        flat = [token for chunk in made.tokens["l"] for token, _ in chunk]
        words = [flat[position] for position in made.label_positions]
        assert words == [clip.tokenize(word)["l"][0][1][0] for word in ("dog", "truck")]
        placeholders = [flat[position] for position in made.placeholder_positions]
        assert [float(embed.mean()) for embed in placeholders] == [0.0, 1.0]


def test_ranges_share_the_steps(setup: Setup) -> None:
    model, conditionings = setup.apply(1.0)
    maps = []
    for ranges in ("0-1", "0-0.5, 0.5-1"):
        watched, handle = recorded(setup.host, model, ranges)
        sample(two_branches(watched, conditionings), setup.noise, steps=4)
        maps.append(handle.record.maps)
    whole, parts = maps
    sampling = model.get_model_object("model_sampling")
    sigmas = comfy.samplers.calculate_sigmas(sampling, "normal", 4)[:-1]
    early = sum(float(sigma) > sampling.percent_to_sigma(0.5) for sigma in sigmas)
    assert 0 < early < 4
    torch.testing.assert_close(whole[0], (early * parts[0] + (4 - early) * parts[1]) / 4)
    assert not torch.allclose(parts[0], parts[1])


def test_an_absent_subject_has_no_map(setup: Setup) -> None:
    first, second = setup.subjects
    changed = Setup.__new__(Setup)
    changed.__dict__ = {
        **setup.__dict__,
        "subjects": (first, replace(second, start_percent=0.5)),
    }
    model, conditionings = changed.apply(1.0)
    watched, handle = recorded(setup.host, model, "0-0.5, 0.5-1")
    sample(two_branches(watched, conditionings), setup.noise, steps=6)
    assert handle.record.present.tolist() == [[True, False], [True, True]]
    assert handle.record.maps[0, 1].abs().max() == 0.0
    panels = list(setup.host.attention_maps_node.panels_of(handle.record, "separate"))
    assert len(panels) == 2 * 2 * 3  # pictures, words, present subjects
    assert [panel.subject.label for panel in panels[:3]] == ["dog", "dog", "dog"]


def test_an_area_has_its_own_part_of_the_map(setup: Setup) -> None:
    model, (positive, _, negative) = setup.apply(1.0)
    ((tensor, values),) = positive
    everywhere = setup.host.encode_text(setup.base.clip, "a forest")
    right_half = [[tensor, {**values, "area": (16, 8, 0, 8), "strength": 1.0}]]
    watched, handle = recorded(setup.host, model)
    sample(cfg_guider(watched, right_half + everywhere, negative, cfg=3.0), setup.noise)
    maps = handle.record.maps
    assert maps[..., :8].abs().max() == 0.0
    assert (maps[..., 8:] > 0).all()


def test_every_run_starts_afresh(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    recorders = []
    module = setup.host.record_attention_node
    original = module.AttentionRecorder

    def remembered(*args: Any) -> Any:
        recorder = original(*args)
        recorders.append(weakref.ref(recorder))
        return recorder

    monkeypatch.setattr(module, "AttentionRecorder", remembered)
    model, conditionings = setup.apply(1.0)
    watched, handle = recorded(setup.host, model)
    sample(two_branches(watched, conditionings), setup.noise)
    first = handle.record
    sample(two_branches(watched, conditionings), setup.noise)
    assert handle.record is not first
    assert torch.equal(handle.record.maps, first.maps)
    gc.collect()
    # of words and of pictures, for two runs
    assert [reference() for reference in recorders] == [None] * 4
    assert model.get_attachment(module.RECORD_KEY) is None


def test_a_cancelled_run_leaves_no_record(setup: Setup) -> None:
    model, conditionings = setup.apply(1.0)
    watched, handle = recorded(setup.host, model)
    sample(two_branches(watched, conditionings), setup.noise)
    broken = setup.noise.clone()
    guider = two_branches(watched, conditionings)
    sampling = model.get_model_object("model_sampling")
    sigmas = comfy.samplers.calculate_sigmas(sampling, "normal", 3)

    def cancel(*_: Any) -> None:
        raise comfy.model_management.InterruptProcessingException

    with pytest.raises(comfy.model_management.InterruptProcessingException):
        guider.sample(
            broken,
            torch.zeros_like(broken),
            comfy.samplers.sampler_object("euler"),
            sigmas,
            callback=cancel,
            seed=0,
        )
    assert handle.record is None


def test_node_shows_every_map(setup: Setup) -> None:
    model, conditionings = setup.apply(1.0)
    watched, handle = recorded(setup.host, model, "0-0.5, 0.5-1")
    sample(two_branches(watched, conditionings), setup.noise)
    node = setup.host.attention_maps_node.SubjectDiffusionAttentionMaps
    images, heat, ious, report = node.execute(
        handle, torch.rand(2, 64, 64, 3), "average", 0.5, 0.7
    ).args
    assert images.shape == (8, 384, 384, 3) and heat.shape == (8, 64, 64)
    assert float(images.min()) >= 0.0 and float(images.max()) <= 1.0
    assert float(heat.amin()) == 0.0 and float(heat.amax()) == 1.0
    lines = report.splitlines()
    assert len(ious) == len(lines) == 8
    assert lines[0] == f"picture 1: dog (average), 0-50 %: IoU {ious[0]:.2f}"
    assert lines[7].startswith("picture 2: cat (average), 50-100 %: IoU ")
    assert not torch.equal(images[0], images[1])


def test_sentences(setup: Setup) -> None:
    host = setup.host
    model, conditionings = setup.apply(1.0)
    record = host.record_attention_node.SubjectDiffusionRecordAttention
    with pytest.raises(ValueError, match=r"ranges: expected start-end pairs .* got '0.5-0.2'"):
        record.execute(model, "0.5-0.2")
    watched, handle = recorded(host, model)
    with pytest.raises(ValueError, match="model: expected a MODEL whose attention is not yet"):
        record.execute(watched, "0-1")
    show = host.attention_maps_node.SubjectDiffusionAttentionMaps
    with pytest.raises(ValueError, match="attention: expected a finished sampling"):
        show.execute(handle, torch.rand(1, 64, 64, 3), "label", 0.5, 0.7)
    sample(two_branches(watched, conditionings), setup.noise)
    with pytest.raises(ValueError, match=r"image: expected the 2 pictures .* got 1"):
        show.execute(handle, torch.rand(1, 64, 64, 3), "label", 0.5, 0.7)


def test_a_switched_off_adapter_records_nothing(setup: Setup) -> None:
    model, conditionings = setup.apply(0.0)
    watched, handle = recorded(setup.host, model)
    sample(two_branches(watched, conditionings), setup.noise)
    assert handle.record is None
