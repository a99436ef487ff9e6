"""A tuned embedding in prompts: which vectors each step sees, and what stays as it was."""

from __future__ import annotations

import logging
from typing import Any

import comfy.patcher_extension
import comfy.samplers
import pytest
import torch
from host_models import Host, cfg_guider, sample
from reference_models import bench_of
from sdxl_models import make_sdxl_base
from test_self_subject_attention_node import flux_model

import nodes

WRAPPERS = comfy.patcher_extension.WrappersMP
WIDTH = 48
PROMPT = "a dog on a red chair"
SCHEDULERS = comfy.samplers.SCHEDULER_NAMES[:9]
STEPS = (1, 4, 20, 25, 50)


def make_embedding(host: Host, num_sets: int = 50, width: int = WIDTH, **changes: Any) -> Any:
    """Random vectors, sets for the steps of DDIM."""
    generator = torch.Generator().manual_seed(num_sets)
    sampling = host.make_base().model.get_model_object("model_sampling")
    sigmas = host.tuning_run.step_sigmas_of(sampling, num_sets)
    values = {
        "vectors": torch.randn(5, width, generator=generator),
        "step_vectors": torch.randn(len(sigmas), 5, width, generator=generator),
        "step_timesteps": tuple(float(sampling.timestep(sigma)) for sigma in sigmas),
        "label": "dog",
        **changes,
    }
    return host.core("hifi_tuner").TunedEmbedding(**values)


def apply(host: Host, embedding: Any, mode: str = "whole", strength: float = 1.0, **inputs: Any):
    node = host.apply_embedding_node.SubjectDiffusionApplyEmbedding
    return node.execute(embedding, mode, strength, **inputs).args[0]


class Setup:
    def __init__(self, host: Host) -> None:
        self.host = host
        self.base = host.make_base()
        self.model, self.clip = self.base.model, self.base.clip
        self.embedding = make_embedding(host)
        self.stock = host.encode_text(self.clip, PROMPT)
        self.negative = host.encode_text(self.clip, "")
        self.noise = torch.randn(1, 16, 16, 16, generator=torch.Generator().manual_seed(2))

    def picture(self, positive: Any, model: Any = None, steps: int = 4, **kwargs: Any) -> Any:
        guider = cfg_guider(model or self.model, positive, self.negative, 3.0)
        return sample(guider, self.noise, steps, **kwargs)


@pytest.fixture(scope="module")
def setup(host: Host) -> Setup:
    with torch.inference_mode():
        return Setup(host)


def test_whole(setup: Setup) -> None:
    """The last vectors, and nothing else."""
    ((text, values),) = apply(setup.host, setup.embedding, clip=setup.clip, prompt=PROMPT)
    stock, stock_values = setup.stock[0]
    assert torch.equal(text[:, :-5], stock[:, :-5])
    assert torch.equal(text[0, -5:], setup.embedding.vectors.to(text))
    # beside the stock's, where the vectors are, for Record Attention
    assert set(values) == {*stock_values, "subject_diffusion_words"}
    encoded = apply(setup.host, setup.embedding, conditioning=setup.stock)
    assert torch.equal(encoded[0][0], text)
    assert not torch.equal(setup.picture(encoded), setup.picture(setup.stock))


@pytest.mark.parametrize("mode", ["whole", "step-wise"])
def test_its_own_last_vectors_are_the_stock_picture(setup: Setup, mode: str) -> None:
    own = setup.stock[0][0][0, -5:].float()
    sets = own.expand(50, -1, -1)
    embedding = make_embedding(setup.host, vectors=own, step_vectors=sets)
    entries = apply(setup.host, embedding, mode, conditioning=setup.stock)
    assert len(entries) == (1 if mode == "whole" else 50)
    assert all(torch.equal(text, setup.stock[0][0]) for text, _ in entries)
    assert torch.equal(setup.picture(entries), setup.picture(setup.stock))


@pytest.mark.parametrize("mode", ["whole", "step-wise"])
def test_strength_0_is_the_stock_conditioning(setup: Setup, mode: str) -> None:
    assert apply(setup.host, setup.embedding, mode, 0.0, conditioning=setup.stock) == setup.stock


def test_strength_is_between(setup: Setup) -> None:
    half = apply(setup.host, setup.embedding, strength=0.5, conditioning=setup.stock)[0][0]
    mean = (setup.stock[0][0][0, -5:] + setup.embedding.vectors) / 2
    assert torch.allclose(half[0, -5:], mean, atol=1e-6)


def test_strength_goes_by_each_text_of_a_batch(setup: Setup) -> None:
    rows = [[torch.cat((setup.stock[0][0], setup.negative[0][0])), {}]]
    both = apply(setup.host, setup.embedding, strength=0.5, conditioning=rows)[0][0]
    for row, alone in zip(both, (setup.stock, setup.negative), strict=True):
        half = apply(setup.host, setup.embedding, strength=0.5, conditioning=alone)[0][0]
        assert torch.equal(row, half[0])


