"""``python -m training recipes``."""

from __future__ import annotations

import argparse
from dataclasses import fields

from ..recipes.configuration import TrainingRecipe
from ..recipes.named import FROM_SCRATCH, RECIPES, recipe_named
from ..recipes.settings import with_settings
from .options import add_settings

GIB = 2**30
RATE = 50e12  # floating-point operations a second, for an example
HELP = """\
list the recipes, or show one with all its settings

A recipe is a complete configuration; --set changes single settings.

Examples
  python -m training recipes                                 all recipes, one line each
  python -m training recipes one_gpu_sd2                     every setting of one
  python -m training recipes one_gpu_sd2 --set num_subjects=4 --set map_loss=l1
  python -m training recipes one_gpu_sd2 --cost --set micro_batch_size=4

--cost counts what a step takes of a GPU, without one: every tensor of the real loop, none of them
filled, and every matrix product. Latents and tokens are taken to be computed before (`precompute`).
It knows nothing of what CUDA itself, its kernels' workspaces and gaps between tensors take: leave
them some room.

The paper's ablations are settings (its table 3): location_control=false (c), box_coordinates=false
(d), adapter=false (e), map_loss=off (f), image_cls=false (g). What each setting means is written in
training/recipes/configuration.py and, of an adapter's options, in
subject_diffusion_core/adapter_options.py. Settings that contradict each other are refused here,
too.
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Which recipe, with what changed."""
    parser.add_argument("name", nargs="?", help="the recipe to show")
    add_settings(parser)
    parser.add_argument(
        "--cost", action="store_true", help="count memory and arithmetic instead (a minute)"
    )


def run(arguments: argparse.Namespace) -> None:
    """Print."""
    if arguments.cost and arguments.name in (None, FROM_SCRATCH):
        raise ValueError(
            "--cost: expected a recipe for Stable Diffusion, got "
            f"{arguments.name or 'none'}. Name one, such as one_gpu_sd2."
        )
    if arguments.name is None:
        print(f"{FROM_SCRATCH:<14} the small model of this repository, from nothing "
              "(`python -m training tiny`)")  # fmt: skip
        for name, recipe in RECIPES.items():
            print(f"{name:<14} {recipe.summary}")
        return
    if arguments.name == FROM_SCRATCH:
        from ..toy.recipe import TinyRecipe

        for name, value in TinyRecipe().as_dict().items():
            print(f"{name:<26} {value}")
        return
    recipe = with_settings(recipe_named(arguments.name), arguments.settings)
    if arguments.cost:
        return print_cost(recipe)
    width = max(len(field.name) for field in fields(recipe))
    for name, value in recipe.as_dict().items():
        print(f"{name:<{width}} {value}")


def print_cost(recipe: TrainingRecipe) -> None:
    """The parts of a step's memory, a line each, in GiB, and its arithmetic."""
    from ..loop.step_cost import count_memory, count_sample_flops

    memory, flops = count_memory(recipe), count_sample_flops(recipe)
    print(
        f"{recipe.name}: GPU memory of a step at its fullest, in GiB, counted without a GPU "
        f"(micro-batch {recipe.micro_batch_size}, {recipe.num_subjects} subjects)"
    )
    rows = {field.name: getattr(memory, field.name) for field in fields(memory)}
    for name, size in {**rows, "together": memory.total}.items():
        print(f"  {name:<12} {size / GIB:6.2f}")
    count = recipe.num_processes
    operations = recipe.steps * recipe.global_batch_size * flops
    print(
        f"arithmetic: {flops / 1e12:.3g} TFLOP a sample, so {recipe.steps} steps of "
        f"{recipe.global_batch_size} take {operations / (RATE * count) / 3600:.3g} hours on "
        f"{count} GPU{'s' if count > 1 else ''} at {RATE / 1e12:.0f} TFLOP/s"
    )
