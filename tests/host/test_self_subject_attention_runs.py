"""Self-subject-attention in unusual runs: large pictures, windows, lists, errors, odd texts."""

from __future__ import annotations

from typing import Any

import comfy.hooks
import comfy.samplers
import numpy as np
import pytest
import torch
from bad_references import seeing_graph
from graphs import GraphRunner, node
from host_models import Host, cfg_guider, relative_error, sample
from reference_models import WRAPPERS, ReferenceBench, bench_of
from test_coexistence import make_lora
from test_graphs import runner  # noqa: F401
from test_self_subject_attention_beside import run, stock_node
from test_self_subject_attention_node import Setup


@pytest.fixture
def bench(host: Host) -> ReferenceBench:
    return bench_of(host)


@pytest.mark.parametrize("family", ["tiny", "sd15", "sdxl"])
def test_three_times_the_models_own_size(host: Host, family: str) -> None:
    """As 1536 is to Stable Diffusion 1.5: tall pictures, a reference as large, boxes."""
    bench = bench_of(host, family)
    subject = bench.subject(bench.reference((48, 48)), box_xyxy=(0.2, 0.1, 0.7, 0.9))
    size = (48, 32)
    latent = run(bench, bench.attached(), subject, size=size)
    assert latent.shape[-2:] == size and bool(latent.isfinite().all())
    assert relative_error(latent, run(bench, bench.model, size=size)) > 1e-3


def test_windows_over_a_batch_are_the_batch(bench: ReferenceBench, comfy_nodes: Any) -> None:
    """ComfyUI's context windows cut the batch up; every part makes do with one pass a step."""
    if "ContextWindowsManual" not in comfy_nodes.NODE_CLASS_MAPPINGS:
        pytest.skip("this ComfyUI has no context windows")
    subject = bench.subject(bench.reference((12, 20)), box_xyxy=(0.0, 0.0, 0.6, 1.0))
    both = [bench.seeing(text, subject) for text in (bench.text(), bench.text(4))]
    # as many as noise levels: else 0.3.75 cannot tell which step it is at
    noise = bench.noise(3)
    whole = sample(cfg_guider(bench.attached(), *both, 3.0), noise, steps=2)
    settings = (2, 0, "batched", 1, False, "flat", 0)
    windowed = stock_node(comfy_nodes, "ContextWindowsManual", bench.attached(), *settings)
    bench.passes.clear()
    parts = sample(cfg_guider(windowed, *both, 3.0), noise, steps=2)
    assert relative_error(parts, whole) < 1e-4
    assert len(bench.passes) == 2


def test_rebatched_latents_are_the_batch(runner: GraphRunner) -> None:  # noqa: F811
    graph = seeing_graph()
    graph["latent"]["inputs"]["batch_size"] = 3
    wanted = runner.pictures(graph)
    graph["rebatched"] = node("RebatchLatents", latents=["latent", 0], batch_size=1)
    graph["sample"]["inputs"]["latent_image"] = ["rebatched", 0]
    got = runner.pictures(graph)
    assert len(wanted) == len(got) == 3
    for one, other in zip(wanted, got, strict=True):
        assert np.abs(one.astype(int) - other.astype(int)).max() <= 2
    assert not np.array_equal(wanted[0], wanted[1])


def test_an_image_to_image_run_is_the_rest_of_a_whole_one(bench: ReferenceBench) -> None:
    """From a latent and its noise at a later noise level."""
    subject, sampling = bench.subject(), bench.model.get_model_object("model_sampling")
    both = [bench.seeing(text, subject) for text in (bench.text(), bench.text(4))]
    guider = cfg_guider(bench.attached(), *both, 3.0)
    sigmas = comfy.samplers.calculate_sigmas(sampling, "normal", 4)[2:]
    noise, image = bench.noise(), bench.noise(seed=9)
    sampler = comfy.samplers.sampler_object("euler")
    latent = guider.sample(noise, image, sampler, sigmas, seed=0)
    assert len(bench.passes) == 2
    assert max(bench.passes) == pytest.approx(float(sigmas[0]))
    stock = cfg_guider(bench.model, bench.text(), bench.text(4), 3.0)
    assert relative_error(latent, stock.sample(noise, image, sampler, sigmas, seed=0)) > 1e-3


@pytest.mark.parametrize("sampler", ["euler", "euler_ancestral"])
def test_an_empty_mask_is_stock_bit_for_bit(bench: ReferenceBench, sampler: str) -> None:
    """All keys are dropped, so no subject is seen; the passes leave the random numbers alone."""
    latents = []
    for model, *subjects in (
        (bench.model,),
        (bench.attached(), bench.subject(bench.reference(mask=torch.zeros(128, 128)))),
    ):
        torch.manual_seed(0)
        latents.append(run(bench, model, *subjects, sampler=sampler))
    assert torch.equal(*latents)
    assert len(bench.passes) == 2