def test_equal_sets_are_the_whole(setup: Setup) -> None:
    sets = setup.embedding.vectors.expand(50, -1, -1)
    embedding = make_embedding(setup.host, vectors=setup.embedding.vectors, step_vectors=sets)
    whole, stepwise = (
        apply(setup.host, embedding, mode, conditioning=setup.stock)
        for mode in ("whole", "step-wise")
    )
    assert torch.equal(setup.picture(stepwise), setup.picture(whole))


def active_sets(setup: Setup, entries: Any, sigma: torch.Tensor) -> list[int]:
    """The entries that ComfyUI uses at a noise level."""
    x = setup.noise
    return [
        index
        for index, entry in enumerate(entries)
        if comfy.samplers.get_area_and_mult(entry, x, sigma.view(1)) is not None
    ]


@pytest.mark.parametrize("num_sets", [50, 20, 7])
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_every_step_has_one_set(setup: Setup, scheduler: str, num_sets: int) -> None:
    """At every noise level of every schedule; the nearest one."""
    sampling = setup.model.get_model_object("model_sampling")
    embedding = make_embedding(setup.host, num_sets)
    conditioning = apply(setup.host, embedding, "step-wise", conditioning=setup.stock)
    entries = [{"model_conds": {}, "uuid": 0, **values} for _, values in conditioning]
    comfy.samplers.calculate_start_end_timesteps(setup.model.model, entries)
    timesteps = torch.tensor(embedding.step_timesteps)
    for steps in STEPS:
        sigmas = comfy.samplers.calculate_sigmas(sampling, scheduler, steps)[:-1]
        for sigma in sigmas[sigmas.isfinite()]:  # a single step of kl_optimal is not a number
            (active,) = active_sets(setup, entries, sigma)
            distance = (timesteps - float(sampling.timestep(sigma))).abs()
            assert float(distance[active]) <= float(distance.min()) + 1.0, (steps, float(sigma))


def test_one_set_per_step_also_on_a_model_of_ours(setup: Setup) -> None:
    """Where another method is on the MODEL, ranges are exact; each call sees one text of two."""
    bench = bench_of(setup.host)
    model, seen = bench.attached(), []

    def note(executor: Any, x: Any, t: Any, *args: Any, **kwargs: Any) -> Any:
        seen.append(x.shape[0])
        return executor(x, t, *args, **kwargs)

    model.add_wrapper_with_key(WRAPPERS.APPLY_MODEL, "note", note)
    positive = apply(setup.host, setup.embedding, "step-wise", conditioning=setup.stock)
    setup.picture(positive, model, steps=20)
    assert seen == [2] * 20


def test_user_ranges_stay(setup: Setup) -> None:
    """A range of ComfyUI's own node is kept; sets outside of it are left out."""
    late = [
        [text, {**values, "start_percent": 0.5, "end_percent": 1.0}] for text, values in setup.stock
    ]
    entries = apply(setup.host, setup.embedding, "step-wise", conditioning=late)
    entries = [{"model_conds": {}, "uuid": 0, **values} for _, values in entries]
    comfy.samplers.calculate_start_end_timesteps(setup.model.model, entries)
    sampling = setup.model.get_model_object("model_sampling")
    early, late_sigma = (torch.tensor(sampling.percent_to_sigma(p)) for p in (0.3, 0.7))
    assert active_sets(setup, entries, early) == []
    assert len(active_sets(setup, entries, late_sigma)) == 1


@pytest.mark.parametrize("sampler", ["euler_ancestral", "dpmpp_2m", "heun"])
def test_samplers(setup: Setup, sampler: str) -> None:
    positive = apply(setup.host, setup.embedding, "step-wise", conditioning=setup.stock)
    torch.manual_seed(1)
    pictures = [setup.picture(positive, sampler=sampler, steps=6) for _ in range(2)]
    assert pictures[0].isfinite().all()


def test_areas_and_several_entries(setup: Setup) -> None:
    """Combined prompts each get the vectors, and keep what else they say."""
    combined = setup.stock + [[text, {**v, "strength": 0.5}] for text, v in setup.negative]
    entries = apply(setup.host, setup.embedding, conditioning=combined)
    assert [values.get("strength") for _, values in entries] == [None, 0.5]
    assert all(torch.equal(text[0, -5:], setup.embedding.vectors) for text, _ in entries)


def test_two_chunks(setup: Setup) -> None:
    """The last chunk's end."""
    long = "a dog " * 60
    ((text, _),) = apply(setup.host, setup.embedding, clip=setup.clip, prompt=long)
    stock = setup.host.encode_text(setup.clip, long)[0][0]
    assert text.shape[1] == 154 and torch.equal(text[:, :-5], stock[:, :-5])


