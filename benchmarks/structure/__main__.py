"""Count how the pack is built, as a table.

    python -m benchmarks.structure [sources]

Runs three small prompts in the real ComfyUI of COMFYUI_PATH (or .dev/comfyui) inside this process;
`sources` counts the sources alone.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from devtools.console import DevError

from ..comfyui import ROOT
from .archive import archive_size
from .host_counts import describe_work, example, shortest_graph, trace_picture
from .in_process import in_process_host
from .picture_trace import PictureTrace
from .sources import (
    circles,
    declarations,
    files_per_folder,
    files_with_word,
    import_graph,
    lines_of,
    node_files,
    python_files,
)

NODES, CORE, TRAINING = "nodes", "subject_diffusion_core", "training"
TOY = f"{TRAINING}.toy"
OPTION = "token_positions"
ENCODER_CARRIERS = ("TinyVisionOutput",)


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
    toy, outside = [
        {name: path for name, path in product.items() if name.startswith(TRAINING)
         and name.startswith(TOY) == is_toy} for is_toy in (True, False)
    ]  # fmt: skip
    show(
        f"7. Lines of {TRAINING}: {lines_of(outside)} outside {TOY}, {lines_of(toy)} in it",
        [f"{lines_of(python_files(root, (str(folder),))):5} {folder}" for folder in rooms(root)],
    )
    number, size = archive_size(root)
    show(f"5. Archive for the registry: {size / 1e6:.2f} MB, {number} files", [])


def rooms(root: Path) -> list[Path]:
    """The folders of training."""
    packages = (root / TRAINING).glob("*/__init__.py")
    return sorted(path.parent.relative_to(root) for path in packages)


def describe_host(folder: Path) -> None:
    with in_process_host(folder) as host:
        shortest = trace_picture(host, shortest_graph())
        with_layout = trace_picture(host, example("one_subject", 1))
        work = describe_work(host)
    describe_way(shortest, with_layout)
    show("6. Work in a run", work)


def describe_way(shortest: PictureTrace, with_layout: PictureTrace) -> None:
    """The way is that of `picture_trace`, to the first patch that the UNet calls. The image encoder
    is ComfyUI's CLIP Vision; the tiny one stands in for it here and is not counted."""
    way = [file for file in shortest.way if not is_tiny(file)]
    further = [file for file in with_layout.way if file not in shortest.way]
    beside = [file for file in with_layout.files if file not in with_layout.way]
    carriers = [name for name in shortest.carriers if name not in ENCODER_CARRIERS]
    show(
        f"1. The way of a picture, Subject -> Encode -> sampler: {len(way)} files, "
        f"{len(carriers)} carrier classes",
        [
            *way,
            f"carriers: {', '.join(carriers)}",
            f"image encoder, in place of CLIP Vision: {', '.join(filter(is_tiny, shortest.way))}",
            f"more where Layout and Guider stand between: {', '.join(further) or 'none'}",
            f"get something of it, but hand none on to the patch: {', '.join(beside)}",
        ],
    )


def is_tiny(file: str) -> bool:
    return "/tiny/" in file


def main() -> int:
    try:
        if sys.argv[1:] != ["sources"]:
            with tempfile.TemporaryDirectory(prefix="subject-diffusion-structure-") as folder:
                describe_host(Path(folder))
        describe_sources(ROOT)
    except DevError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
