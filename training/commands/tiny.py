"""``python -m training tiny``: from public packages to the small model, and its TinyBench."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..toy.recipe import TinyRecipe
from ..toy.text.settings import DecoderTraining
from .options import add_path

DEFAULT_WORK = Path(".dev/tiny")
REHEARSAL_WORK = Path(".dev/tiny-rehearsal")
HELP = """\
train the tiny model from the registries' packages to weights/, and measure it

Every stage resumes where it was stopped: run the same command again.

Examples
  python -m training tiny --work .dev/tiny --weights weights
  python -m training tiny --go-on-from weights --work .dev/tiny-on
  python -m training tiny --go-on-from weights --work .dev/tiny-text --text
  python -m training tiny --go-on-from weights --work .dev/tiny-decoder --decoder-steps 2000
  python -m training tiny --rehearse

Makes tiny_base.safetensors and tiny_adapter.safetensors, the small model that the nodes bring:
data, autoencoder, features of all references, joint training, the base's text stage, adapter; then
TinyBench, in WORK/bench. Hours on two CPU cores; its numbers are in training/toy/recipe.py (or
`python -m training recipes tiny`). The rehearsal goes the same way with a few steps a stage, to
see that a machine can do all of it; its weights know nothing. For your own pictures use `train`
with the recipe tiny_adapter instead.

--go-on-from takes both files of a folder: their base stays as it is, and the adapter stage begins
with their adapter, so autoencoder and joint training drop out. The result lies in WORK/weights
unless --weights says otherwise. --steps and --seed are the adapter stage's; with another seed than
the start's, training goes on with other samples and noise. With --text beside it, the base is
trained first to draw what captions say, and the adapter then on that base.

--decoder-steps, beside --go-on-from, trains the base's decoder on instead of the adapter. Latents
stay what they are, so both files still fit each other and only pictures change.
"""


def rehearsal(recipe: TinyRecipe) -> TinyRecipe:
    """The recipe with a few steps a stage."""
    few: dict[str, Any] = {"steps": 4, "warmup_steps": 1, "checkpoint_every": 2}
    decoder = replace(recipe.autoencoder, **few, num_images=256)
    return replace(
        recipe,
        num_composites=256,
        autoencoder=decoder,
        joint=replace(recipe.joint, **few),
        text=replace(
            recipe.text,
            words=replace(recipe.text.words, steps=2),
            canvas=replace(recipe.text.canvas, steps=2),
            num_pictures=64,
            training=replace(recipe.text.training, **few),
            refinement=replace(recipe.text.refinement, **few),
            decoder=DecoderTraining(steps=2, num_restored=5),
        ),
        adapter=replace(recipe.adapter, **few),
    )


def with_adapter_options(recipe: TinyRecipe, options: dict[str, int | None]) -> TinyRecipe:
    """The recipe with the adapter stage's given ``options``; those that are None stay."""
    given: dict[str, Any] = {k: v for k, v in options.items() if v is not None}
    if "steps" in given:
        given["warmup_steps"] = min(recipe.adapter.warmup_steps, given["steps"])
    return replace(recipe, adapter=replace(recipe.adapter, **given))


def check_further(options: dict[str, int | None], start: Path | None) -> None:
    """Options of a training that goes on: given with a start only, and sensible.

    Raises:
        ValueError: a sentence for the user.
    """
    given = {name: value for name, value in options.items() if value is not None}
    if given and start is None:
        raise ValueError(
            f"{', '.join(f'--{name}' for name in given)}: expected --go-on-from beside, got none. "
            "Name a folder of weights to train on, or leave this out: the recipe has its own."
        )
    for name, value in given.items():
        least = 0 if name == "seed" else 1
        if value < least:
            raise ValueError(f"--{name}: expected at least {least}, got {value}. Give another.")
    if "decoder-steps" in given and len(given) > 1:
        raise ValueError(
            "--decoder-steps: expected it without --steps, --seed and --text, which are other "
            "stages', got both. Train one after the other."
        )


def add_options(parser: argparse.ArgumentParser) -> None:
    """Where, and what to go on from."""
    add_path(parser, "--work", f"folder for all stages (default {DEFAULT_WORK})")
    add_path(parser, "--weights", "where to write (default weights)")
    add_path(parser, "--go-on-from", "train this folder's adapter on", metavar="FOLDER")
    parser.add_argument("--steps", type=int, help="of the adapter stage, with --go-on-from")
    parser.add_argument("--seed", type=int, help="of the adapter stage, with --go-on-from")
    parser.add_argument(
        "--text", action="store_true", help="the text stage before, with --go-on-from"
    )
    parser.add_argument(
        "--decoder-steps", type=int, help="train the decoder on instead, with --go-on-from"
    )
    add_path(parser, "--packages", "folder of packages downloaded before")
    parser.add_argument(
        "--rehearse",
        action="store_true",
        help=f"a few steps a stage; defaults: {REHEARSAL_WORK} and its folder weights",
    )


def run(arguments: argparse.Namespace) -> None:
    """Data, autoencoder, features and latents, joint training, adapter, files, TinyBench."""
    import torch

    from ..evaluation.rows import DEFAULT_COUNT, SamplingSettings
    from ..evaluation.tinybench import TinyBench
    from ..precision import fastest_precision
    from ..toy.stages import run_all, run_stored_decoder
    from ..toy.stored_start import read_stored_start

    recipe, num_queries = TinyRecipe(), DEFAULT_COUNT
    work, weights = arguments.work or DEFAULT_WORK, arguments.weights or Path("weights")
    if arguments.rehearse:
        recipe, num_queries = rehearsal(recipe), 2
        work = arguments.work or REHEARSAL_WORK
    if arguments.go_on_from or arguments.rehearse:
        weights = arguments.weights or work / "weights"
    if arguments.go_on_from and weights.resolve() == arguments.go_on_from.resolve():
        raise ValueError(
            f"--weights: expected another folder than --go-on-from, got {weights} for both. "
            "Choose a new one, so that the start stays as it is."
        )
    options = {"steps": arguments.steps, "seed": arguments.seed}
    decoder_steps = {"decoder-steps": arguments.decoder_steps}
    asked = {"text": 1 if arguments.text else None}
    check_further(options | decoder_steps | asked, arguments.go_on_from)
    start = arguments.go_on_from and read_stored_start(arguments.go_on_from)
    recipe = with_adapter_options(recipe, options)
    if arguments.decoder_steps is None:
        run_all(
            work,
            weights,
            recipe,
            packages=arguments.packages,
            start=start,
            text=arguments.text,
        )
    else:
        run_stored_decoder(
            work,
            weights,
            recipe,
            start,
            steps=arguments.decoder_steps,
            packages=arguments.packages,
        )
    settings = SamplingSettings(precision=fastest_precision(torch.device("cpu")))
    TinyBench(work, weights, work / "bench", settings, num_queries).measure_all()
