"""Record what every graph computes, or compare with a recording.

    python -m benchmarks.golden_latents save FILE         run all graphs, keep every tensor
    python -m benchmarks.golden_latents compare FILE      run them again: equal, bit for bit?

Runs the examples (tests/golden) with their full step counts and further graphs with 6, in the real
ComfyUI of COMFYUI_PATH (or .dev/comfyui), on one thread. Keeps latents, pictures, masks,
conditionings, sigmas, numbers and texts that any node puts out, unrounded. Exit status 1: a
difference. Recordings of other versions of torch or of another CPU differ without a cause here.

``--only NAME ...`` runs some graphs. ``--full-size FOLDER`` runs the Stable Diffusion 2 example
alone (one step of 64 x 64 pixels) with the files in FOLDER, which are written there if there are
none: 5.3 GB on disk, 11 GiB of memory.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file

from devtools.api_client import Graph
from devtools.console import DevError, Progress

from ..comfyui import find_comfyui
from .comparing import compare
from .graphs import example_graphs, full_size_graph, further_graphs
from .recording import Tensors, describe_tree, record_all, recording_server

FULL_SIZE_FILES = Path(__file__).with_name("full_size_files.py")


def chosen_graphs(options: argparse.Namespace) -> dict[str, Graph]:
    if options.full_size:
        return full_size_graph()
    graphs = {**example_graphs(), **further_graphs()}
    unknown = [name for name in options.only if name not in graphs]
    if unknown:
        raise DevError(f"--only: expected some of {', '.join(graphs)}, got {', '.join(unknown)}.")
    return {name: graphs[name] for name in graphs if not options.only or name in options.only}


def write_full_size_files(folder: Path) -> None:
    """Write the three model files, in a process that ends and gives its memory back."""
    if not list(folder.glob("*/*.safetensors")):
        subprocess.run([sys.executable, str(FULL_SIZE_FILES), str(folder)], check=True)


def save(options: argparse.Namespace, progress: Progress) -> int:
    """Run all graphs and write one file; a graph that fails is an error."""
    graphs, host = chosen_graphs(options), find_comfyui()
    tensors: Tensors = {}
    with recording_server(host, progress, options.full_size) as server:
        for name, recorded in record_all(server, graphs, progress):
            if isinstance(recorded, DevError):
                raise DevError(f"{name}: {recorded}") from recorded
            tensors |= {f"{name}/{key}": tensor for key, tensor in recorded.items()}
    metadata = {**describe_tree(host), "graphs": json.dumps(graphs)}
    save_file(tensors, options.file, metadata)
    print(f"{options.file}: {len(tensors)} tensors of {len(graphs)} graphs")
    return 0


def compare_with_file(options: argparse.Namespace, progress: Progress) -> int:
    """Run the graphs again; one line each."""
    graphs, host = chosen_graphs(options), find_comfyui()
    with safe_open(options.file, "pt") as file:
        metadata = file.metadata()
        keys = list(file.keys())
        tree = describe_tree(host)
        print(*(f"{key}: {metadata[key]} -> {tree[key]}" for key in tree), sep="\n")
        old_graphs = json.loads(metadata["graphs"])
        different = 0
        with recording_server(host, progress, options.full_size) as server:
            for name, after in record_all(server, graphs, progress):
                prefix = f"{name}/"
                names = [key.removeprefix(prefix) for key in keys if key.startswith(prefix)]
                before = {key: file.get_tensor(prefix + key) for key in names}
                found = [] if graphs[name] == old_graphs.get(name) else ["another graph"]
                if isinstance(after, DevError):
                    found.append(f"failed: {after}")
                else:
                    found += compare(before, after)
                different += bool(found)
                told = f"DIFFERENT: {'; '.join(found[:6])}" if found else "equal"
                print(f"{name}: {told} ({len(before)} tensors, {len(found)} differ)", flush=True)
    print(f"{len(graphs) - different} of {len(graphs)} graphs are equal, bit for bit")
    return 1 if different else 0


def build_parser() -> argparse.ArgumentParser:
    description, _, rest = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.golden_latents",
        description=description,
        epilog=rest,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, run in (("save", save), ("compare", compare_with_file)):
        command = commands.add_parser(name)
        command.add_argument("file", type=Path)
        command.add_argument("--only", nargs="+", default=[], metavar="NAME")
        command.add_argument("--full-size", type=Path, metavar="FOLDER")
        command.set_defaults(run=run)
    return parser


def main(arguments: Sequence[str]) -> int:
    options = build_parser().parse_args(arguments)
    try:
        if options.full_size:
            write_full_size_files(options.full_size)
        return int(options.run(options, Progress()))
    except DevError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
