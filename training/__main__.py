"""``python -m training``: the commands that make and measure weights."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from .ablation.command import add_ablation
from .dataset.command import add_precompute
from .exporting import add_export, add_import_reference
from .loop.command import add_train
from .recipes.command import add_recipes

DEFAULT_WORK = Path(".dev/tiny")
TINY_EPILOG = """\
Example
  python -m training tiny --work .dev/tiny --weights weights

Makes tiny_base.safetensors and tiny_adapter.safetensors, the small model that the nodes bring:
data, autoencoder, tables of latents and features, joint training, adapter. Hours on two CPU cores;
its numbers are in training/tiny/recipe.py (or `python -m training recipes tiny`). For your own
pictures use `train` with the recipe tiny_adapter instead.
"""
EVALUATE_EPILOG = """\
Example
  python -m training evaluate --work .dev/tiny --weights weights --out bench

Needs the data of `python -m training.data.build` (or of `tiny`). Subjects, prompts, boxes and seeds
are fixed and took no part in training; the README explains the rows.
"""


def add_tiny(commands: argparse._SubParsersAction) -> None:
    """``tiny``: the whole recipe of the weights in this repository."""
    parser = commands.add_parser(
        "tiny",
        help="train the tiny model from the registries' packages to weights/",
        description="Every stage resumes where it was stopped: run the same command again.",
        epilog=TINY_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--work", type=Path, default=DEFAULT_WORK, help="folder for all stages")
    parser.add_argument("--weights", type=Path, default=Path("weights"), help="where to write")
    parser.add_argument("--packages", type=Path, help="folder of packages downloaded before")
    parser.add_argument("--composites", type=int, default=60_000, help="training pictures")
    parser.set_defaults(run=run_tiny)


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
        help="DINO, CLIP-I and CLIP-T on DreamBench, with your copies of data and encoders",
        description="First `jobs`: what to generate, for `dev.py generate --jobs`. Then `score`.",
    )
    if asked:
        from .evaluation.dreambench import command

        command.add_arguments(parser)
        parser.set_defaults(run=command.run)


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
