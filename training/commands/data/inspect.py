"""``python -m training data inspect``: a page that shows what is in a dataset, and what is not."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from ..options import add_path

HELP = """\
a page with samples, charts, and what each filter threw away

Writes one HTML file with everything in it: counts of every filter, captions, boxes and labels (the
paper's figure 6), samples by chance with boxes and masks drawn in, examples of what each filter
threw away, and what could not be used and why. It opens in any browser, without a network.

Example
  python -m training data inspect --data shards --out shards.html
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The folder, the page, how many samples are drawn."""
    add_path(parser, "--data", "folder of a build, or of .tar shards", required=True)
    add_path(parser, "--out", "the page to write (.html)", required=True)
    parser.add_argument("--samples", type=int, default=30, help="that are shown (default 30)")
    parser.add_argument("--seed", type=int, default=0, help="chooses them (default 0)")


def run(arguments: argparse.Namespace) -> None:
    """Count, draw, write."""
    from ...curation.looking.page import build_page
    from ...curation.looking.statistics import count, open_dataset
    from ...runs import write_text

    if arguments.samples < 0:
        raise ValueError(f"--samples: expected 0 or more, got {arguments.samples}. Raise it.")
    with tempfile.TemporaryDirectory() as indices:
        dataset = open_dataset(arguments.data, Path(indices))
        found = count(dataset)
        title = f"Dataset {arguments.data.resolve().name}"
        page = build_page(dataset, found, title, arguments.samples, arguments.seed)
    write_text(arguments.out, page)
    print(f"{arguments.out}: {arguments.out.stat().st_size / 1e6:.1f} MB")
