"""``python -m training data stats``: what a dataset holds, in numbers."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from ..options import add_path

HELP = """\
what a dataset holds, in numbers

Samples and subjects, subjects in a picture, words of a caption, labels, sizes, licences (the
paper's figure 6), of the folder of a build or of any folder of shards.

Example
  python -m training data stats --data shards --json counts.json
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The folder, and a file for all counts."""
    add_path(parser, "--data", "folder of a build, or of .tar shards", required=True)
    add_path(parser, "--json", "a file for all counts", dest="counts")


def run(arguments: argparse.Namespace) -> None:
    """Count, print, and write."""
    from ...curation.looking.statistics import count, open_dataset
    from ...runs import write_json

    with tempfile.TemporaryDirectory() as indices:
        found = count(open_dataset(arguments.data, Path(indices)))
    print("\n".join(found.lines()))
    if arguments.counts is not None:
        write_json(arguments.counts, found.to_json(), indent=1)
