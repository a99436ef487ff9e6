"""``python -m training``: the commands that make and measure weights."""

from __future__ import annotations

import argparse
from pathlib import Path

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
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
