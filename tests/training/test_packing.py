"""A small copy of shards, and training from it for a given time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from accelerate.state import AcceleratorState
from own_pictures import write_pictures
from training_runs import last_checkpoint, train_arguments

from subject_diffusion_core import checkpoint
from training.__main__ import main
from training.dataset.catalogue import open_catalogue
from training.dataset.layout import decode_sample


@pytest.fixture(autouse=True)
def fresh_accelerate() -> Iterator[None]:
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    listed = write_pictures(folder / "pictures", count=12)
    own = ["--jsonl", str(listed), "--out", str(folder), "--recipe", "debug_cpu"]
    main(["precompute", *own, "--samples-per-shard", "4", "--held-out", "0"])
    return folder / "train"


def test_a_packed_sample_is_the_sample_without_features(shards: Path, tmp_path: Path) -> None:
    main(["pack", "--data", str(shards), "--out", str(tmp_path / "packed")])
    source, packed = (
        open_catalogue(f, tmp_path / f.name / "i") for f in (shards, tmp_path / "packed")
    )
    assert sum(packed.counts) == 12 and not packed.features
    originals = {}
    for shard, count in enumerate(source.counts):
        for row in range(count):
            sample = decode_sample(*source.read(shard, row))
            originals[sample.caption, sample.entities[0].box_xyxy] = sample
    sample = decode_sample(*packed.read(0, 0))
    original = originals[sample.caption, sample.entities[0].box_xyxy]
    assert np.array_equal(sample.entities[0].mask, original.entities[0].mask)
    assert np.abs(sample.image.astype(int) - original.image.astype(int)).mean() < 8


def test_a_full_folder_holds_samples_of_all_shards(shards: Path, tmp_path: Path) -> None:
    out = tmp_path / "packed"
    main(["pack", "--data", str(shards), "--out", str(out), "--max-mb", "0.1"])
    assert sum(path.stat().st_size for path in out.iterdir()) <= 100_000
    with pytest.raises(SystemExit, match="--out: expected a folder without shards"):
        main(["pack", "--data", str(shards), "--out", str(out)])
    with pytest.raises(SystemExit, match=r"--max-mb: expected 0\.1 or more, got nan"):
        main(["pack", "--data", str(shards), "--out", str(tmp_path / "n"), "--max-mb", "nan"])


def test_minutes_end_a_run_that_goes_on_later(
    shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["pack", "--data", str(shards), "--out", str(tmp_path / "packed")])
    run = tmp_path / "run"
    words = train_arguments(tmp_path / "packed", run, "steps=3", "checkpoint_every=100")
    with pytest.raises(SystemExit) as ended:
        main([*words, "--minutes", "1e-9"])
    assert ended.value.code == 130 and "stopped after step 1 of 3" in capsys.readouterr().out
    main(words)
    assert last_checkpoint(run).name == "step-00000003"
    for extra in ([], ["--int8"]):
        out = tmp_path / f"adapter{len(extra)}.safetensors"
        main(["export", "--run", str(run), "--out", str(out), *extra])
        assert checkpoint.load(out).config.base_family == "sd2"
    with pytest.raises(SystemExit, match="--minutes: expected more than 0, got 0"):
        main([*words, "--minutes", "0"])
