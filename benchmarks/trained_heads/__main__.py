"""IP-Adapter plus and MS-Diffusion trained on the small base, as TinyBench rows beside the shipped
adapter's.

    python -m benchmarks.trained_heads data --work .dev/tiny
    python -m benchmarks.trained_heads report --work .dev/tiny --pictures FOLDER --out FOLDER

`data` makes what `python -m training train --recipe tiny_ip_adapter` (or `tiny_ms_diffusion`) takes
as `--data .dev/tiny/composites-train` and `evaluate jobs` as `--work`. For `report`, FOLDER/NAME
holds what `dev.py generate --jobs` made of `evaluate jobs --rows one_subject two_subjects swap`,
NAME being subject_diffusion (also with the rows one_text_only two_text_only), ip_adapter or
ms_diffusion (both also with the row one_shuffled), all with the same `--limit`. It writes
TinyBench's report of each below `--out`, and one table of all as `trained_heads.md`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from training.runs import atomic_path

from ..comfyui import ROOT
from .data import make_data
from .report import measure, table


def report(options: argparse.Namespace) -> None:
    """Write the table and print it."""
    measured = measure(options.work, options.pictures, options.out, options.limit)
    text = "\n".join(table(*measured))
    options.out.mkdir(parents=True, exist_ok=True)
    with atomic_path(options.out / "trained_heads.md") as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
    print(text)


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.trained_heads",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("action", choices=("data", "report"))
    parser.add_argument("--work", type=Path, default=ROOT / ".dev" / "tiny")
    parser.add_argument("--count", type=int, default=8000, help="data: training pictures")
    parser.add_argument("--packages", type=Path, help="data: folder of packages downloaded before")
    parser.add_argument("--pictures", type=Path, help="report: a folder of pictures an adapter")
    parser.add_argument("--out", type=Path, help="report: where to write")
    parser.add_argument("--limit", type=int, default=24, help="report: pictures of a row")
    options = parser.parse_args(arguments)
    if options.action == "data":
        make_data(options.work, ROOT / "weights", options.count, options.packages)
    elif options.pictures is None or options.out is None:
        parser.error("report: expected --pictures and --out. Name both folders.")
    else:
        torch.set_num_threads(1)
        report(options)


if __name__ == "__main__":
    main(sys.argv[1:])
