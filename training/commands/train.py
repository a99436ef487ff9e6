"""``python -m training train``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..loop.stopping import RunStopped
from ..recipes import RECIPES, recipe_named, with_settings
from .parser import Commands, add_command, add_settings

STOPPED_STATUS = 130  # as the shell has it for Ctrl-C
EPILOG = """\
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


def add_train(commands: Commands) -> None:
    """``train``: a recipe on your data."""
    parser = add_command(
        commands,
        "train",
        run_train,
        help="train an adapter on your own shards",
        description="Trains a recipe on a base model and a folder of shards, and resumes.",
        epilog=EPILOG,
    )
    names = ", ".join(RECIPES)
    parser.add_argument("--recipe", required=True, help=f"one of {names}; see `recipes`")
    parser.add_argument("--data", type=Path, required=True, help="folder of .tar shards")
    parser.add_argument("--out", type=Path, required=True, help="the run's folder")
    parser.add_argument(
        "--base", type=Path, help="base model on this machine: diffusers folder or single file"
    )
    parser.add_argument(
        "--vision", type=Path, help="CLIP ViT-H/14 file; not needed for shards with tokens"
    )
    parser.add_argument("--init", type=Path, help="adapter to start from instead of from nothing")
    add_settings(parser)
    parser.add_argument(
        "--minutes", type=float, help="stop after so many, with a checkpoint to go on from"
    )


def run_train(arguments: argparse.Namespace) -> None:
    """Check, then train."""
    try:
        recipe = with_settings(recipe_named(arguments.recipe), arguments.settings)
        if arguments.minutes is not None and not 0 < arguments.minutes < float("inf"):
            raise ValueError(f"--minutes: expected more than 0, got {arguments.minutes}. Raise it.")
        check_paths(arguments, needs_base=not recipe.random_base)
        from ..loop.launch import RunOptions
        from ..loop.run import train

        train(
            RunOptions(
                recipe=recipe,
                data=arguments.data,
                out=arguments.out,
                base=arguments.base,
                vision=arguments.vision,
                init=arguments.init,
                minutes=arguments.minutes,
            )
        )
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
