"""Subject replacement as a sampler in ComfyUI, in its inference mode."""

from __future__ import annotations

import copy
import logging
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.patcher_extension
import comfy.samplers
import pytest
import torch
from host_models import Host, cfg_guider, relative_error
from reference_models import ReferenceBench, bench_of
from safetensors.torch import save_file
from test_nodes import Encoder, make_subject
from tuning_models import FAMILIES, Snapshot

WRAPPERS = comfy.patcher_extension.WrappersMP
STEPS = 4


class Setup:
    """A random model and a picture. Texts are vectors: `same` of the caption's stand in the prompt,
    the others are new."""

    def __init__(self, host: Host, family: str = "tiny", **options: Any) -> None:
        self.host = host
        self.bench: ReferenceBench = bench_of(host, family, **options)
        self.caption, self.negative = self.bench.text(3), self.bench.text(4)
        sampling = self.bench.model.get_model_object("model_sampling")
        self.sigmas = comfy.samplers.calculate_sigmas(sampling, "ddim_uniform", STEPS)

    def positive(self, new: range = range(4, 6)) -> Any:
        text, values = self.caption[0][0].clone(), self.caption[0][1]
        text[:, new.start : new.stop] = self.bench.text(8)[0][0][:, new.start : new.stop]
        return [[text, dict(values)]]

    def columns(self, new: range = range(0)) -> Any:
        tokens = tuple(f"new {i}" if i in new else i for i in range(77))
        return self.host.replaced_words.TextColumns(tokens=tokens, end=10)

    def replacement(self, new: range = range(4, 6), **changes: Any) -> Any:
        values = {
            "latent": self.bench.noise(seed=30),
            "mask": None,
            "caption": self.caption,
            "source": self.columns(),
            "target": self.columns(new),
            "num_free_last": 0,
            "method": "optimise",
            "num_updates": 2,
            "learning_rate": 0.01,
            "stops_early": False,
            "keep_until": 1.0,
            "blend": 0.0,
            "num_iterations": 1,
            **changes,
        }
        return self.host.replacement_sampling.Replacement(**values)

    def sample(self, replacement: Any, positive: Any = None, **kwargs: Any) -> Any:
        """The latent that the VAE gets."""
        model = kwargs.pop("model", self.bench.model)
        noise = self.bench.noise(kwargs.pop("batch", 1))
        guider = cfg_guider(model, positive or self.positive(), self.negative, 4.0)
        sampler = self.host.replacement_sampling.make_sampler(replacement)
        latent = torch.zeros_like(noise)
        return guider.sample(
            noise, latent, sampler, self.sigmas, seed=0, disable_pbar=True, **kwargs
        )

    def reconstruction(self, **changes: Any) -> Any:
        """The picture with the same words, all of which keep their attention."""
        return self.sample(self.replacement(range(0), **changes), self.caption)


@pytest.fixture(scope="module")
def setup(host: Host) -> Setup:
    with torch.inference_mode():
        return Setup(host)


@pytest.mark.parametrize("method", ["optimise", "caption as negative"])
def test_the_same_words_reconstruct_the_picture(setup: Setup, method: str) -> None:
    """Both pictures go the same way, so the attention of one is that of the other."""
    wanted = setup.bench.noise(seed=30)
    if method == "caption as negative":  # guidance of equal predictions is no guidance
        errors = [
            relative_error(setup.reconstruction(method=method, num_iterations=n), wanted)
            for n in (1, 8)
        ]
        assert errors[1] < 0.1 * errors[0]
    else:
        made = setup.reconstruction(num_updates=20, learning_rate=0.05)
        without = setup.reconstruction(num_updates=0)
        assert relative_error(made, wanted) < 0.9 * relative_error(without, wanted)


def test_all_new_words_are_plain_sampling(setup: Setup) -> None:
    """From the picture's own noise: nothing is kept, so the attention is the model's."""
    new = range(77)
    replacement = setup.replacement(new, method="optimise", num_updates=0)
    made = setup.sample(replacement, setup.positive(new))
    run: list[torch.Tensor] = []
    setup.sample(
        replacement,
        setup.positive(new),
        callback=lambda step, x0, x, total: run.append(x.clone()),
    )
    guider = cfg_guider(setup.bench.model, setup.positive(new), setup.negative, 4.0)
    sampler = comfy.samplers.sampler_object("euler")
    sigma = setup.sigmas[0]
    noise = run[0] / sigma  # of a latent of zeros
    latent = torch.zeros_like(noise)
    plain = guider.sample(noise, latent, sampler, setup.sigmas, seed=0, disable_pbar=True)
    assert relative_error(made, plain) < 2e-3
    assert relative_error(made, setup.reconstruction()) > 0.05


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_changes_by_its_new_words_alone(host: Host, family: str) -> None:
    """Less than with all words free; nothing is left on the model."""
    setup = Setup(host, family)
    before = Snapshot(setup.bench.model)
    made = setup.sample(setup.replacement())
    before.assert_unchanged()
    assert torch.is_inference_mode_enabled() and made.isfinite().all()
    reconstruction = setup.reconstruction()
    free = setup.sample(setup.replacement(keep_until=0.0))
    assert relative_error(made, reconstruction) > 1e-4
    assert not torch.equal(made, free)


