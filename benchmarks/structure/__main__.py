"""Count how the pack is built, as a table.

    python -m benchmarks.structure

Runs three small prompts in the real ComfyUI of COMFYUI_PATH (or .dev/comfyui) inside this process.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from devtools.console import DevError

from ..comfyui import ROOT
from .archive import archive_size
from .host_counts import describe_work, trace_picture
from .in_process import in_process_host
from .sources import (
    circles,
    declarations,
    files_per_folder,
    files_with_word,
    import_graph,
    node_files,
    python_files,
)

NODES, CORE, TRAINING = "nodes", "subject_diffusion_core", "training"
OPTION = "token_positions"


def show(title: str, lines: Iterable[str]) -> None:
    print(f"\n{title}", *(f"  {line}" for line in lines), sep="\n", flush=True)


def describe_sources(root: Path) -> None:
    product = python_files(root, (NODES, CORE, TRAINING))
    words = files_with_word(product, OPTION)
    fields, parameters = declarations(product, OPTION)
    show(
        f"2. The word {OPTION}: {len(words)} files, {len(fields)} fields of classes, "
        f"{len(parameters)} parameters",
        [*words, f"fields: {', '.join(fields)}", f"parameters: {', '.join(parameters)}"],
    )
    groups = circles(import_graph(product))
    show(f"3. Circles of imports: {len(groups)}", [" <-> ".join(group) for group in groups])
    pack = python_files(root, (NODES, CORE))
    of_nodes = node_files(pack)
    files = {name: path for name, path in pack.items() if path.name != "__init__.py"}
    in_nodes = [name for name in files if name.split(".")[0] == NODES]
    counts = {**files_per_folder(root, NODES), **files_per_folder(root, CORE)}
    show(
        f"4. Files: {len(in_nodes)} in {NODES} ({len(of_nodes)} with nodes, "
        f"{len(in_nodes) - len(of_nodes)} machinery), {len(files) - len(in_nodes)} in {CORE}",
        [f"{count:3} {folder}" for folder, count in counts.items()],
    )
    number, size = archive_size(root)
    show(f"5. Archive for the registry: {size / 1e6:.2f} MB, {number} files", [])


def describe_host(folder: Path) -> None:
    with in_process_host(folder) as host:
        trace = trace_picture(host)
        work = describe_work(host)
    in_nodes = sum(file.startswith(f"{NODES}/") for file in trace.files)
    show(
        f"1. The way of a picture: {len(trace.files)} files get it ({in_nodes} in {NODES}, "
        f"{len(trace.files) - in_nodes} in {CORE}), {len(trace.passing)} of them pass it on (*); "
        f"{len(trace.carriers)} carrier classes",
        [
            *(f"{'*' if file in trace.passing else ' '} {file}" for file in trace.files),
            f"carriers: {', '.join(trace.carriers)}",
        ],
    )
    show("6. Work in a run", work)


def main() -> int:
    try:
        with tempfile.TemporaryDirectory(prefix="subject-diffusion-structure-") as folder:
            describe_host(Path(folder))
        describe_sources(ROOT)
    except DevError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
