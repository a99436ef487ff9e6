"""``python -m benchmarks.ablation`` from end to end: real classes at a fraction of their width."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bench_work import write_work
from tiny_parts import write_tables, write_weights

from benchmarks.ablation.__main__ import main
from benchmarks.ablation.run import Ablation
from benchmarks.ablation.variants import VARIANTS
from subject_diffusion_core import checkpoint
from subject_diffusion_core.tiny import tiny_base
from training.bases.loading import read_tiny_base
from training.bases.vision import vision_shape
from training.evaluation.box_iou import SubjectSegmenter, segmenter_path
from training.evaluation.metric_encoder import NUMBER
from training.evaluation.text_match import head_samples_path
from training.loop.run import Run
from training.methods.subject_diffusion.assembly import build_model, is_adapter_tensor
from training.networks.efficientnet import FEATURE_DIM, is_installed
from training.runs import save_state
from training.toy.files import ADAPTER_NAME, BASE_NAME
from training.toy.stages import TRAIN_SHARDS

pytestmark = pytest.mark.skipif(not is_installed(NUMBER), reason="no metric encoder")

COUNT = 4


def write_judges(work: Path) -> None:
    """An untrained segmenter and heads of noise, where trained ones are kept."""
    torch.manual_seed(0)
    save_state(segmenter_path(work), SubjectSegmenter().state_dict())
    rng = np.random.default_rng(3)
    np.savez(
        head_samples_path(work),
        scene_features=rng.standard_normal((8, FEATURE_DIM)).astype(np.float32),
        scenes=np.array(["park", "forest"] * 4),
        group_features=rng.standard_normal((8, FEATURE_DIM)).astype(np.float32),
        groups=np.array(["animal", "kitchen"] * 4),
    )


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_work(tmp_path_factory.mktemp("work"))
    write_tables(folder)
    write_judges(folder)
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_weights(tmp_path_factory.mktemp("weights"))


def ablate(work: Path, weights: Path, out: Path, *words: str) -> dict:
    paths = ["--work", str(work), "--weights", str(weights), "--out", str(out)]
    small = ["--start", "weights", "--steps", "2", "--count", str(COUNT), "--sampling-steps", "2"]
    main([*paths, *small, *words])  # of an option given twice, the last one counts
    return json.loads((out / "ablation.json").read_text())


@pytest.fixture(scope="module")
def finished(work: Path, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three variants, of which one is asked for later."""
    out = tmp_path_factory.mktemp("ablation")
    first = ablate(work, weights, out, "--variants", "no_adapter")
    assert list(first["scores"]) == ["full", "no_adapter"]
    (out / "ablation.md").unlink()
    shard = work / TRAIN_SHARDS / "00000.tar"
    shard.rename(work / "aside.tar")
    with pytest.raises(SystemExit, match=r"error: .*expected a folder of \.tar shards"):
        ablate(work, weights, out, "--variants", "no_adapter", "no_location_control")
    assert "without adapter layer" in (out / "ablation.md").read_text()  # before the third began
    (work / "aside.tar").rename(shard)
    ablate(work, weights, out, "--variants", "no_adapter", "no_location_control")
    return out


def test_every_variant_is_trained_and_compared_with_the_full_model(finished: Path) -> None:
    result = json.loads((finished / "ablation.json").read_text())
    assert list(result["scores"]) == ["full", "no_location_control", "no_adapter"]
    rows = result["scores"]["full"]
    assert list(rows) == ["one_subject", "two_subjects"]
    assert {"top1", "cosine", "box_iou", "group", "scene"} <= rows["one_subject"].keys()
    assert {d["variant"] for d in result["differences"]} == {"no_location_control", "no_adapter"}
    by_key = {(d["variant"], d["row"], d["score"]): d for d in result["differences"]}
    cosine = by_key["no_adapter", "two_subjects", "cosine"]
    scores = {name: json.loads((finished / name / "bench" / "scores.json").read_text())
              for name in ("full", "no_adapter")}  # fmt: skip
    own, full = (
        np.mean(scores[name]["two_subjects"]["values"]["cosine"]) for name in ("no_adapter", "full")
    )
    assert cosine["interval"]["value"] == pytest.approx(own - full)
    assert cosine["paper"] == pytest.approx(0.411 - 0.506)


def test_the_files_say_what_was_switched_off(finished: Path) -> None:
    full, maskless, ungated = (
        checkpoint.load(finished / name / "weights" / ADAPTER_NAME)
        for name in ("full", "no_location_control", "no_adapter")
    )
    assert full.config.location_control and not maskless.config.location_control
    assert all(ungated.unet[n] == 0 for n in ungated.unet if ".alpha_" in n)
    assert all(full.unet[n] != 0 for n in full.unet if ".alpha_" in n)
    assert ungated.config.provenance["variant"] == "no_adapter"
    assert ungated.config.provenance["adapter"]["adapter"] is False
    assert full.config.provenance["adapter"]["steps"] == 2


