"""Tuning an embedding on models of ComfyUI's classes, in its inference mode."""

from __future__ import annotations

import copy
import logging
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.patcher_extension
import comfy.utils
import folder_paths
import pytest
import torch
from host_models import Host
from safetensors.torch import load_file
from tuning_models import FAMILIES, Snapshot, TuningBench, tuning_bench

WRAPPERS = comfy.patcher_extension.WrappersMP


@pytest.fixture(scope="module")
def bench(host: Host) -> TuningBench:
    with torch.inference_mode():
        return tuning_bench(host)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_tuned_and_left_as_it_was(host: Host, family: str) -> None:
    """Weights made in inference mode, as ComfyUI's loaders leave them."""
    bench = tuning_bench(host, family)
    weights = list(bench.model.model.parameters())
    if family != "sdxl":
        assert any(w.is_inference() and w.requires_grad for w in weights)
    before = Snapshot(bench.model)
    state = bench.run(bench.task(sizes=((16, 16), (12, 20))))
    before.assert_unchanged()
    assert torch.is_inference_mode_enabled()
    assert len(state.sets) == 4 and state.update == 7
    assert state.whole.shape == (5, bench.base.context_dim) and state.whole.dtype == torch.float32
    assert [number for number, _ in bench.updates] == list(range(1, 8))
    null = bench.base.text(4)[0][0][0, -5:]
    assert 0.0 < float((state.whole - null).abs().max()) <= 0.031  # 3 steps of Adam, 0.01 each


def test_the_gradient_is_the_slope_of_the_loss(bench: TuningBench) -> None:
    """By differences of the loss itself, along the gradient."""
    task = bench.task(steps=1, num_sets=1, steps_per_set=0, regularization=0.0)
    start = bench.run(task)
    gradient = start.mean / 0.1  # Adam's first moment after one step is a tenth of it
    first = bench.host.core("hifi_tuner").first_state
    losses = []
    for sign in (1, -1):
        state = first(bench.base.text(4)[0][0][0, -5:].clone())
        state.vectors += sign * 0.05 * gradient / gradient.norm()
        bench.run(task, state=state)
        losses.append(bench.updates[0][1])
    slope = (losses[0] - losses[1]) / 0.1
    assert slope == pytest.approx(float(gradient.norm()), rel=0.02)


def test_the_loss_falls(bench: TuningBench) -> None:
    """At one noise level, where losses compare."""
    task = bench.task(steps=0, steps_per_set=60, num_sets=1, regularization=0.0, learning_rate=0.05)
    bench.run(task)
    losses = [loss for _, loss in bench.updates]
    assert sum(losses[-20:]) < 0.98 * sum(losses[:20])


@pytest.mark.parametrize(
    ("dtype", "cast"),
    [
        (torch.float16, None),
        (torch.bfloat16, None),
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.bfloat16),
    ],
)
def test_lower_precision_points_the_same_way(
    host: Host, dtype: torch.dtype, cast: torch.dtype | None
) -> None:
    """As stored and computed, and cast for computing."""
    exact = tuning_bench(host, "sd15")
    task = exact.task(steps=1, num_sets=1, steps_per_set=0, regularization=0.0)
    wanted = exact.run(task).mean
    low = tuning_bench(host, "sd15", dtype=dtype, manual_cast_dtype=cast)
    computed, before = [], Snapshot(low.model)
    model = low.model.clone()

    def note(args: Any) -> Any:
        computed.append(args["h"].dtype)
        return args["h"], args["hsp"]

    model.set_model_output_block_patch(lambda h, hsp, options: note({"h": h, "hsp": hsp}))
    got = low.run(task, model).mean
    before.assert_unchanged()
    assert set(computed) == {cast or dtype}
    assert float(torch.cosine_similarity(got.flatten(), wanted.flatten(), dim=0)) > 0.99
    assert float(got.norm() / wanted.norm()) == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("stop", [2, 3, 5])
