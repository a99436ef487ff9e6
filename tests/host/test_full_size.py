"""Stable Diffusion 2 base and 1.5 at full size, with random weights, through ComfyUI's own loaders.

5.3 GB on disk, 10.3 GiB of memory and two minutes of one CPU core, one after the other; -m "not
full_size" leaves them out.
"""

from __future__ import annotations

import copy
import io
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from full_size import sd15_checkpoint_shapes, write_full_size_models, write_random
from host_models import Host
from live_server import running_server
from PIL import Image
from test_example_workflows import ROOT, golden

from devtools.api_client import ComfyClient, Graph
from devtools.server import LOOPBACK, ComfyServer

NEEDED_MEMORY, NEEDED_DISK = 11 * 2**30, 6 * 2**30
FILES = {
    "checkpoints": "512-base-ema.safetensors",
    "clip_vision": "CLIP-ViT-H-14-laion2B-s32B-b79K.safetensors",
    "subject_diffusion": "subject_diffusion_sd2.safetensors",
}
SD15_FILE = "v1-5-pruned-emaonly-fp16.safetensors"
pytestmark = pytest.mark.full_size


@pytest.fixture
def full_size_server(
    host: Host, comfyui_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ComfyServer]:
    folder = tmp_path_factory.mktemp("full_size")
    free_memory, free_disk = psutil.virtual_memory().available, shutil.disk_usage(folder).free
    if free_memory < NEEDED_MEMORY or free_disk < NEEDED_DISK:
        pytest.skip(f"needs 11 GiB of memory and 6 GiB of disk, got {free_memory} and {free_disk}")
    with running_server(comfyui_folder, folder) as server:
        size = write_full_size_models(host, server.base / "models", FILES)
        assert 5.0e9 < size < 5.8e9
        shutil.copy(ROOT / "assets" / "subjects" / "crab.png", server.base / "input")
        yield server


def one_small_step(box: str) -> Graph:
    """The example at 64 x 64 pixels, one step, the subject in this box."""
    graph = copy.deepcopy(golden("sd2_base"))
    for node in graph.values():
        if node["class_type"] in ("SubjectDiffusionLayout", "EmptyLatentImage"):
            node["inputs"] |= {"width": 64, "height": 64}
        if node["class_type"] == "BasicScheduler":
            node["inputs"]["steps"] = 1
        if node["class_type"] == "SubjectDiffusionSubject":
            node["inputs"]["box"] = box
    return graph


def picture(client: ComfyClient, graph: Graph) -> np.ndarray:
    images = [image for image in client.run(graph) if image.type == "output"]
    with Image.open(io.BytesIO(client.fetch_image(images[0]))) as opened:
        return np.asarray(opened.convert("RGB")).astype(float)


def test_one_step_of_the_example(full_size_server: ComfyServer) -> None:
    """The stock loaders take the files, the adapter fits, and the subject's box matters."""
    server = full_size_server
    with ComfyClient(LOOPBACK, server.port, server.is_running) as client:
        left, right = (picture(client, one_small_step(box)) for box in ("0,0,0.5,1", "0.5,0,1,1"))
    assert left.shape == (64, 64, 3)
    assert left.std() > 1 and right.std() > 1
    assert np.abs(left - right).mean() > 0.1
    log = server.log_tail(200)
    assert "model_type EPS" in log
    assert "NOT MERGED" not in log and "ERROR" not in log


@pytest.fixture
def sd15_server(
    comfyui_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ComfyServer]:
    folder = tmp_path_factory.mktemp("sd15")
    free_memory, free_disk = psutil.virtual_memory().available, shutil.disk_usage(folder).free
    if free_memory < NEEDED_MEMORY or free_disk < NEEDED_DISK:
        pytest.skip(f"needs 11 GiB of memory and 6 GiB of disk, got {free_memory} and {free_disk}")
    with running_server(comfyui_folder, folder) as server:
        checkpoints = server.base / "models" / "checkpoints"
        checkpoints.mkdir(parents=True, exist_ok=True)
        write_random(checkpoints / SD15_FILE, sd15_checkpoint_shapes())
        for name in ("crab.png", "guitar.png"):
            shutil.copy(ROOT / "assets" / "subjects" / name, server.base / "input")
        yield server


def one_small_step_with(name: str, omega_ref: float) -> Graph:
    """An example of self-subject-attention at 64 x 64 pixels, one step."""
    graph = copy.deepcopy(golden(name))
    for node in graph.values():
        if node["class_type"] in ("SubjectDiffusionLayout", "EmptyLatentImage"):
            node["inputs"] |= {"width": 64, "height": 64}
        if "steps" in node["inputs"]:
            node["inputs"]["steps"] = 1
        if node["class_type"] == "SubjectDiffusionSelfSubjectAttention":
            node["inputs"] |= {"omega_ref": omega_ref, "reference_size": 64}
    return graph


def test_one_step_of_self_subject_attention(sd15_server: ComfyServer) -> None:
    """The stock loader takes the checkpoint, and the subjects' pictures matter."""
    server = sd15_server
    with ComfyClient(LOOPBACK, server.port, server.is_running) as client:
        for name in ("self_subject_attention_sd15", "dreamtuner_sd15"):
            graphs = [one_small_step_with(name, omega_ref) for omega_ref in (0.0, 3.0)]
            without, seen = (picture(client, graph) for graph in graphs)
            assert seen.shape == (64, 64, 3)
            assert without.std() > 1 and seen.std() > 1
            assert np.abs(seen - without).mean() > 0.1
    log = server.log_tail(200)
    assert "model_type EPS" in log
    assert "NOT MERGED" not in log and "ERROR" not in log
