"""``python -m training recipes``."""

from __future__ import annotations

import argparse
import sys
from dataclasses import fields

from .catalogue import FROM_SCRATCH, RECIPES, recipe_named
from .settings import with_settings

EPILOG = """\
Examples
  python -m training recipes                                 all recipes, one line each
  python -m training recipes one_gpu_sd2                     every setting of one
  python -m training recipes one_gpu_sd2 --set num_subjects=4 --set map_loss=l1

The paper's ablations are settings (its table 3): location_control=false (c), box_coordinates=false
(d), adapter=false (e), map_loss=off (f), image_cls=false (g). What each setting means is written in
training/recipes/configuration.py. Settings that contradict each other are refused here, too.
"""


def add_recipes(commands: argparse._SubParsersAction) -> None:
    """``recipes``: list them, or show one."""
    parser = commands.add_parser(
        "recipes",
        help="list the recipes, or show one with all its settings",
        description="A recipe is a complete configuration; --set changes single settings.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", nargs="?", help="the recipe to show")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="settings")
    parser.set_defaults(run=run_recipes)


def run_recipes(arguments: argparse.Namespace) -> None:
    """Print."""
    if arguments.name is None:
        print(f"{FROM_SCRATCH:<14} the small model of this repository, from nothing "
              "(`python -m training tiny`)")  # fmt: skip
        for name, recipe in RECIPES.items():
            print(f"{name:<14} {recipe().summary}")
        return
    if arguments.name == FROM_SCRATCH:
        from ..tiny.recipe import TinyRecipe

        for name, value in TinyRecipe().as_dict().items():
            print(f"{name:<26} {value}")
        return
    try:
        recipe = with_settings(recipe_named(arguments.name), arguments.settings)
    except ValueError as error:
        sys.exit(f"error: {error}")
    width = max(len(field.name) for field in fields(recipe))
    for name, value in recipe.as_dict().items():
        print(f"{name:<{width}} {value}")
