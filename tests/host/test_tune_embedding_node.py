"""The nodes that tune, save and load an embedding, with random weights of the small model."""

from __future__ import annotations

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
from sdxl_models import make_sdxl_base
from test_self_subject_attention_node import flux_model
from tuning_models import Snapshot


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


@pytest.fixture(autouse=True)
def no_files_of_other_tests() -> None:
    for path in files():
        path.unlink()


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


def test_a_model_that_checks_sizes_says_nothing_of_small_pictures(
    node: NodeRun, caplog: pytest.LogCaptureFixture
) -> None:
    """Little of a small picture is recognised where one is drawn; here none is."""
    checked = node.base.model.clone()
    node.host.picture_size.attach_size_check(checked)
    with caplog.at_level(logging.WARNING):
        embedding = node.execute(model=checked, steps=1, steps_per_set=0)
    assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []
    assert embedding.provenance["latent_sizes"][0][0] < 8
    kind = comfy.patcher_extension.WrappersMP.OUTER_SAMPLE
    assert checked.get_wrappers(kind, node.host.picture_size.KEY)


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


def stop_after_two_steps(node: NodeRun, *model: Any) -> None:
    def fail(value: int, *_args: Any, **_kwargs: Any) -> None:
        if value >= 2:
            raise RuntimeError("stopped")

    try:
        comfy.utils.set_progress_bar_global_hook(fail)
        with pytest.raises(RuntimeError, match="stopped"):
            node.execute(*model)
    finally:
        comfy.utils.set_progress_bar_global_hook(None)


def test_without_resume_it_begins_again(node: NodeRun) -> None:
    wanted = node.execute()
    model = node.base.model.clone()
    stop_after_two_steps(node, model)
    assert len(files()) == 1
    again = node.execute(resume=False)
    assert torch.equal(again.vectors, wanted.vectors) and files() == []


def test_a_damaged_file_of_a_stopped_run(node: NodeRun, caplog: pytest.LogCaptureFixture) -> None:
    """The run begins again, and says so; else it would be refused each time."""
    wanted = node.execute()
    stop_after_two_steps(node)
    (left,) = files()
    left.write_bytes(left.read_bytes()[:-50])
    with caplog.at_level(logging.WARNING):
        again = node.execute()
    assert "The file of the stopped run is damaged, so the run begins again" in caplog.text
    assert torch.equal(again.vectors, wanted.vectors) and files() == []


def test_no_steps_at_all_are_said(node: NodeRun, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        node.execute(steps=0, steps_per_set=0)
    assert "steps, steps_per_set: both are 0, so nothing is learned" in caplog.text


def test_another_models_parts(node: NodeRun) -> None:
    """One sentence before anything is computed."""
    with pytest.raises(ValueError, match=r"model: expected a UNet .* got Flux"):
        node.execute(flux_model())
    with pytest.raises(
        ValueError, match="clip: expected the model's text encoder, of width 48, go"
    ):
        node.execute(clip=make_sdxl_base(node.host).clip)


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


def test_what_other_nodes_set_on_the_model_makes_another_run(
    node: NodeRun, comfy_nodes: Any
) -> None:
    """A stopped run does not go on with another kind of prediction, or beside another patch."""
    host, base = node.host, node.base.model
    tuning = host.tuning_task
    subjects, label = tuning.one_subject(node.subjects())
    text, settings = "a photo of a dog", host.core("hifi_tuner").TuningSettings()

    def name(model: Any) -> str:
        task = tuning.make_task(
            model, node.base.clip, node.vae, subjects, text, settings,
            num_step_sets=3, use_mask=True, picture_size=64,
        )  # fmt: skip
        return tuning.run_name(model, task, tuning.provenance_of(model, task, text, label))

    sampling = comfy_nodes.NODE_CLASS_MAPPINGS["ModelSamplingDiscrete"]()
    kinds = ("eps", "v_prediction", "lcm")
    models = [base, *(sampling.patch(base, kind, False)[0] for kind in kinds)]
    patched = base.clone()
    patched.set_model_attn2_patch(lambda q, k, v, options: (q, k, v))
    assert len({name(model) for model in [*models, patched]}) == 5
    assert name(base) == name(base.clone()) == name(node.host.make_base().model)
    again = sampling.patch(base, "lcm", False)[0]
    assert name(again) == name(models[-1])


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
    "no vae": ({"vae": None}, "vae: expected VAE, got nothing"),
    "no learning": (
        {"learning_rate": 0.0},
        "learning_rate: expected a number from 1e-05",
    ),
    "endless": ({"learning_rate": float("nan")}, "learning_rate: expected a "),
    "negative steps": ({"steps": -1}, "steps: expected a whole number from 0 to 100000, got -1"),
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
