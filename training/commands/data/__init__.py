"""``python -m training data``: raw pictures to training shards."""

from __future__ import annotations

import argparse

from . import convert

HELP = """\
raw pictures to training shards

Captions, boxes, masks and filters for pictures of any number, in the way of the paper's
Subject-Diffusion Dataset. docs/dataset.md walks through it.

Example: a list of COCO's pictures, in the form that `build` takes
  python -m training data convert coco --annotations instances_train2017.json \\
      --captions captions_train2017.json --pictures train2017 --out coco.jsonl
"""
COMMANDS = (convert,)


def add_options(parser: argparse.ArgumentParser) -> None:
    """A command each, with the options of its module."""
    commands = parser.add_subparsers(required=True, metavar="command")
    for module in COMMANDS:
        name = module.__name__.rpartition(".")[2]
        summary, description, epilog = module.HELP.split("\n\n", 2)
        command = commands.add_parser(
            name,
            help=summary,
            description=description,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_options(command)
        command.set_defaults(run=module.run)


def run(arguments: argparse.Namespace) -> None:
    """Never reached: each command has set its own ``run``."""
    raise AssertionError(arguments)
