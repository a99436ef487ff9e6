"""``python -m training train``."""

from __future__ import annotations

import argparse
import sys

from ..loop.stopping import RunStopped
from ..recipes import RECIPES, recipe_named, with_settings
from .options import add_path, add_settings

STOPPED_STATUS = 130  # as the shell has it for Ctrl-C
HELP = """\
train an adapter on your own shards

Trains a recipe on a base model and a folder of shards, and resumes.

Example: three commands from a folder of pictures to a file that ComfyUI loads
  python -m training precompute --jsonl pictures.jsonl --out shards --recipe tiny_adapter \\
      --base weights/tiny_base.safetensors
  python -m training train --recipe tiny_adapter --base weights/tiny_base.safetensors \\
      --data shards/train --out runs/mine --init weights/tiny_adapter.safetensors
  python -m training export --run runs/mine --out adapter.safetensors

Stopped at any moment, the same command goes on from the newest checkpoint.
Several GPUs: `accelerate launch -m training train ...` or `torchrun -m training train ...`; the
batch of a step (global_batch_size) stays the same whatever their number.
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The recipe, the data, what the run starts from."""
    names = ", ".join(RECIPES)
    parser.add_argument("--recipe", required=True, help=f"one of {names}; see `recipes`")
    add_path(parser, "--data", "folder of .tar shards", required=True)
    add_path(parser, "--out", "the run's folder", required=True)
    add_path(parser, "--base", "base model on this machine: diffusers folder or single file")
    add_path(parser, "--vision", "CLIP ViT-H/14 file; not needed for shards with tokens")
    add_path(parser, "--init", "adapter to start from instead of from nothing")
    add_settings(parser)
    parser.add_argument(
        "--minutes", type=float, help="stop after so many, with a checkpoint to go on from"
    )


def run(arguments: argparse.Namespace) -> None:
    """Check, then train."""
    try:
        recipe = with_settings(recipe_named(arguments.recipe), arguments.settings)
        if arguments.minutes is not None and not 0 < arguments.minutes < float("inf"):
            raise ValueError(f"--minutes: expected more than 0, got {arguments.minutes}. Raise it.")
        check_paths(arguments, needs_base=not recipe.random_base)
        from ..loop.launch import RunOptions
        from ..loop.run import train

        names = ("data", "out", "base", "vision", "init", "minutes")
        train(RunOptions(recipe=recipe, **{name: getattr(arguments, name) for name in names}))
    except (RunStopped, KeyboardInterrupt) as stopped:
        print(str(stopped) or "stopped; the same command goes on from the newest checkpoint")
        sys.exit(STOPPED_STATUS)


def check_paths(arguments: argparse.Namespace, needs_base: bool) -> None:
    """Refuse missing files before anything is loaded."""
    if needs_base and arguments.base is None:
        raise FileNotFoundError(
            f"--base: expected a diffusers folder or a checkpoint file for {arguments.recipe}, got "
            "nothing. Pass the path of one on this machine."
        )
    for name in ("data", "base", "vision", "init"):
        path = getattr(arguments, name)
        if path is not None and not path.exists():
            raise FileNotFoundError(
                f"--{name}: expected a path on this machine, got {path}, where nothing is. "
                "Correct the path."
            )
