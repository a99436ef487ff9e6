"""``python -m training``: the commands that make and measure weights."""

from __future__ import annotations

import argparse
import sys

from .commands.ablation import add_ablation
from .commands.export import add_export, add_import_reference
from .commands.precompute import add_precompute
from .commands.recipes import add_recipes
from .commands.tiny import add_tiny
from .commands.train import add_train

EVALUATE_EPILOG = """\
Example
  python -m training evaluate --work .dev/tiny --weights weights --out bench

Needs the data of `python -m training.data.build` (or of `tiny`). Subjects, prompts, boxes and seeds
are fixed and took no part in training; the README explains the rows.
"""


def add_evaluate(commands: argparse._SubParsersAction, asked: bool) -> None:
    """``evaluate``: TinyBench on a folder of weights. Its options, which import much, if asked."""
    parser = commands.add_parser(
        "evaluate",
        help="TinyBench: identity, boxes and text match on held-out subjects",
        description="Writes JSON, a Markdown table and contact sheets; goes on where it stopped.",
        epilog=EVALUATE_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--record", action="store_true", help="also write the scores into the weights' metadata"
    )
    if asked:
        from .evaluation import tinybench

        tinybench.add_arguments(parser)
    parser.set_defaults(run=run_evaluate)


def add_dreambench(commands: argparse._SubParsersAction, asked: bool) -> None:
    """``dreambench``: the paper's protocol. Its options, which import much, if asked."""
    parser = commands.add_parser(
        "dreambench",
        help="the paper's scores on DreamBench and people, with your copies of data and encoders",
        description="First `jobs`: what to generate, for `dev.py generate --jobs`. Then `score`.",
    )
    if asked:
        from .commands import dreambench as command

        command.add_arguments(parser)
        parser.set_defaults(run=command.main)


def run_evaluate(arguments: argparse.Namespace) -> None:
    """Measure, and record the scores where asked."""
    from .evaluation import tinybench
    from .evaluation.record import record_scores

    tinybench.run(arguments)
    if arguments.record:
        record_scores(arguments.weights, arguments.out / "tinybench.json")


def build_parser(command: str = "") -> argparse.ArgumentParser:
    """All commands, in the order in which they are used."""
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="command")
    add_tiny(commands)
    add_recipes(commands)
    add_precompute(commands)
    add_train(commands)
    add_export(commands)
    add_import_reference(commands)
    add_evaluate(commands, asked=command == "evaluate")
    add_ablation(commands)
    add_dreambench(commands, asked=command == "dreambench")
    return parser


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line and run one command."""
    words = sys.argv[1:] if arguments is None else arguments
    parsed = build_parser(words[0] if words else "").parse_args(words)
    parsed.run(parsed)


if __name__ == "__main__":
    main()
