"""The command line of `dev.py tune`."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Protocol

from .console import Progress
from .server import ComfyServer
from .tuning import TuningCommand, TuningJob

# Inputs of Tune Embedding that the command line may set, and their types.
TUNING_OPTIONS: dict[str, type] = {
    "steps": int,
    "steps_per_set": int,
    "num_sets": int,
    "learning_rate": float,
    "regularization": float,
    "num_vectors": int,
    "batch_size": int,
    "seed": int,
    "caption": str,
    "picture_size": int,
}
TINY_PICTURE_SIZE = 128


class ServesComfy(Protocol):
    """The command line's Workshop."""

    def server(self) -> contextlib.AbstractContextManager[ComfyServer]: ...


def add_tune_parser(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    open_workshop: Callable[[Progress], ServesComfy],
) -> None:
    parser = commands.add_parser("tune", help="a subject's embedding from its pictures")
    parser.add_argument(
        "--image", action="append", required=True, metavar="FILE", help="once per picture"
    )
    parser.add_argument(
        "--mask",
        action="append",
        default=[],
        metavar="FILE",
        help="once per picture, white where the subject is; without it, a PNG's alpha",
    )
    parser.add_argument("--label", required=True, help="what it is, such as dog")
    parser.add_argument("--out", required=True, metavar="FILE.safetensors")
    parser.add_argument(
        "--checkpoint", metavar="FILE", help="a Stable Diffusion; default: the small model"
    )
    for name, kind in TUNING_OPTIONS.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, help="as of Tune Embedding")
    parser.set_defaults(run=partial(tune, open_workshop))


def tune(
    open_workshop: Callable[[Progress], ServesComfy],
    options: argparse.Namespace,
    progress: Progress,
) -> int:
    """A subject's embedding from its pictures."""
    job = job_of(options)
    with open_workshop(progress).server() as server:
        TuningCommand(server, progress).tune(job)
    return 0


def job_of(options: argparse.Namespace) -> TuningJob:
    given = {name: getattr(options, name) for name in TUNING_OPTIONS}
    inputs = {name: value for name, value in given.items() if value is not None}
    if options.checkpoint is None:
        inputs.setdefault("picture_size", TINY_PICTURE_SIZE)
    return TuningJob(
        images=tuple(map(Path, options.image)),
        masks=tuple(map(Path, options.mask)),
        label=options.label,
        out=Path(options.out),
        checkpoint=None if options.checkpoint is None else Path(options.checkpoint),
        options=inputs,
    )