def test_outside_the_mask_it_is_the_picture(setup: Setup) -> None:
    mask = torch.zeros(16, 16, dtype=torch.bool)
    mask[4:12, 5:13] = True
    made, whole = setup.sample(setup.replacement(mask=mask)), setup.reconstruction()
    assert torch.equal(made[..., ~mask], whole[..., ~mask])
    assert not torch.equal(made[..., mask], whole[..., mask])


def test_local_blend_keeps_what_neither_word_sees(setup: Setup) -> None:
    """The higher the threshold, the more of the picture stays; at 1 all of it from there on."""
    whole = setup.reconstruction()
    kept = [
        float((setup.sample(setup.replacement(blend=blend)) == whole).float().mean())
        for blend in (0.0, 0.5, 1.0)
    ]
    assert kept[0] < 0.05 and kept[0] <= kept[1] < kept[2] == 1.0, kept


def test_a_batch_is_one_picture_many_times(setup: Setup) -> None:
    """There is no noise that could differ."""
    batch = setup.sample(setup.replacement(), batch=3)
    assert batch.shape[0] == 3
    assert relative_error(batch[2:], setup.sample(setup.replacement())) < 1e-4


def test_more_updates_and_early_stop(setup: Setup) -> None:
    """A step that is near enough takes no more of them."""
    calls: list[int] = []
    model = setup.bench.model.clone()

    def count(executor: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        return executor(*args, **kwargs)

    model.add_wrapper_with_key(WRAPPERS.APPLY_MODEL, "count", count)
    counts = []
    for stops, latent in ((False, None), (True, None), (True, torch.zeros(1, 4, 16, 16))):
        calls.clear()
        changes = {} if latent is None else {"latent": torch.zeros_like(setup.bench.noise())}
        setup.sample(setup.replacement(stops_early=stops, num_updates=8, **changes), model=model)
        counts.append(len(calls))
    assert counts[0] == STEPS * (2 + 8 + 2 + 2)
    assert counts[2] <= counts[1] <= counts[0]


@pytest.mark.parametrize("stop", [2, 12])
def test_cancel_leaves_nothing(setup: Setup, stop: int) -> None:
    model, calls, before = setup.bench.model.clone(), [], Snapshot(setup.bench.model)

    def count(executor: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(None)
        if len(calls) == stop:
            comfy.model_management.interrupt_current_processing()
        return executor(*args, **kwargs)

    model.add_wrapper_with_key(WRAPPERS.APPLY_MODEL, "count", count)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        setup.sample(setup.replacement(), model=model)
    before.assert_unchanged()
    assert model.model_options.get("transformer_options", {}).get("patches", {}) == {}


class NodeRun:
    """The node on the small model, with its real text encoder."""

    def __init__(self, host: Host) -> None:
        self.host, self.base = host, host.make_base()
        self.vae = host.tiny_model.build_vae(host.tiny)
        self.image = torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(0))

    def execute(self, **changes: Any) -> Any:
        values = {
            "clip": self.base.clip,
            "vae": self.vae,
            "image": self.image,
            "caption": "a photo of a cat on a sofa",
            "word": "cat",
            "replacement": "hot dog",
            "method": "optimise",
            "num_updates": 1,
            "learning_rate": 0.01,
            "stop_early": True,
            "keep_until": 1.0,
            "blend": 0.3,
            "inversion_iterations": 1,
            **changes,
        }
        node = self.host.replacement_sampler_node.SubjectDiffusionReplacementSampler
        return node.execute(**values).args

    def sample(self, sampler: Any, latent: Any, positive: Any, model: Any = None) -> Any:
        model = model or self.base.model
        (negative,) = [self.base.clip.encode_from_tokens_scheduled(self.base.clip.tokenize(""))]
        sampling = model.get_model_object("model_sampling")
        sigmas = comfy.samplers.calculate_sigmas(sampling, "ddim_uniform", 2)
        noise = torch.zeros_like(latent["samples"])
        guider = cfg_guider(model, positive, negative, 4.0)
        return guider.sample(noise, latent["samples"], sampler, sigmas, seed=0, disable_pbar=True)


@pytest.fixture(scope="module")
def node(host: Host) -> NodeRun:
    with torch.inference_mode():
        return NodeRun(host)


def test_node(node: NodeRun, host: Host) -> None:
    sampler, latent, positive, prompt = node.execute()
    assert prompt == "a photo of a hot dog on a sofa"
    guided = sampler.extra_options["replacement"]
    mapper, (old, new) = host.replaced_words.map_columns(guided.source, guided.target, 0)
    assert old.tolist() == [5] and new.tolist() == [5, 6]  # behind the start and "a photo of a"
    assert mapper[6].argmax() == 7  # "on", one place further
    assert node.sample(sampler, latent, positive).isfinite().all()


def test_with_a_tuned_embedding(node: NodeRun, host: Host) -> None:
    """Its vectors stand at the end of `positive` and are free."""
    vectors = torch.randn(
        5, node.base.clip.encode_from_tokens_scheduled(node.base.clip.tokenize(""))[0][0].shape[-1]
    )
    embedding = host.core("hifi_tuner").TunedEmbedding(
        vectors=vectors,
        step_vectors=None,
        step_timesteps=(),
        label="dog",
        provenance={},
    )
    sampler, latent, positive, _ = node.execute(embedding=embedding, replacement="dog")
    assert torch.equal(positive[0][0][0, -5:], vectors)
    guided = sampler.extra_options["replacement"]
    mapper, _ = host.replaced_words.map_columns(guided.source, guided.target, guided.num_free_last)
    assert mapper[:, -5:].sum() == 0
    assert node.sample(sampler, latent, positive).isfinite().all()


def test_with_an_adapters_subject(host: Host, tmp_path: Path) -> None:
    """The subject's words behind the prompt are free; the reconstruction knows nothing of it."""
    encoder, run = Encoder(host, tmp_path), NodeRun(host)
    run.base = encoder.base
    model, _ = host.apply_node.apply_adapter(encoder.base.model, encoder.base.clip, encoder.loaded)
    sampler, latent, plain_positive, prompt = run.execute(replacement="dog", blend=0.0)
    positive, _, _ = encoder.encode(make_subject(host, box="0.1,0.1,0.9,0.9"), prompt=prompt)
    plain = run.sample(sampler, latent, plain_positive, model)
    assert relative_error(run.sample(sampler, latent, positive, model), plain) > 1e-3
    # the same words, so that nothing but the subject is new
    sampler, latent, _, prompt = run.execute(replacement="cat", blend=0.0)
    positive, _, _ = encoder.encode(make_subject(host, box="0.1,0.1,0.9,0.9"), prompt=prompt)
    target = sampler.extra_options["replacement"].target
    entries = [{"model_conds": values["model_conds"]} for _, values in positive]
    suffixed = host.replaced_words.columns_in_run(target, entries)
    assert suffixed.end > target.end
    _, (old, new) = host.replaced_words.map_columns(target, suffixed, 0)
    assert new.tolist() == list(range(target.end, suffixed.end)) and len(old) > 0
    assert run.sample(sampler, latent, positive, model).isfinite().all()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"word": "dog"}, r"word: expected one that stands in the caption, got dog"),
        ({"word": " "}, r"word: expected a word of the picture, got nothing"),
        ({"replacement": ""}, r"replacement: expected a word of the picture, got nothing"),
        ({"method": "magic"}, r"method: expected optimise or caption as negative, got 'magic'"),
        ({"blend": float("nan")}, r"blend: expected a finite number"),
        ({"keep_until": 2.0}, r"keep_until: expected a number from 0"),
        ({"vae": None}, r"vae: expected .*got nothing"),
        ({"image": torch.rand(2, 64, 64, 3)}, r"image: expected one picture, got 2"),
        ({"mask": torch.ones(2, 64, 64)}, r"mask: expected one mask .*, got 2"),
        ({"num_updates": -1}, r"num_updates: expected a whole number from 0"),
    ],
)
def test_bad_inputs(node: NodeRun, changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        node.execute(**changes)


def test_masks_that_are_hardly_meant_are_said(
    node: NodeRun, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        node.execute(mask=torch.ones(1, 32, 32))
    assert caplog.text == ""
    with caplog.at_level(logging.WARNING):
        node.execute(mask=torch.zeros(1, 64, 32))
    assert "mask: it is 32x64 and will be stretched to the picture's 64x64" in caplog.text
    assert "mask: it is empty, or nothing in it fills half a cell" in caplog.text


def test_one_textual_inversion_for_another(node: NodeRun, tmp_path: Path) -> None:
    """Their vectors are words: other ones are new, equal ones are kept."""
    width = node.base.clip.encode_from_tokens_scheduled(node.base.clip.tokenize(""))[0][0].shape[-1]
    for name in ("one", "two"):
        save_file({"emb_params": torch.randn(2, width)}, tmp_path / f"{name}.safetensors")
    clip = node.base.clip.clone()
    clip.tokenizer = copy.deepcopy(clip.tokenizer)
    for tokenizer in vars(clip.tokenizer).values():
        if hasattr(tokenizer, "embedding_directory"):
            tokenizer.embedding_directory = [str(tmp_path)]

    def words(**changes: Any) -> list[list[int]]:
        caption = "a photo of a embedding:one on a sofa"
        replacement = node.execute(clip=clip, caption=caption, **changes)[0].extra_options
        source, target = (getattr(replacement["replacement"], n) for n in ("source", "target"))
        return [w.tolist() for w in node.host.replaced_words.map_columns(source, target, 0)[1]]

    assert words(word="embedding:one", replacement="embedding:two") == [[5, 6], [5, 6]]
    assert words(word="sofa", replacement="chair") == [[9], [9]]


def test_another_prompt_than_the_samplers(setup: Setup) -> None:
    longer = [[setup.bench.text(3, length=154)[0][0], dict(setup.caption[0][1])]]
    with pytest.raises(ValueError, match=r"positive: expected the sampler's `prompt`, of 77 token"):
        setup.sample(setup.replacement(), longer)
