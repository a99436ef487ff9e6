"""Runs graphs in the real ComfyUI, on one thread, and collects every tensor they make."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open

from devtools.api_client import ComfyClient, Graph
from devtools.console import DevError, Progress
from devtools.host import Host
from devtools.server import LOOPBACK, ComfyServer, temporary_base

from ..comfyui import ROOT
from .editing import keep_outputs, names_of
from .model_files import write_files

KEEPER = Path(__file__).with_name("keep_outputs.py")
EMBEDS = "subject_diffusion_embeds"

Tensors = dict[str, torch.Tensor]


def describe_tree(host: Host) -> dict[str, str]:
    """What a recording depends on besides the graphs."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    commit = subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.strip()
    return {"commit": commit, "comfyui": host.version, "torch": torch.__version__}


@contextlib.contextmanager
def recording_server(
    host: Host, progress: Progress, full_size: Path | None = None
) -> Iterator[ComfyServer]:
    """A server with KeepOutput and all files; `full_size` is a folder like ComfyUI's models."""
    # More threads would add up in another order on another computer.
    os.environ["OMP_NUM_THREADS"] = "1"
    with (
        tempfile.TemporaryDirectory(prefix="subject-diffusion-golden-") as folder,
        temporary_base(Path(folder) / "runs", ROOT) as base,
    ):
        shutil.copy(KEEPER, base / "custom_nodes")
        write_files(base, host.folder)
        for file in sorted(full_size.glob("*/*.safetensors")) if full_size else ():
            (base / "models" / file.parent.name).mkdir(exist_ok=True)
            os.symlink(file.resolve(), base / "models" / file.parent.name / file.name)
        server = ComfyServer(
            host=host,
            python=Path(sys.executable),
            base=base,
            log=Path(folder) / "server.log",
            progress=progress,
        )
        with server:
            yield server


def record_all(
    server: ComfyServer, graphs: Mapping[str, Graph], progress: Progress
) -> Iterator[tuple[str, Tensors | DevError]]:
    """Each graph's tensors, or why it has none."""
    with ComfyClient(LOOPBACK, server.port, server.is_running) as client:
        infos = client.node_infos()
        for name, graph in graphs.items():
            progress.say(f"Running {name}")
            try:
                images = client.run(keep_outputs(graph, infos, name))
            except DevError as error:
                yield name, error
                continue
            tensors = read_kept(server.base / "output" / "kept" / name)
            if names_of(graph, "SubjectDiffusionSaveSubjects"):
                tensors |= read_kept(server.base / "output" / EMBEDS)
            saved = (client.fetch_image(image) for image in images if image.type == "output")
            tensors |= {f"saved.{n}": pixels_of(content) for n, content in enumerate(saved)}
            yield name, tensors


def read_kept(folder: Path) -> Tensors:
    """All tensors of all files in a folder."""
    tensors: Tensors = {}
    for path in sorted(folder.glob("*.safetensors")):
        tensors |= read_file(path, path.stem)
    return tensors


def read_file(path: Path, prefix: str) -> Tensors:
    """All tensors of a file, and its metadata as bytes of JSON."""
    with safe_open(path, "pt") as file:
        tensors = {f"{prefix}.{key}": file.get_tensor(key) for key in sorted(file.keys())}
        if file.metadata():
            text = json.dumps(file.metadata(), sort_keys=True)
            tensors[f"{prefix}.metadata"] = torch.tensor(list(text.encode()), dtype=torch.uint8)
    return tensors


def pixels_of(content: bytes) -> torch.Tensor:
    """A picture file -> (H, W, 3), 0..255."""
    with Image.open(io.BytesIO(content)) as picture:
        return torch.from_numpy(np.array(picture.convert("RGB")))