def test_sdxl(host: Host) -> None:
    """Two text encoders: their joint width, and the pooled text as it was."""
    clip = make_sdxl_base(host).clip
    stock = host.encode_text(clip, PROMPT)[0]
    embedding = make_embedding(host, width=stock[0].shape[-1])
    ((text, values),) = apply(host, embedding, clip=clip, prompt=PROMPT)
    assert text.shape == (1, 77, 80) and torch.equal(text[0, -5:], embedding.vectors)
    assert torch.equal(values["pooled_output"], stock[1]["pooled_output"])


def test_label(setup: Setup, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        named = apply(
            setup.host, setup.embedding, clip=setup.clip, prompt="a <label> on a red chair"
        )
    assert caplog.text == ""
    wanted = apply(setup.host, setup.embedding, conditioning=setup.stock)
    assert torch.equal(named[0][0], wanted[0][0])
    with caplog.at_level(logging.WARNING):
        apply(setup.host, setup.embedding, clip=setup.clip, prompt="a cat")
    assert "prompt: it does not name 'dog'" in caplog.text


@pytest.mark.parametrize(("words", "too_many"), [(70, 0), (71, 1), (74, 4), (75, 5)])
def test_prompts_that_are_too_long(setup: Setup, words: int, too_many: int) -> None:
    """Start and end token and the words; 72 places are free."""
    prompt = "dog " * words
    if too_many == 0:
        apply(setup.host, setup.embedding, clip=setup.clip, prompt=prompt)
        return
    with pytest.raises(ValueError, match=f"prompt: expected a text .* got {too_many} tokens too"):
        apply(setup.host, setup.embedding, clip=setup.clip, prompt=prompt)


def test_bad_input(setup: Setup, caplog: pytest.LogCaptureFixture) -> None:
    host = setup.host
    with pytest.raises(
        ValueError, match="expected a CLIP and a prompt, or a CONDITIONING, got nei"
    ):
        apply(host, setup.embedding, prompt=PROMPT)
    with pytest.raises(ValueError, match="conditioning: expected it alone"):
        apply(host, setup.embedding, clip=setup.clip, conditioning=setup.stock)
    with pytest.raises(ValueError, match="mode: expected step-wise or whole, got 'mean'"):
        apply(host, setup.embedding, "mean", conditioning=setup.stock)
    wide = make_embedding(host, width=64)
    with pytest.raises(
        ValueError, match=r"embedding: expected one for a text of shape \(1, 77, 48"
    ):
        apply(host, wide, conditioning=setup.stock)
    plain = make_embedding(host, step_vectors=None, step_timesteps=())
    with caplog.at_level(logging.WARNING):
        apply(host, plain, "step-wise", conditioning=setup.stock)
    assert "it was tuned as a whole only" in caplog.text


def test_nodes_are_found(comfy_nodes: Any) -> None:
    assert "SubjectDiffusionApplyEmbedding" in nodes.NODE_CLASS_MAPPINGS


@pytest.mark.parametrize("mode", ["whole", "step-wise"])
def test_attention_maps_show_the_vectors(
    host: Host, setup: Setup, mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    """On a MODEL without an adapter; of five equal vectors each has a fifth of their attention."""
    vector = torch.randn(1, WIDTH, generator=torch.Generator().manual_seed(4))
    alike = make_embedding(
        host, vectors=vector.expand(5, -1).clone(), step_vectors=vector.expand(50, 5, -1).clone()
    )
    positive = apply(host, alike, mode, conditioning=setup.stock)
    record = host.record_attention_node.SubjectDiffusionRecordAttention
    with caplog.at_level(logging.WARNING):
        model, handle = record.execute(setup.model, "0-1").args
    assert "only a tuned embedding of Apply Embedding is recorded" in caplog.text
    assert torch.equal(setup.picture(positive, model), setup.picture(positive))
    ((subject,), maps) = handle.record.subjects, handle.record.maps[0, 0, 0]
    assert subject.label == "dog" and maps.shape == (2, 16, 16)
    first, all_together = maps
    torch.testing.assert_close(all_together, 5 * first)
    assert float(all_together.min()) > 0.0 and float(all_together.max()) < 1.0
    show = host.attention_maps_node.SubjectDiffusionAttentionMaps
    heat = show.execute(handle, torch.rand(1, 128, 128, 3), "placeholder", 0.5, 0.7).args[1]
    assert heat.shape == (1, 128, 128) and float(heat.max()) == 1.0
    plain = setup.picture(setup.stock, model)
    assert torch.equal(plain, setup.picture(setup.stock)) and handle.record is None


def test_a_model_that_is_no_unet_is_not_recorded(host: Host) -> None:
    record = host.record_attention_node.SubjectDiffusionRecordAttention
    with pytest.raises(ValueError, match=r"model: expected a UNet \(Stable Diffusion 1, 2 or XL\)"):
        record.execute(flux_model(), "0-1")