def test_branches_in_calls_of_their_own(
    bench: ReferenceBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where memory is short, ComfyUI computes one branch after the other."""
    subject, calls = bench.subject(bench.reference((12, 20))), []
    wanted = run(bench, bench.attached(), subject)
    monkeypatch.setattr(bench.model.model, "memory_required", lambda *_, **__: 1e30)
    model = bench.attached()

    def watch(executor: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(x.shape[0])
        return executor(x, *args, **kwargs)

    model.add_wrapper_with_key(WRAPPERS.DIFFUSION_MODEL, "watch", watch)
    bench.passes.clear()
    assert relative_error(run(bench, model, subject), wanted) < 1e-5
    assert len(bench.passes) == 2
    assert calls == [1] * 6  # two steps of a pass and two branches


def test_a_small_reference_in_a_picture_of_odd_size(bench: ReferenceBench) -> None:
    """256 x 256 pixels in 520 x 776."""
    latent = run(bench, bench.attached(), bench.subject(bench.reference((32, 32))), size=(65, 97))
    assert latent.shape[-2:] == (65, 97) and bool(latent.isfinite().all())


@pytest.mark.parametrize("ours_first", [True, False])
def test_a_replaced_cross_attention_acts_in_the_pass(
    bench: ReferenceBench, ours_first: bool
) -> None:
    """As older image adapters have it, which count the rows of a branch: also in the pass."""
    rows = []

    def replaced(q: torch.Tensor, k: Any, v: torch.Tensor, options: Any) -> torch.Tensor:
        rows.append(q.shape[0] // len(options["cond_or_uncond"]))
        return q + v.mean(dim=1, keepdim=True)[..., :1]

    kind, number, index = min(
        bench.host.unet_geometry.transformer_block_locations(bench.model).values()
    )
    subject = bench.subject()
    model = bench.attached() if ours_first else bench.model.clone()
    model.set_model_attn2_replace(replaced, kind, number, index)
    both = run(bench, model if ours_first else bench.attached(model), subject)
    assert rows == [1] * 4  # a pass and a call with both branches, twice
    only_ours = run(bench, bench.attached(), subject)
    assert relative_error(both, only_ours) > 1e-3
    assert relative_error(both, run(bench, model)) > 1e-3


def test_a_scheduled_text_encoder_captions_each_part(host: Host) -> None:
    """A CLIP whose weights change in mid-run gives a caption with several entries."""
    setup = Setup(host)
    hooks = comfy.hooks.create_hook_lora(make_lora(), 0.0, 1.0)
    keyframes = comfy.hooks.HookKeyframeGroup()
    for percent, strength in ((0.0, 0.0), (0.5, 1.0)):
        keyframes.add(comfy.hooks.HookKeyframe(strength, start_percent=percent))
    hooks.set_keyframes_on_hooks(keyframes)
    clip = setup.base.clip.clone()
    clip.patcher.forced_hooks = hooks.clone()
    clip.use_clip_schedule = True
    clip.patcher.set_hook_mode(comfy.hooks.EnumHookMode.MinVram)
    _, positive, _ = setup.apply(clip=clip)
    caption = setup.references(positive).subjects[0].pictures[0].caption
    assert len(caption) == 2
    sampling = setup.base.model.get_model_object("model_sampling")
    entry = host.pass_inputs.caption_at
    high, low = (float(sampling.percent_to_sigma(percent)) for percent in (0.2, 0.8))
    assert [entry(caption, sampling, sigma) for sigma in (1e9, high, low, 0.0)] == [0, 0, 1, 1]
    assert [entry(caption[:1], sampling, sigma) for sigma in (high, low)] == [0, 0]


@pytest.mark.parametrize("name", ["clip", "positive", "negative"])
def test_stable_diffusion_xl_needs_pooled_outputs(host: Host, name: str) -> None:
    bench, setup = bench_of(host, "sdxl"), Setup(host)
    texts = dict.fromkeys(("clip", "positive", "negative"), bench.text())
    node, sentence = host.self_subject_attention_node, rf"{name}: expected texts with a pooled out"
    node._require_pooled_outputs(bench.model, *texts.values())
    ((context, _),) = texts[name]
    texts[name] = [[context, {"pooled_output": None}]]
    with pytest.raises(ValueError, match=sentence):
        node._require_pooled_outputs(bench.model, *texts.values())
    node._require_pooled_outputs(setup.base.model, *texts.values())
    if name != "clip":
        with pytest.raises(ValueError, match=sentence):
            setup.apply(model=bench.model, positive=texts["positive"], negative=texts["negative"])
