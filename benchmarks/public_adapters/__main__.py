"""One step of an example at full geometry, with random weights.

    python -m benchmarks.public_adapters sd15 FOLDER         IP-Adapter plus, 3.5 GB on disk
    python -m benchmarks.public_adapters sdxl FOLDER         MS-Diffusion, 12 GB on disk
    python -m benchmarks.public_adapters seeing_sd15 FOLDER  Self-Subject Attention, 2.1 GB
    python -m benchmarks.public_adapters seeing_sdxl FOLDER  Self-Subject Attention, 6.9 GB

Writes the files into FOLDER if they are not there, loads them with ComfyUI's own loaders in the
real server of COMFYUI_PATH (or .dev/comfyui), and runs one step at 512 x 512 pixels twice: with
the first subject of the example in its box, and with its strength at 0. Says how much more the
latent changes inside the box than outside, in seconds what it took, and the server's peak memory
(on Linux). `--option=...` goes to ComfyUI: `--option=--bf16-unet` takes half the memory.
`--size 128` takes a sixteenth of the time.
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
from pathlib import Path

import torch
from safetensors.torch import load_file

from devtools.api_client import ComfyClient, Graph
from devtools.console import Progress
from devtools.server import LOOPBACK, ComfyServer, temporary_base

from ..comfyui import ROOT, find_comfyui
from .full_size_files import FILES

EXAMPLES = {
    "sd15": "sd15_ip_adapter",
    "sdxl": "sdxl_ms_diffusion",
    "seeing_sd15": "self_subject_attention_sd15",
    "seeing_sdxl": "self_subject_attention_sd15",
}
WRITER = Path(__file__).with_name("full_size_files.py")


def one_step(base: str, strength: float, size: int) -> Graph:
    """The example with its first subject alone, the latent saved instead of the picture."""
    path = ROOT / "tests" / "golden" / f"{EXAMPLES[base]}.json"
    graph: Graph = copy.deepcopy(json.loads(path.read_text(encoding="utf-8")))
    (sampler,) = names_of(graph, "KSampler")
    (layout,) = names_of(graph, "SubjectDiffusionLayout")
    first = names_of(graph, "SubjectDiffusionSubject")[0]
    graph[sampler]["inputs"] |= {"steps": 1, "cfg": 1.0, "sampler_name": "euler"}
    graph[layout]["inputs"] |= {"width": size, "height": size, "subjects": [first, 0]}
    graph[first]["inputs"]["strength"] = strength
    for name in names_of(graph, "CheckpointLoaderSimple"):
        graph[name]["inputs"]["ckpt_name"] = FILES[base]["checkpoints"]
    for name in names_of(graph, "EmptyLatentImage"):
        graph[name]["inputs"] |= {"width": size, "height": size}
    for kind in ("SaveImage", "VAEDecode", "PreviewImage"):
        for name in names_of(graph, kind):
            del graph[name]
    inputs = {"samples": [sampler, 0], "filename_prefix": f"strength_{strength:g}"}
    return {**graph, "save": {"class_type": "SaveLatent", "inputs": inputs}}


def names_of(graph: Graph, kind: str) -> list[str]:
    return [name for name, node in graph.items() if node["class_type"] == kind]


def box_of(graph: Graph) -> list[float]:
    (first, *_) = names_of(graph, "SubjectDiffusionSubject")
    return [float(edge) for edge in graph[first]["inputs"]["box"].split(",")]


def change_inside_and_outside(
    latents: Sequence[torch.Tensor], box: Sequence[float]
) -> tuple[float, float]:
    """Mean absolute change of a latent cell that lies in the box, and of one that does not."""
    change = (latents[0] - latents[1]).abs().mean(dim=(0, 1))
    height, width = change.shape
    x1, y1, x2, y2 = box
    inside = torch.zeros(height, width, dtype=torch.bool)
    inside[round(y1 * height) : round(y2 * height), round(x1 * width) : round(x2 * width)] = True
    return float(change[inside].mean()), float(change[~inside].mean())


def peak_memory(process_id: int) -> float:
    """GiB, as Linux counts it."""
    status = Path(f"/proc/{process_id}/status").read_text(encoding="utf-8")
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 2**20


def measure(base: str, folder: Path, size: int, options: Sequence[str]) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="subject-diffusion-public-") as temporary,
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
            for strength in (1.0, 0.0):
                started = time.monotonic()
                client.run(one_step(base, strength, size))
                print(f"strength {strength:g}: {time.monotonic() - started:.0f} s", flush=True)
                (file,) = (place / "output").rglob(f"strength_{strength:g}_*.latent")
                latents.append(load_file(file)["latent_tensor"].float())
            assert server.process_id is not None
            memory = peak_memory(server.process_id)
        inside, outside = change_inside_and_outside(latents, box_of(one_step(base, 1.0, size)))
    print(
        f"{base}: change inside the box {inside:.4f}, outside {outside:.4f}, "
        f"{inside / outside:.1f} times; peak memory {memory:.1f} GiB"
    )


def main(arguments: Sequence[str]) -> None:
    description, _, rest = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.public_adapters",
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