def test_cancel_and_go_on(bench: TuningBench, stop: int) -> None:
    """Cancelled after an update: the model as it was, and the rest is what it would have been."""
    task = bench.task()
    whole, losses = bench.run(task), list(bench.updates)
    before, kept = Snapshot(bench.model), []

    def cancel(tuner: Any, update: Any) -> None:
        kept[:] = [tuner.state]
        if update.number == stop:
            comfy.model_management.interrupt_current_processing()

    with pytest.raises(comfy.model_management.InterruptProcessingException):
        bench.run(task, on_update=cancel)
    before.assert_unchanged()
    done = list(bench.updates)
    rest = bench.run(task, state=copy.deepcopy(kept[0]))
    assert done + bench.updates == losses
    assert torch.equal(rest.whole, whole.whole)
    assert torch.equal(torch.stack(rest.sets), torch.stack(whole.sets))


def test_an_error_leaves_the_model_as_it_was(bench: TuningBench) -> None:
    """Out of memory in the middle of the model."""
    model, before = bench.model.clone(), Snapshot(bench.model)

    def full(executor: Any, *args: Any, **kwargs: Any) -> Any:
        executor(*args, **kwargs)
        raise torch.OutOfMemoryError("of memory")

    model.add_wrapper_with_key(WRAPPERS.APPLY_MODEL, "full", full)
    with pytest.raises(torch.OutOfMemoryError):
        bench.run(bench.task(), model)
    before.assert_unchanged()
    assert torch.is_inference_mode_enabled()


