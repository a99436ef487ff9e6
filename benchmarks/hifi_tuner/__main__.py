"""HiFi Tuner: what comes back of a picture through inversion, what replacement changes, the cost.

    python -m benchmarks.hifi_tuner inversion --work .dev/tiny --out FOLDER
    python -m benchmarks.hifi_tuner replacement --work .dev/tiny --out FOLDER
    python -m benchmarks.hifi_tuner cost --out FOLDER
    python -m benchmarks.hifi_tuner time --out FOLDER

`cost` counts the gradients' arithmetic and memory at full geometry, without pictures; `time` times
them on the CPU, with random weights (4 GB; `--size 256` takes a fifth of the time). The others
take TinyBench's real composites: held-out subjects in photographs of held-out scenes, with their
captions, on the small model. Each writes a table (ACTION.md); `replacement` also a sheet of its
pictures. The same command goes on where it stopped. The folder of `--work` holds the held-out
pictures that `python -m training tiny` or `python -m benchmarks.trained_heads data` makes.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from training.evaluation.queries import draw_queries
from training.runs import atomic_path
from training.toy.data.library import load_library

from ..comfyui import ROOT
from ..structure.in_process import in_process_host
from .cost import measure_cost
from .inversion import measure_inversion
from .replacement import measure_replacement
from .timed import measure_time

MEASURED = {"inversion": measure_inversion, "replacement": measure_replacement}


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.hifi_tuner",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("action", choices=(*MEASURED, "cost", "time"))
    parser.add_argument("--work", type=Path, default=ROOT / ".dev" / "tiny")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=20, help="pictures")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--size", type=int, default=512, help="time: of the picture, in pixels")
    parser.add_argument("--rounds", type=int, default=3, help="time: of which the median counts")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, in_process_host(Path(folder)) as host:
        if options.action == "cost":
            lines = measure_cost()
        elif options.action == "time":
            lines = measure_time(options.size, options.rounds)
        else:
            library = load_library(options.work, "heldout", "heldout")
            queries = draw_queries(library, "one", options.count)
            lines = MEASURED[options.action](host, library, queries, options.steps, options.out)
    text = "\n".join(lines) + "\n"
    with atomic_path(options.out / f"{options.action}.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main(sys.argv[1:])
