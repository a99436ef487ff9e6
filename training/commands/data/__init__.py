"""``python -m training data``: raw pictures to shards, the Subject-Diffusion Dataset pipeline."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from ..options import add_path
from . import convert, inspect, stats

if TYPE_CHECKING:
    from ...curation.build import Engine
    from ...curation.settings import CurationSettings

HELP = """\
turn raw pictures into shards: captions, boxes, masks, filters

The Subject-Diffusion Dataset pipeline (the paper's section 3.1 and appendix B).

Each action has its own --help: `python -m training data build --help`.
"""

EXTRAS = "cluster"  # curation, and Ray

BUILD = """\
Takes every picture through check, caption (BLIP-2), nouns (spaCy), boxes (Grounding DINO), masks
(SAM) and the filters of appendix B.1. What came with a picture (caption, boxes, masks, alpha) is
left as it is. Writes OUT/train/*.tar and OUT/held-out/*.tar, OUT/work/report.json (counts) and
OUT/work/faults.jsonl (what could not be used, and why).

--pictures  a folder of pictures (NAME.txt beside NAME.jpg is its caption, NAME.json a line of a
            list), a list (.jsonl, docs/dataset.md), .tar files as img2dataset writes them, a
            .parquet table with a column "path"

Stop and start it as you like, change pictures, captions, masks or settings: the same command does
what is new, and nothing twice.

Example: pictures with captions and masks, of any size, to shards
  python -m training data build --pictures photos --out shards --set thresholds.min_side=0
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The actions, each with its own options."""
    actions = parser.add_subparsers(required=True, metavar="action")
    build = actions.add_parser(
        "build",
        help="pictures to shards",
        description=BUILD,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_path(build, "--pictures", "where the pictures are", required=True)
    add_path(build, "--out", "folder of the dataset", required=True)
    add_path(build, "--settings", "JSON file of settings; --set comes on top")
    build.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", dest="changes",
        help="change a setting (thresholds.min_side=512, caption.model=FOLDER); several times",
    )  # fmt: skip
    build.set_defaults(action=run_build)
    retry = actions.add_parser("retry", help="try again what failed or was quarantined")
    add_path(retry, "--out", "folder of the dataset", required=True)
    retry.set_defaults(action=run_retry)
    for action in (build, retry):
        action.add_argument("--processes", type=int, default=1, help="that write shards at once")
        action.add_argument(
            "--cluster", metavar="ADDRESS",
            help="run on Ray: local, auto, or the address of a cluster that sees the same paths",
        )  # fmt: skip
    for module in (convert, inspect, stats):
        summary, description = module.HELP.split("\n\n", 1)
        action = actions.add_parser(
            module.__name__.rpartition(".")[2],
            help=summary,
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_options(action)
        action.set_defaults(action=module.run)


def run(arguments: argparse.Namespace) -> None:
    """Run the chosen action."""
    arguments.action(arguments)


def run_build(arguments: argparse.Namespace) -> None:
    """Pictures to shards, and what came of them."""
    from ...curation.build import Build
    from ...curation.settings import CurationSettings, read_settings, with_settings

    settings = CurationSettings()
    if arguments.settings is not None:
        settings = read_settings(arguments.settings)
    settings = with_settings(settings, arguments.changes)
    build = Build(
        pictures=arguments.pictures,
        out=arguments.out,
        settings=settings,
        processes=arguments.processes,
    )
    say(build.run(engine_of(arguments, settings)))


def engine_of(arguments: argparse.Namespace, settings: CurationSettings) -> Engine:
    """What takes the pictures through the stages: this process, or a cluster."""
    from ...curation.engine import run_here

    if arguments.cluster is None:
        return run_here
    from ...curation.cluster import Cluster

    return Cluster(settings, arguments.cluster)


def run_retry(arguments: argparse.Namespace) -> None:
    """The last build again, with what failed or was quarantined."""
    from ...curation.build import last_build, retry

    build = last_build(arguments.out, arguments.processes)
    say(retry(build, engine_of(arguments, build.settings)))


def say(report: dict[str, Any]) -> None:
    """The report in lines."""
    pictures = report["pictures"]
    print(", ".join(f"{number} {kind}" for kind, number in pictures.items() if number))
    made = ", ".join(f"{stage} {number}" for stage, number in report["made"].items())
    print(f"made in this run: {made or 'nothing, all was known'}")
    for rule, found in report["rules"].items():
        if found["pictures"] or found["subjects"]:
            print(f"  {rule}: {found['pictures']} pictures, {found['subjects']} subjects")
    for reason, found in report["reasons"].items():
        print(f"  {reason}: {found['pictures']} pictures")
    for side, found in report["sides"].items():
        print(f"{side}: {found['samples']} samples in {len(found['shards'])} shards")
