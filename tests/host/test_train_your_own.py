"""docs/training: a folder of pictures with masks, three commands, a picture out of ComfyUI."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import folder_paths
import numpy as np
from graphs import Graph, GraphRunner, apply_node, encode_node, ksampler_node, node

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "tests" / "training"))
from own_pictures import SUBJECTS, write_pictures  # noqa: E402

STEPS = 4


def run_training(*arguments: str | Path) -> None:
    """``python -m training ...`` as a user types it, in a process of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "training", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]


def graph(adapter: str | None) -> Graph:
    """One subject on the small base, with the pack's own adapter or a file."""
    source = ["loader", 4] if adapter is None else ["adapter", 0]
    nodes = {
        "loader": node("SubjectDiffusionTinyLoader"),
        "image": node("LoadImage", image="owl.png"),
        "mask": node("InvertMask", mask=["image", 1]),
        "subject": node(
            "SubjectDiffusionSubject",
            image=["image", 0],
            mask=["mask", 0],
            label="owl",
            box="0.2,0.2,0.8,0.9",
            strength=1.0,
        ),
        "apply": apply_node(source),
        "encode": encode_node("subject", "a photo of an owl in a forest", source),
        "latent": node("EmptyLatentImage", width=128, height=128, batch_size=1),
        "sample": ksampler_node(seed=1, steps=6, sampler_name="ddim", scheduler="ddim_uniform"),
        "decode": node("VAEDecode", samples=["sample", 0], vae=["loader", 2]),
        "save": node("SaveImage", images=["decode", 0], filename_prefix="graph"),
    }
    if adapter is not None:
        nodes["adapter"] = node("SubjectDiffusionAdapterLoader", adapter_name=adapter)
    return nodes


def difference(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.abs(first.astype(np.float32) - second.astype(np.float32)).mean())


def test_from_pictures_to_a_picture(tmp_path: Path, pack: object) -> None:
    listed = write_pictures(tmp_path / "pictures", count=12)
    base = ["--base", ROOT / "weights" / "tiny_base.safetensors"]
    common = ["--recipe", "tiny_adapter", *base]
    run_training("precompute", "--jsonl", listed, "--out", tmp_path / "shards", *common)
    settings = ["warmup_steps=1", "learning_rate=1e-3", "tensorboard=false", "ema_decay=0"]
    settings += [f"steps={STEPS}", "global_batch_size=8", "micro_batch_size=8"]
    run_training(
        "train", *common, "--data", tmp_path / "shards" / "train", "--out", tmp_path / "run",
        "--init", ROOT / "weights" / "tiny_adapter.safetensors",
        *(word for setting in settings for word in ("--set", setting)),
    )  # fmt: skip
    (target, *_) = folder_paths.get_folder_paths("subject_diffusion")
    adapter = Path(target) / "mine.safetensors"
    run_training("export", "--run", tmp_path / "run", "--out", adapter)
    shutil.copy(SUBJECTS / "owl.png", Path(folder_paths.get_input_directory()) / "owl.png")
    runner = GraphRunner()
    mine, shipped = runner.run(graph("mine.safetensors")), runner.run(graph(None))
    assert mine.shape == (128, 128, 3) and mine.std() > 20
    # a few steps moved it, and did not destroy it
    assert 0.1 < difference(mine, shipped) < 40