def test_where_memory_is_short_it_goes_on(bench: TuningBench) -> None:
    """From the update that did not fit, with activations kept outside; to the same numbers."""
    task, model, calls = bench.task(), bench.model.clone(), []
    wanted, losses = bench.run(task), list(bench.updates)

    def full_once(executor: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(None)
        if len(calls) == 3:
            raise torch.OutOfMemoryError("of memory")
        return executor(*args, **kwargs)

    model.add_wrapper_with_key(WRAPPERS.APPLY_MODEL, "full", full_once)
    state = bench.run(task, model)
    assert bench.updates == losses
    assert torch.equal(torch.stack(state.sets), torch.stack(wanted.sets))


@pytest.mark.parametrize("method", ["adapter", "self-subject-attention"])
def test_beside_other_methods_of_the_pack(
    host: Host, bench: TuningBench, tmp_path: Path, method: str
) -> None:
    """On the same MODEL: gradients pass them, too."""
    model = bench.base.attached()
    if method == "adapter":
        base = host.make_base()
        loaded = host.make_adapter(base, tmp_path)
        model, _ = host.apply_node.apply_adapter(base.model, base.clip, loaded)
    task = bench.task(steps=1, num_sets=1)
    bench.run(task, model)  # ComfyUI puts the adapter's weights on it
    before = Snapshot(model)
    assert bench.run(task, model).whole.isfinite().all()
    before.assert_unchanged()


def test_the_global_noise_is_untouched(bench: TuningBench) -> None:
    torch.manual_seed(3)
    wanted = torch.randn(4)
    torch.manual_seed(3)
    bench.run(bench.task())
    assert torch.equal(torch.randn(4), wanted)


def test_sdxl_is_told_each_pictures_size(host: Host) -> None:
    bench = tuning_bench(host, "sdxl")
    model, seen = bench.model.clone(), []

    def note(executor: Any, x: Any, t: Any, *args: Any, **kwargs: Any) -> Any:
        seen.append((tuple(x.shape[-2:]), kwargs["y"].detach().clone()))
        return executor(x, t, *args, **kwargs)

    model.add_wrapper_with_key(WRAPPERS.APPLY_MODEL, "note", note)
    bench.run(bench.task(sizes=((16, 16), (12, 20)), steps=8, steps_per_set=0), model)
    sizes = {size: y for size, y in seen}
    assert set(sizes) == {(16, 16), (12, 20)}
    assert not torch.equal(sizes[16, 16], sizes[12, 20])


class NodeRun:
    """The node with the tiny model's random weights."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.base = host.make_base()
        self.vae = host.tiny_model.build_vae(host.tiny)
        self.values = {
            "steps": 4,
            "steps_per_set": 1,
            "num_sets": 3,
            "learning_rate": 0.01,
            "regularization": 0.01,
            "num_vectors": 5,
            "batch_size": 2,
            "seed": 3,
            "caption": "a photo of a <label>",
            "use_mask": True,
            "picture_size": 64,
            "resume": True,
        }

    def subjects(self, label: str = "dog", previous: Any = (), **changes: Any) -> Any:
        generator = torch.Generator().manual_seed(len(previous))
        mask = torch.zeros(1, 80, 96)
        mask[:, 20:60, 30:70] = 1.0
        values = {"mask": mask, "strength": 1.0, **changes}
        image = torch.rand(1, 80, 96, 3, generator=generator)
        return self.host.subject_node.SubjectDiffusionSubject.execute(
            image, label, "", values.pop("strength"), previous=previous, **values
        ).args[0]

    def execute(self, model: Any = None, subjects: Any = None, **changes: Any) -> Any:
        values = {**self.values, **changes}
        clip, vae = values.pop("clip", self.base.clip), values.pop("vae", self.vae)
        if subjects is None:
            subjects = self.subjects(previous=self.subjects())
        node = self.host.tune_embedding_node.SubjectDiffusionTuneEmbedding
        return node.execute(model or self.base.model, clip, vae, subjects, **values).args[0]


@pytest.fixture(scope="module")
def node(host: Host) -> NodeRun:
    with torch.inference_mode():
        return NodeRun(host)


def files() -> list[Path]:
    return sorted((Path(folder_paths.get_output_directory()) / "subject_diffusion_tuned").glob("*"))


def test_node(node: NodeRun, caplog: pytest.LogCaptureFixture) -> None:
    """Provenance and sets; what is left of the run is the embedding alone."""
    with caplog.at_level(logging.WARNING):
        embedding = node.execute()
    assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []
    assert embedding.vectors.shape == (5, 48) and embedding.step_vectors.shape == (3, 5, 48)
    assert embedding.step_timesteps == (667.0, 334.0, 1.0)
    assert embedding.label == "dog"
    provenance = embedding.provenance
    assert provenance["caption"] == "a photo of a dog" and provenance["updates"] == 7
    assert len(provenance["latent_sizes"]) == 2 and all(
        0 < s < 1 for s in provenance["mask_shares"]
    )
    assert files() == []


def test_node_is_cancelled_and_goes_on(node: NodeRun) -> None:
    """The same inputs find the run again; what it had is a usable file meanwhile."""
    wanted = node.execute()

    def cancel(value: int, *_args: Any, **_kwargs: Any) -> None:
        if value >= 5:
            comfy.model_management.interrupt_current_processing()

    before = Snapshot(node.base.model)
    try:
        comfy.utils.set_progress_bar_global_hook(cancel)
        with pytest.raises(comfy.model_management.InterruptProcessingException):
            node.execute()
    finally:
        comfy.utils.set_progress_bar_global_hook(None)
        comfy.model_management.interrupt_current_processing(False)
    before.assert_unchanged()
    (left,) = files()
    assert left.name.startswith("unfinished_")
    loaded = node.host.load_embedding_node.SubjectDiffusionLoadEmbedding.execute(left.name).args[0]
    assert torch.equal(loaded.vectors, wanted.vectors) and loaded.step_vectors is None
    assert loaded.provenance["updates"] == 5

    seen: list[int] = []
    try:
        comfy.utils.set_progress_bar_global_hook(lambda value, *_a, **_k: seen.append(value))
        assert node.execute(seed=4, resume=True).provenance["seed"] == 4
        assert seen[0] == 1  # another run
        seen.clear()
        resumed = node.execute()
    finally:
        comfy.utils.set_progress_bar_global_hook(None)
    assert seen[0] == 6 and seen[-1] == 7
    assert torch.equal(resumed.vectors, wanted.vectors)
    assert torch.equal(resumed.step_vectors, wanted.step_vectors)
    assert files() == []


def test_without_resume_it_begins_again(node: NodeRun) -> None:
    wanted = node.execute()
    model = node.base.model.clone()

    def fail(value: int, *_args: Any, **_kwargs: Any) -> None:
        if value >= 2:
            raise RuntimeError("stopped")

    try:
        comfy.utils.set_progress_bar_global_hook(fail)
        with pytest.raises(RuntimeError, match="stopped"):
            node.execute(model)
    finally:
        comfy.utils.set_progress_bar_global_hook(None)
    assert len(files()) == 1
    again = node.execute(resume=False)
    assert torch.equal(again.vectors, wanted.vectors) and files() == []


def test_a_lora_makes_another_run(node: NodeRun) -> None:
    """The model's own name stays, the run's does not; the weights on it do not matter."""
    host, base = node.host.provenance, node.base.model
    plain = host.hash_model(base)
    patched = base.clone()
    weights = base.model_state_dict()
    name = next(name for name in weights if name.endswith("attn2.to_q.weight"))
    weight = weights[name]
    patched.add_patches({name: ("diff", (torch.ones_like(weight),))}, 0.5)
    tuned = node.execute(patched)
    assert tuned.provenance["base_hash"] == host.hash_model(patched) != plain
    assert not torch.equal(tuned.vectors, node.execute().vectors)
    assert host.hash_model(base) == plain


def test_the_mask_matters_and_can_be_left_out(node: NodeRun) -> None:
    masked, whole = node.execute(), node.execute(use_mask=False)
    assert whole.provenance["mask_shares"] == [1.0, 1.0]
    assert not torch.equal(masked.vectors, whole.vectors)


def test_saved_and_loaded(node: NodeRun, tmp_path: Path) -> None:
    embedding = node.execute()
    save = node.host.save_embedding_node.SubjectDiffusionSaveEmbedding
    load = node.host.load_embedding_node.SubjectDiffusionLoadEmbedding
    save.execute(embedding, "subject_diffusion_tuned/dog")
    (path,) = files()
    try:
        assert path.name in [entry for entry in node.host.tuned_files.list_files()]
        again = load.execute(path.name).args[0]
        assert torch.equal(again.vectors, embedding.vectors)
        assert torch.equal(again.step_vectors, embedding.step_vectors)
        assert again.step_timesteps == embedding.step_timesteps
        assert dict(again.provenance) == dict(embedding.provenance)
        assert path.stat().st_size < 20_000 and set(load_file(path)) == {"vectors", "step_vectors"}
    finally:
        path.unlink()
    with pytest.raises(ValueError, match=r"file_name: expected a file in .*put the file there"):
        load.execute("none.safetensors")


BAD = {
    "no subject": ({"subjects": ()}, "subjects: expected one or more with a strength above 0"),
    "empty caption": ({"caption": " "}, "caption: expected what the pictures show, got an empty"),
    "long caption": (
        {"caption": "very " * 72 + "<label>"},
        "caption: expected a text that leaves its last 5 places to the tuned embedding, got 3 "
        "tokens too many",
    ),
    "no vae": ({"vae": None}, "vae: expected the VAE of the model, got nothing"),
    "no learning": ({"learning_rate": 0.0}, "learning_rate, regularization: expected numbers"),
    "endless": ({"learning_rate": float("nan")}, "learning_rate: expected a finite number"),
    "negative steps": ({"steps": -1}, "steps: expected 0 or more, got -1"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_input(node: NodeRun, kind: str) -> None:
    changes, sentence = BAD[kind]
    with pytest.raises(ValueError, match=sentence):
        node.execute(**changes)


def test_bad_subjects(node: NodeRun) -> None:
    two = node.subjects("cat", previous=node.subjects("dog"))
    with pytest.raises(ValueError, match="expected pictures of one subject, got the labels cat, d"):
        node.execute(subjects=two)
    thin = torch.zeros(1, 80, 96)
    thin[0] = torch.eye(96)[:80]
    with pytest.raises(ValueError, match="Subject 1's mask: expected a subject of more than half"):
        node.execute(subjects=node.subjects(mask=thin), picture_size=0)
    off = node.subjects(strength=0.0)
    with pytest.raises(ValueError, match="subjects: expected one or more with a strength above 0"):
        node.execute(subjects=off)
    with pytest.raises(ValueError, match="vae: expected one that gives latents of 4 channels"):
        node.execute(host_model(node))


def host_model(node: NodeRun) -> Any:
    """A model whose latents have other channels."""
    return node.host.make_base("sd15").model
