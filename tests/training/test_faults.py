"""What went wrong for people who trained: each kind, and what happens now."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from own_pictures import write_pictures
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load, load_file, save
from training_runs import last_checkpoint, train_arguments

from training.__main__ import main
from training.dataset.catalogue import open_catalogue
from training.loop.checkpoints import _is_disk_error
from training.loop.run import Run

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def fresh_accelerate() -> Iterator[None]:
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("pictures"), count=8)


def precompute(listed: Path, out: Path, *words: str) -> None:
    own = ["--jsonl", str(listed), "--out", str(out), "--recipe", "debug_cpu"]
    main(["precompute", *own, "--variants", "1", "--held-out", "0", *words])


@pytest.fixture(scope="module")
def shards(listed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    precompute(listed, folder)
    return folder / "train"


def samples_in(folder: Path, index: Path) -> int:
    return sum(open_catalogue(folder, index).counts)


# what was made before and what is asked for now


def test_shards_are_made_again_where_the_list_or_settings_changed(
    listed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "own.jsonl"
    lines = listed.read_text().splitlines()
    shutil.copytree(listed.parent, tmp_path, dirs_exist_ok=True)
    own.write_text("\n".join(lines[:3]) + "\n")
    precompute(own, tmp_path / "s")
    precompute(own, tmp_path / "s")
    assert "there already, 3 samples" in capsys.readouterr().out
    own.write_text("\n".join(lines) + "\n")
    precompute(own, tmp_path / "s", "--samples-per-shard", "3")
    assert samples_in(tmp_path / "s" / "train", tmp_path / "i") == 8
    precompute(own, tmp_path / "s", "--variants", "2", "--held-out", "2")
    found = {
        side: {name for index in open_catalogue(tmp_path / "s" / side, tmp_path / side).indices
               for names in index.identities for name in names}
        for side in ("train", "held-out")
    }  # fmt: skip
    assert len(found["held-out"] - found["train"]) == 2
    assert len(list((tmp_path / "s" / "train").glob("*.tar"))) == 1  # the others are gone


@pytest.mark.parametrize(
    "words", [("--held-out", "-3"), ("--samples-per-shard", "-1"), ("--samples-per-shard", "0")]
)
def test_numbers_that_cannot_be_are_refused(
    listed: Path, tmp_path: Path, words: tuple[str, str]
) -> None:
    with pytest.raises(SystemExit, match=rf"error: {words[0]}: expected [01] or more, got"):
        precompute(listed, tmp_path / "s", *words)


def test_a_run_does_not_go_on_without_what_it_began_with(shards: Path, tmp_path: Path) -> None:
    """The adapter it started from, and another file in its place."""
    run, init = tmp_path / "run", tmp_path / "init.safetensors"
    main(train_arguments(shards, tmp_path / "first", "steps=1"))
    main(["export", "--run", str(tmp_path / "first"), "--out", str(init)])
    words = train_arguments(shards, run, "steps=1")
    main([*words, "--init", str(init)])
    with pytest.raises(SystemExit, match=r"--init: expected what the run began with, .* got none"):
        main(words)
    assert json.loads((run / "config.json").read_text())["places"]["init"] == str(init)
    main(["export", "--run", str(run), "--out", str(tmp_path / "again.safetensors")])
    main(["export", "--run", str(run), "--out", str(init), "--no-ema"])
    with pytest.raises(SystemExit, match="got a file that holds something else"):
        main([*words, "--init", str(init)])
    with pytest.raises(SystemExit, match="--init: expected none, as the run was begun without"):
        main([*train_arguments(shards, tmp_path / "first", "steps=1"), "--init", str(init)])


def test_features_of_other_networks_are_refused(shards: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    rewrite(shards / "00000.tar", other / "00000.tar", with_other_mark)
    with pytest.raises(SystemExit, match="--data: expected latents of this base's autoencoder"):
        main(train_arguments(other, tmp_path / "run", "steps=1"))


def with_other_mark(members: dict[str, bytes]) -> dict[str, bytes]:
    changed = dict(members)
    for name in members:
        if name.endswith(".json"):
            metadata = json.loads(members[name])
            metadata["features"]["latents"] = "0" * 16
            changed[name] = json.dumps(metadata).encode()
    return changed


def rewrite(source: Path, target: Path, change: object) -> None:
    """A shard with other members."""
    with tarfile.open(source) as archive:
        members = {m.name: archive.extractfile(m).read() for m in archive}  # type: ignore[union-attr]
    with tarfile.open(target, "w") as archive:
        for name, content in change(members).items():  # type: ignore[operator]
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def test_a_start_that_fails_binds_nothing(shards: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(SystemExit, match="seed: expected 0 or more, got -1"):
        main(train_arguments(shards, run, "steps=1", "seed=-1"))
    missing = tmp_path / "none.safetensors"
    missing.write_bytes(b"no adapter")
    with pytest.raises(SystemExit, match="error: "):
        main([*train_arguments(shards, run, "steps=1", "seed=3"), "--init", str(missing)])
    assert not (run / "config.json").exists()
    main(train_arguments(shards, run, "steps=1"))


# bad samples


def entity(**values: object) -> object:
    def change(key: str, members: dict[str, bytes]) -> dict[str, bytes]:
        metadata = json.loads(members[f"{key}.json"])
        metadata["entities"][0].update(values)
        return {f"{key}.json": json.dumps(metadata).encode()}

    return change


def features(edit: object) -> object:
    def change(key: str, members: dict[str, bytes]) -> dict[str, bytes]:
        name = f"{key}.features.safetensors"
        tensors = edit(load(members[name]))  # type: ignore[operator]
        return {name: save({n: t.contiguous() for n, t in tensors.items()})}

    return change


def bomb(key: str, _members: dict[str, bytes]) -> dict[str, bytes]:
    return {f"{key}.mask0.png": huge_png()}


def small_mask(key: str, members: dict[str, bytes]) -> dict[str, bytes]:
    metadata = json.loads(members[f"{key}.json"])
    metadata["entities"].append({**metadata["entities"][0], "mask": "mask9.png"})
    mask = {f"{key}.mask9.png": white_png(8)}
    return {f"{key}.json": json.dumps(metadata).encode(), **mask}


def huge_png() -> bytes:
    return white_png(20000)


def white_png(side: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("1", (side, side), 1).save(buffer, "PNG")
    return buffer.getvalue()


BAD = {
    "a mask of 400 megapixels": (bomb, "unreadable picture"),
    "masks of two sizes": (small_mask, "mask of another size"),
    "a box with a word": (entity(box=["a", 0, 1, 1]), "box is not four numbers"),
    "an identity that is a list": (entity(identity=["x"]), "identity of another kind"),
    "a cut-out that is a word": (entity(cutout="x"), "cutout of another kind"),
    "metadata nested deeply": (
        lambda key, _: {f"{key}.json": b"[" * 100_000 + b"]" * 100_000}, "metadata incomplete",
    ),
    "features without image_embeds": (
        features(lambda t: {n: v for n, v in t.items() if n != "image_embeds"}),
        "image embeddings missing",
    ),
    "latents with five channels": (
        features(lambda t: {**t, "latents": torch.cat([t["latents"], t["latents"][:1]])}),
        "latents of 5 channels",
    ),
    "no variants": (
        features(lambda t: {**t, "patch_embeds": t["patch_embeds"][:, :0],
                            "image_embeds": t["image_embeds"][:, :0]}),
        "image embeddings missing",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_sample_is_skipped_and_named(
    kind: str, shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change, reason = BAD[kind]
    keys: list[str] = []

    def edit(members: dict[str, bytes]) -> dict[str, bytes]:
        keys.append(min(members).split(".")[0])
        return {**members, **change(keys[0], members)}  # type: ignore[operator]

    folder = tmp_path / "bad"
    folder.mkdir()
    rewrite(shards / "00000.tar", folder / "00000.tar", edit)
    main(train_arguments(folder, tmp_path / "run", "steps=3", "same_view=1"))
    said = capsys.readouterr().out
    assert f"skipped 00000.tar/{keys[0]}: {reason}" in said and "finished: 3 steps" in said


def test_pictures_that_cannot_be_used_are_named(
    listed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(listed.parent, tmp_path, dirs_exist_ok=True)
    (tmp_path / "bomb.png").write_bytes(huge_png())
    line = json.loads(listed.read_text().splitlines()[0])
    own = tmp_path / "own.jsonl"
    bare = [{"label": "thing"}]
    rows = [{**line, "picture": "bomb.png"}, {**line, "subjects": bare}, line]
    own.write_text("\n".join(map(json.dumps, rows)))
    main(["precompute", "--jsonl", str(own), "--out", str(tmp_path / "s"), "--recipe", "debug_cpu"])
    said = capsys.readouterr().out
    assert "unreadable picture bomb.png" in said
    assert "neither mask nor transparency for 'thing'" in said
    assert "train: 1 of 3 pictures" in said
    assert "1 labels are not in their captions, the first in line 2 ('thing')" in said
    assert "no subjects are held out, so there will be no sample sheets" in said


# settings


@pytest.mark.parametrize("setting", [
    "learning_rate=inf", "weight_decay=nan", "gradient_norm_limit=nan", "gradient_norm_limit=-1",
    "map_loss_weight=nan", "num_workers=-1", "seed=99999999999999999999", "rotation=-5",
])  # fmt: skip
def test_settings_that_end_in_nan_are_refused(setting: str, shards: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=f"error: {setting.split('=')[0]}: expected"):
        main(train_arguments(shards, tmp_path / "run", "steps=1", setting))
    assert not (tmp_path / "run").exists()


def test_a_short_trial_warms_up_shortly(capsys: pytest.CaptureFixture[str]) -> None:
    main(["recipes", "tiny_adapter", "--set", "steps=20"])
    assert "warmup_steps" in (said := capsys.readouterr().out) and " 20\n" in said


# the machine


def test_stopping_keeps_the_step_and_says_how_to_go_on(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    train_step = Run.train_step

    def interrupted(run: Run, *arguments: object) -> object:
        if run.step == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return train_step(run, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Run, "train_step", interrupted)
    words = train_arguments(shards, tmp_path / "run", "steps=5", "checkpoint_every=5")
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 130
    assert "stopped after step 3 of 5, which is kept. The same command" in capsys.readouterr().out
    assert last_checkpoint(tmp_path / "run").name == "step-00000003"
    monkeypatch.undo()
    main(words)
    assert "going on from step 3" in capsys.readouterr().out


@pytest.mark.parametrize(("error", "is_full"), [
    (OSError(errno.ENOSPC, "No space left on device"), True),
    (OSError(errno.EDQUOT, "Disk quota exceeded"), True),
    (OSError(errno.ENOENT, "No such file or directory"), False),
    (SafetensorError("I/O error: No space left on device (os error 28)"), True),
    (SafetensorError("I/O error: No such file or directory (os error 2)"), False),
    (SafetensorError("I/O error: Permission denied (os error 13)"), False),
    (RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed"), True),
    (RuntimeError("cannot write to an expanded tensor"), False),
])  # fmt: skip
def test_only_a_full_disk_is_called_one(error: Exception, is_full: bool) -> None:
    assert _is_disk_error(error) == is_full


def test_a_python_without_the_packages_is_one_sentence(tmp_path: Path) -> None:
    bare = [sys.executable, "-S", "-m", "training", "recipes"]
    environment = {**os.environ, "PYTHONPATH": ""}
    done = subprocess.run(bare, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "error: expected the package" in done.stderr and "pip install" in done.stderr


def test_no_command_begins_with_words_about_kernels() -> None:
    pytest.importorskip("bitsandbytes")
    code = "import training.__main__, bitsandbytes"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "gemm_4bit" not in done.stdout + done.stderr


def test_checkpoints_are_finite(shards: Path, tmp_path: Path) -> None:
    main(train_arguments(shards, tmp_path / "run", "steps=2", "text_encoder=lora"))
    weights = load_file(last_checkpoint(tmp_path / "run") / "weights.safetensors")
    assert all(bool(value.isfinite().all()) for value in weights.values())
