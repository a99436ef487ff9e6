"""``python -m training precompute``."""

from __future__ import annotations

import argparse

from ..dataset.pictures_list import ListedPicture, read_list, split_held_out
from ..recipes import recipe_named, with_settings
from .options import add_path, add_settings

HELP = """\
turn your pictures with masks into shards

Makes shards of a list of pictures, with features computed once.

One JSON object a line, paths relative to the file:
  {"picture": "rex1.jpg", "caption": "a dog on a beach",
   "subjects": [{"label": "dog", "mask": "rex1_mask.png", "identity": "rex"}]}
caption   describes the whole picture and contains every label
label     one word or two
mask      a picture of the same size, white where the subject is; may be left out if the picture has
          an alpha channel (a cut-out)
identity  any text, the same for pictures of the same thing: training then takes the reference from
          another picture than the target. May be left out.

Writes OUT/train/*.tar and OUT/held-out/*.tar (subjects that training never sees, for sheets).
Pictures become squares of the recipe's resolution, cropped around their subjects. What cannot be
used is named and counted. Finished shards are kept when the command runs again.

--features latents,tokens computes what the VAE and the image encoder give once, so that neither is
needed while training: for ViT-H 0.65 MB per subject and variant. --features none computes nothing.
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The list, the shards, what is computed for them."""
    add_path(parser, "--jsonl", "list of your pictures", required=True)
    add_path(parser, "--out", "folder for the shards", required=True)
    parser.add_argument("--recipe", required=True, help="the recipe they are for (its resolution)")
    add_path(parser, "--base", "base model, for latents")
    add_path(parser, "--vision", "CLIP ViT-H/14 file, for tokens")
    parser.add_argument("--features", default="latents,tokens", help="latents,tokens or none")
    parser.add_argument("--variants", type=int, default=4, help="references kept per subject")
    parser.add_argument("--held-out", type=int, help="number of subjects to hold out")
    parser.add_argument("--samples-per-shard", type=int, default=500)
    add_settings(parser)


def parse_features(text: str) -> set[str]:
    """``latents,tokens``, one of them, or ``none``."""
    wanted = set() if text == "none" else {part.strip() for part in text.split(",")}
    if not wanted <= {"latents", "tokens"}:
        raise ValueError(
            f"--features: expected latents,tokens or one of them or none, got {text!r}. Correct it."
        )
    return wanted


def require_at_least(name: str, value: int | None, least: int) -> None:
    """Refuse a number that is too small."""
    if value is not None and value < least:
        raise ValueError(
            f"--{name.replace('_', '-')}: expected {least} or more, got {value}. Give another."
        )


def say_what_is_odd(pictures: list[ListedPicture], has_held_out: bool, asked: int | None) -> None:
    """What is taken as it is, but rarely meant."""
    unnamed = [(p.number, label) for p in pictures for label in p.unnamed_labels()]
    if unnamed:
        number, label = unnamed[0]
        print(
            f"warning: {len(unnamed)} labels are not in their captions, the first in line {number} "
            f"({label!r}). Captions that name their subjects train better."
        )
    if not has_held_out and asked is None:
        print(
            "no subjects are held out, so there will be no sample sheets: that takes ten subjects "
            "or more, or --held-out N."
        )


def run(arguments: argparse.Namespace) -> None:
    """Read the list, split it, write both folders."""
    recipe = with_settings(recipe_named(arguments.recipe), arguments.settings)
    wanted = parse_features(arguments.features)
    for name, least in (("variants", 1), ("samples_per_shard", 1), ("held_out", 0)):
        require_at_least(name, getattr(arguments, name), least)
    training, held_out = split_held_out(read_list(arguments.jsonl), arguments.held_out)
    say_what_is_odd(training + held_out, bool(held_out), arguments.held_out)
    import torch

    from ..bases.encoders import move
    from ..bases.loading import load_base
    from ..bases.vision import load_vision
    from ..dataset.precompute import FeatureMaker, write_shards

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    needs_base = bool(wanted) and (recipe.base_family == "tiny" or "latents" in wanted)
    base = load_base(arguments.base, recipe) if needs_base or recipe.random_base else None
    vae = base.load_vae() if base is not None and "latents" in wanted else None
    vision = load_vision(arguments.vision, recipe, base) if "tokens" in wanted else None
    for network in (vae, vision):
        if network is not None:
            move(network, device)
    maker = FeatureMaker(
        recipe=recipe, vae=vae, vision=vision, variants=arguments.variants, device=device
    )
    for name, pictures in (("train", training), ("held-out", held_out)):
        folder, size = arguments.out / name, arguments.samples_per_shard
        samples, skipped = write_shards(pictures, folder, maker, size)
        print(f"{name}: {samples} of {len(pictures)} pictures")
        for reason, count in skipped.most_common():
            print(f"  left out: {count} x {reason}")