def test_the_report_can_be_read(finished: Path) -> None:
    text = (finished / "ablation.md").read_text()
    assert "2 steps of 32 pictures from the trained adapter" in text
    assert "| without adapter layer | 4 |" in text and "-0.177 ↓" in text
    for heading in ("One subject", "Two subjects", "Beside the paper", "Does each part move"):
        assert f"## {heading}" in text
    assert (finished / "no_adapter" / "bench" / "one_subject.png").exists()


def test_nothing_finished_is_done_again(work: Path, weights: Path, finished: Path) -> None:
    def times() -> dict[Path, int]:
        kept = [*finished.rglob("*.safetensors"), *finished.rglob("*.npy")]
        kept += finished.rglob("scores.json")
        return {path: path.stat().st_mtime_ns for path in kept}

    before = times()
    assert len(before) == 3 * (3 + 2 + 1)
    first = json.loads((finished / "ablation.json").read_text())
    shard = work / TRAIN_SHARDS / "00000.tar"
    shard.rename(work / "aside.tar")  # a finished training opens no shards
    again = ablate(work, weights, finished, "--variants", "no_adapter", "no_location_control")
    (work / "aside.tar").rename(shard)
    assert times() == before and again == first


@pytest.mark.parametrize("start", ["fresh", "weights"])
def test_what_a_variant_starts_from(work: Path, weights: Path, start: str, tmp_path: Path) -> None:
    training = Ablation(work=work, weights=weights, start=start, steps=2)
    (variant,) = (v for v in VARIANTS if v.name == "no_image_cls")
    recipe = variant.recipe_of(training.stage)
    tiny, init = read_tiny_base(weights / BASE_NAME), training.first_adapter(recipe, tmp_path)
    state = build_model(tiny, recipe, vision_shape(recipe, tiny), init).state_dict()
    adapter, base = checkpoint.load(weights / ADAPTER_NAME), tiny_base.load(weights / BASE_NAME)
    for name, value in base.unet.items():
        if name != "conv_in.weight" and not is_adapter_tensor(name):
            assert torch.equal(state[f"unet.{name}"], value), name
    query = next(name for name in adapter.unet if name.endswith("fuser.attn.to_q.weight"))
    same = torch.equal(state[f"unet.{query}"], adapter.unet[query].float())
    assert same == (start == "weights")
    kernel = state["unet.conv_in.weight"][:, -1]
    assert bool((kernel == 0).all()) == (start == "fresh")


def test_a_killed_training_goes_on_to_the_same_weights(
    work: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = Ablation(work=work, weights=weights, start="weights", steps=4)
    small = replace(training.stage, global_batch_size=2, micro_batch_size=2, checkpoint_every=2)
    training.__dict__["stage"] = small
    (variant,) = (v for v in VARIANTS if v.name == "no_map_loss")
    whole = training.train(variant, tmp_path / "whole")
    train_step = Run.train_step
    asked: list[int] = []

    def stopped(run: Run, *arguments: Any) -> Any:
        asked.append(run.step)
        return train_step(run, *arguments) if run.step < 3 else 1 / 0

    monkeypatch.setattr(Run, "train_step", stopped)
    with pytest.raises(ZeroDivisionError):
        training.train(variant, tmp_path / "cut")
    monkeypatch.undo()
    cut = training.train(variant, tmp_path / "cut")
    assert asked == [0, 1, 2, 3]
    first, second = (checkpoint.load(folder / ADAPTER_NAME) for folder in (whole, cut))
    assert all(torch.equal(first.unet[name], second.unet[name]) for name in first.unet)
    assert not list((tmp_path / "cut").rglob("checkpoints"))


def test_other_settings_need_another_folder(work: Path, weights: Path, finished: Path) -> None:
    for words in (("--steps", "3"), ("--start", "fresh"), ("--learning-rate", "0.5")):
        with pytest.raises(SystemExit, match="--out: expected a folder of the same weights"):
            ablate(work, weights, finished, *words)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--steps", "0"), "expected a whole number of 1 or more, got 0"),
        (("--learning-rate", "nan"), "expected a number above 0, got nan"),
        (("--variants", "no_mask"), "invalid choice: 'no_mask'"),
    ],
)
def test_wrong_options_name_what_was_expected(
    words: tuple[str, ...], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["--out", str(tmp_path / "out"), *words])
    assert sentence in capsys.readouterr().err


def test_missing_files_are_one_sentence(work: Path, weights: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="error: --weights: expected a folder with tiny_base"):
        ablate(work, tmp_path, tmp_path / "out")
    with pytest.raises(SystemExit, match="error: --work: expected the data and tables"):
        ablate(tmp_path, weights, tmp_path / "out")
    assert not (tmp_path / "out").exists()
