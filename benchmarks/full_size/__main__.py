"""One step of an example at full geometry, with random weights.

    python -m benchmarks.full_size sd15 FOLDER         IP-Adapter plus, 3.5 GB on disk
    python -m benchmarks.full_size sdxl FOLDER         MS-Diffusion, 12 GB on disk
    python -m benchmarks.full_size seeing_sd15 FOLDER  Self-Subject Attention, 2.1 GB
    python -m benchmarks.full_size seeing_sdxl FOLDER  Self-Subject Attention, 6.9 GB
    python -m benchmarks.full_size tuned_sd15 FOLDER   Tune Embedding, 2.1 GB
    python -m benchmarks.full_size tuned_sdxl FOLDER   Tune Embedding, 6.9 GB
    python -m benchmarks.full_size guided_sd15 FOLDER  Reference-Guided Sampler, 2.1 GB
    python -m benchmarks.full_size guided_sdxl FOLDER  Reference-Guided Sampler, 6.9 GB

Writes the files into FOLDER if they are not there, loads them with ComfyUI's own loaders in the
real server of COMFYUI_PATH (or .dev/comfyui), and samples at 512 x 512 pixels twice, one step (the
Reference-Guided Sampler: three, two updates in each): with the first subject of the example in its
box, and without it. Says how much the latent changes inside the box and outside, in seconds what
it took, and the server's peak memory (on Linux). `--option=...` goes to ComfyUI:
`--option=--bf16-unet` takes half the memory. `--size 128` takes a sixteenth of the time.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file

from devtools.api_client import ComfyClient, Graph
from devtools.console import Progress
from devtools.server import LOOPBACK, ComfyServer, temporary_base
from devtools.workflows import node

from ..comfyui import ROOT, find_comfyui
from .full_size_files import FILES

WRITER = Path(__file__).with_name("full_size_files.py")
SUBJECT, TUNE = "SubjectDiffusionSubject", "SubjectDiffusionTuneEmbedding"
APPLY_EMBEDDING = "SubjectDiffusionApplyEmbedding"
GUIDED_SAMPLER = "SubjectDiffusionReferenceGuidedSampler"
FEW_TUNING_STEPS = {"steps": 2, "steps_per_set": 0, "resume": False}


@dataclass(frozen=True, kw_only=True)
class Example:
    """A workflow of the pack, and which of its inputs switches the subject on and off."""

    golden: str
    node: str = SUBJECT
    switch: str = "strength"
    on: float = 1.0
    steps: int = 1


SEEING = Example(golden="self_subject_attention_sd15")
TUNED = Example(golden="tuned_embedding", node=APPLY_EMBEDDING)
GUIDED = Example(
    golden="reference_guided", node=GUIDED_SAMPLER, switch="num_updates", on=2, steps=3
)
EXAMPLES = {
    "sd15": Example(golden="sd15_ip_adapter"),
    "sdxl": Example(golden="sdxl_ms_diffusion"),
    "seeing_sd15": SEEING,
    "seeing_sdxl": SEEING,
    "tuned_sd15": TUNED,
    "tuned_sdxl": TUNED,
    "guided_sd15": GUIDED,
    "guided_sdxl": GUIDED,
}


def short_graph(base: str, is_on: bool, size: int) -> Graph:
    """The example with its first subject alone, the latent saved instead of the picture."""
    example = EXAMPLES[base]
    path = ROOT / "tests" / "golden" / f"{example.golden}.json"
    graph: Graph = copy.deepcopy(json.loads(path.read_text(encoding="utf-8")))
    (sampler,) = names_of(graph, "KSampler") or names_of(graph, "SamplerCustomAdvanced")
    for name in names_of(graph, "KSampler"):
        graph[name]["inputs"] |= {"steps": example.steps, "cfg": 1.0, "sampler_name": "euler"}
    for name in names_of(graph, "BasicScheduler"):
        graph[name]["inputs"]["steps"] = example.steps
    first = names_of(graph, SUBJECT)[0]
    for name in names_of(graph, "SubjectDiffusionLayout"):
        graph[name]["inputs"] |= {"width": size, "height": size, "subjects": [first, 0]}
    for name in names_of(graph, TUNE):
        graph[name]["inputs"] |= {**FEW_TUNING_STEPS, "picture_size": size}
    graph[names_of(graph, example.node)[0]]["inputs"][example.switch] = example.on * is_on
    for kind in ("CheckpointLoaderSimple", "SubjectDiffusionTinyLoader"):
        for name in names_of(graph, kind):
            file = FILES[base]["checkpoints"]
            graph[name] = node("CheckpointLoaderSimple", ckpt_name=file)
    for name in names_of(graph, "EmptyLatentImage"):
        graph[name]["inputs"] |= {"width": size, "height": size}
    for kind in ("SaveImage", "VAEDecode", "PreviewImage", "SubjectDiffusionSaveEmbedding"):
        for name in names_of(graph, kind):
            del graph[name]
    prefix = "on" if is_on else "off"
    return {**graph, "save": node("SaveLatent", samples=[sampler, 0], filename_prefix=prefix)}


def names_of(graph: Graph, kind: str) -> list[str]:
    return [name for name, each in graph.items() if each["class_type"] == kind]


def box_of(graph: Graph) -> list[float]:
    (first, *_) = names_of(graph, SUBJECT)
    return [float(edge) for edge in (graph[first]["inputs"]["box"] or "0,0,1,1").split(",")]


def change_inside_and_outside(
    latents: Sequence[torch.Tensor], box: Sequence[float]
) -> tuple[float, float]:
    """Mean absolute change of a latent cell that lies in the box, and of one that does not; 0 where
    no cell is outside."""
    change = (latents[0] - latents[1]).abs().mean(dim=(0, 1))
    height, width = change.shape
    x1, y1, x2, y2 = box
    inside = torch.zeros(height, width, dtype=torch.bool)
    inside[round(y1 * height) : round(y2 * height), round(x1 * width) : round(x2 * width)] = True
    outside = change[~inside]
    return float(change[inside].mean()), float(outside.mean()) if len(outside) else 0.0


def peak_memory(process_id: int) -> float:
    """GiB, as Linux counts it."""
    status = Path(f"/proc/{process_id}/status").read_text(encoding="utf-8")
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 2**20


def measure(base: str, folder: Path, size: int, options: Sequence[str]) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="subject-diffusion-full-size-") as temporary,
        temporary_base(Path(temporary) / "runs", ROOT) as place,
    ):
        for kind, name in FILES[base].items():
            (place / "models" / kind).mkdir(parents=True, exist_ok=True)
            os.symlink((folder / kind / name).resolve(), place / "models" / kind / name)
        for picture in (ROOT / "assets").rglob("*.png"):
            shutil.copy(picture, place / "input")
        server = ComfyServer(
            host=find_comfyui(),
            python=Path(sys.executable),
            base=place,
            log=Path(temporary) / "server.log",
            progress=Progress(),
            options=options,
        )
        latents = []
        with server, ComfyClient(LOOPBACK, server.port, server.is_running) as client:
            for is_on, title in ((True, "on"), (False, "off")):
                started = time.monotonic()
                client.run(short_graph(base, is_on, size))
                print(f"{title}: {time.monotonic() - started:.0f} s", flush=True)
                (file,) = (place / "output").rglob(f"{title}_*.latent")
                latents.append(load_file(file)["latent_tensor"].float())
            assert server.process_id is not None
            memory = peak_memory(server.process_id)
        inside, outside = change_inside_and_outside(latents, box_of(short_graph(base, True, size)))
    compared = f", outside {outside:.4f}, {inside / outside:.1f} times" if outside > 0 else ""
    print(f"{base}: change inside {inside:.4f}{compared}; peak memory {memory:.1f} GiB")


def main(arguments: Sequence[str]) -> None:
    description, _, rest = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.full_size",
        description=description,
        epilog=rest,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("base", choices=sorted(FILES))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", type=int, default=512, help="of the picture, in pixels")
    parser.add_argument("--option", action="append", default=[])
    options = parser.parse_args(arguments)
    # in a process that ends and gives its memory back
    command = [sys.executable, str(WRITER), options.base, str(options.folder)]
    paths = os.pathsep.join((str(ROOT), os.environ.get("PYTHONPATH", "")))
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": paths})
    measure(options.base, options.folder, options.size, options.option)


if __name__ == "__main__":
    main(sys.argv[1:])
