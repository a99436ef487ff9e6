"""Which recipe makes the small base draw objects and scenes from text: variants under one budget.

    python -m benchmarks.text_base limits --work .dev/tiny --out FOLDER
    python -m benchmarks.text_base words shipped --work .dev/tiny --out FOLDER
    python -m benchmarks.text_base measure shipped --work .dev/tiny --out FOLDER
    python -m benchmarks.text_base measure VARIANT --work .dev/tiny --out FOLDER --tera 30
    python -m benchmarks.text_base restore VARIANT --work .dev/tiny --out FOLDER --tera 30
    python -m benchmarks.text_base export VARIANT --out FOLDER --tera 30 --weights FOLDER
    python -m benchmarks.text_base table --out FOLDER --write docs/small_base.md

`limits` scores real composites of the same questions, and those through the autoencoder. `words`
says how much of the looks of labels and scenes can be read from the text encoder's states, of the
stored base or after a variant's lesson. `measure`
trains a variant (variants.py) in the common loop until the budget of arithmetic is spent (it goes
on where it was stopped), and scores what it draws from text; `shipped` is the stored base as it is.
`restore` adds noise to real typical pictures up to the timesteps `--since`, and scores what a
trained variant makes of them: where on the way from noise it loses what they show.
`export` writes a trained variant as both weight files, for `python -m training tiny --go-on-from`;
with `--decoder-steps` its decoder is trained on first, on latents as that base restores them, too.
`table` prints one table of all that was measured, and writes it into a page in the place of the old
one. Cut-outs and backgrounds in `--work` are those of `python -m training tiny`; the variants'
pictures are made beside them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from training.evaluation.metric_encoder import load_metric_encoder
from training.evaluation.pictures import through_autoencoder
from training.loop.trained import TrainedModel
from training.runs import save_array, write_json
from training.toy.data.library import load_library
from training.toy.files import ADAPTER_NAME, BASE_NAME
from training.toy.stages import TRAIN_SHARDS
from training.toy.text.decoder import decoder_under_errors
from training.toy.text.drawing import Base, plain_base, plain_model
from training.toy.text.export import mark, write_both
from training.toy.text.lessons import Start
from training.toy.text.questions import real_picture
from training.toy.text.restoring import restored_latents, typical_answers
from training.toy.text.settings import DecoderTraining, Mix
from training.toy.text.start import read_start

from ..comfyui import ROOT
from ..measured_page import measured_rows, write_page
from .budget_run import start_of_variant, train_variant
from .looking import KEYS, open_looking
from .mixes import MIXES, make_pictures
from .questions import draw_questions
from .reading import readable
from .report import sheet_of, table
from .telling import tell_apart
from .variants import AFTER_LESSON, SHIPPED, VARIANTS, Variant

MIDDLE_SIZES = (36, 44, 52, 60)
TYPICAL, TYPICAL_SIZE = MIXES["typical"], 50
BOUNDS = (
    "real", "real_vae", *(f"real_{size}_vae" for size in MIDDLE_SIZES), "real_typical_vae",
    "real_scene", "real_scene_vae",
)  # fmt: skip
WEIGHTS = ROOT / "weights"


def limits(options: argparse.Namespace) -> None:
    """Score real composites, as they are and through the autoencoder."""
    library = load_library(options.work, "train", "train")
    questions = draw_questions(library, options.count)
    looking = open_looking(options.work, load_metric_encoder())
    real = np.stack([real_picture(library, question)[0] for question in questions])
    scenes = np.stack([library.backgrounds[question.background_row] for question in questions])
    vae = read_start(options.start / BASE_NAME).load_vae()
    rows = [
        ("real", "real composites", real, KEYS),
        ("real_scene", "real scenes alone", scenes, ("scene",)),
    ]
    for percent in MIDDLE_SIZES:
        some = [real_picture(library, question, percent / 100)[0] for question in questions]
        title = f"the same, subject in the middle, {percent} % of the side"
        rows.append((f"real_{percent}", title, np.stack(some), KEYS))
    usual = typical_answers(library, options.work, questions, TYPICAL.views, TYPICAL_SIZE / 100)
    title = f"typical pictures, subject in the middle, {TYPICAL_SIZE} % of the side"
    rows.append(("real_typical", title, usual, KEYS))
    for name, title, pictures, keys in rows:
        again = through_autoencoder(vae, pictures)
        for end, said, shown in (("", "", pictures), ("_vae", " through the VAE", again)):
            scores = looking.scores(questions, shown)
            keep(options.out, name + end, title + said, {}, {key: scores[key] for key in keys})
            sheet_of(questions, shown, options.out / f"{name}{end}.png")


def words(options: argparse.Namespace) -> None:
    """Read labels and scenes from the states of the text encoder that a variant begins with."""
    if options.variant == SHIPPED:
        start = Start(read_start(options.start / BASE_NAME), 0.0)
    else:
        variant = VARIANTS[options.variant]
        start = start_of_variant(
            variant, options.work, run_folder(options), options.start / BASE_NAME
        )
    base = Base(plain_model(start.base), start.base)
    library = load_library(options.work, "train", "train")
    about = {**readable(library, options.work, base), "tera": start.tera}
    title = {SHIPPED: "the text encoder of the base it starts from"}.get(
        options.variant, "the same, after a lesson"
    )
    keep(options.out, f"words_{options.variant}", title, about, {})
    print(about)


def run_folder(options: argparse.Namespace) -> Path:
    """Where a variant is trained."""
    return Path(options.out / f"{options.variant}-{options.tera:g}")


def trained_variant(options: argparse.Namespace) -> tuple[TrainedModel, dict[str, float]]:
    """The variant, trained for its budget, and what that took."""
    variant = VARIANTS[options.variant]
    data = make_pictures(options.work, variant.mix, options.pictures)
    return train_variant(
        variant, data, run_folder(options), options.start / BASE_NAME, options.tera
    )


def export(options: argparse.Namespace) -> None:
    """Write both files of a trained variant; with ``--decoder-steps``, with a decoder trained on
    under its errors."""
    variant, trained = VARIANTS[options.variant], trained_variant(options)[0]
    decoder = None
    if options.decoder_steps:
        training = DecoderTraining(steps=options.decoder_steps, crops=options.decoder_crops)
        decoder = decoder_under_errors(
            plain_base(trained),
            options.work,
            options.work / TRAIN_SHARDS,
            typical_mix(variant),
            training,
            run_folder(options),
        )
    before, after = (
        (folder / BASE_NAME, folder / ADAPTER_NAME) for folder in (options.start, options.weights)
    )
    told = f"{history(trained, variant)}, from the base {mark(before[0])}, whose encoder it keeps"
    write_both(trained, told, decoder, before, after)


def history(trained: TrainedModel, variant: Variant) -> str:
    """What the files say of the training."""
    recipe = trained.recipe
    before = " after lessons of its text encoder" if variant.words else ""
    before += f" and the run {variant.goes_on!r}" if variant.goes_on else ""
    return (
        f"text to image{before}: {recipe.steps} steps of {recipe.global_batch_size} at "
        f"{recipe.learning_rate:g}, seed {recipe.seed}, pictures {variant.mix!r}, by "
        f"benchmarks/text_base, variant {variant.name!r}"
    )


def typical_mix(variant: Variant) -> Mix:
    """A variant's own, or ``TYPICAL`` where it shows all views."""
    own = MIXES.get(variant.mix, TYPICAL)
    return own if own.views else TYPICAL


def measure(options: argparse.Namespace) -> None:
    """Train a variant, unless it is the shipped base; score what it draws."""
    if options.variant == SHIPPED:
        start = read_start(options.start / BASE_NAME)
        base, title = Base(plain_model(start), start), "the base it starts from, as shipped"
        spent: dict[str, Any] = {}
    else:
        trained, spent = trained_variant(options)
        base, title = plain_base(trained), VARIANTS[options.variant].title
    library = load_library(options.work, "train", "train")
    questions = draw_questions(library, options.count)
    name = f"{options.variant}-{spent.get('samples', 0)}-g{options.guidance:g}-s{options.steps}"
    values = tell_apart(base, library, draw_questions(library, options.telling))
    pictures = base.draw(questions, options.steps, options.guidance)
    save_array(options.out / f"{name}.npy", pictures)
    sheet_of(questions, pictures, options.out / f"{name}.png")
    looking = open_looking(options.work, load_metric_encoder())
    about = {**spent, "guidance": options.guidance, "sampling_steps": options.steps}
    keep(options.out, name, title, about, {**values, **looking.scores(questions, pictures)})


def restore(options: argparse.Namespace) -> None:
    """Score what a trained variant makes of real typical pictures with noise, of as many views as
    its own mix has."""
    trained, spent = trained_variant(options)
    base, library = plain_base(trained), load_library(options.work, "train", "train")
    questions = draw_questions(library, options.count)
    views = typical_mix(VARIANTS[options.variant]).views
    real = typical_answers(library, options.work, questions, views, TYPICAL_SIZE / 100)
    looking = open_looking(options.work, load_metric_encoder())
    for since in options.since:
        some = questions, real, since, options.steps, options.guidance
        drawn = base.decode(restored_latents(base, *some))
        name = f"restored_{options.variant}-{spent['samples']}-t{since}"
        title = f"of the same, what it makes of {views} typical views of a scene, "
        title += f"noised to step {since} of 1000" if since else "through the VAE alone"
        about = {"guidance": options.guidance, "sampling_steps": options.steps} if since else {}
        sheet_of(questions, drawn, options.out / f"{name}.png")
        keep(options.out, name, title, about, looking.scores(questions, drawn))


def keep(
    out: Path, name: str, title: str, about: dict[str, float], values: dict[str, np.ndarray]
) -> None:
    """Store a row of the table."""
    scores = {key: value.tolist() for key, value in values.items()}
    write_json(out / f"{name}.json", {"title": title, "about": about, "scores": scores})
    print(f"{name}: " + ", ".join(f"{key} {np.mean(value):.3f}" for key, value in values.items()))


def write_table(options: argparse.Namespace) -> None:
    """The table of all rows in ``--out``: bounds, the shipped base, variants in their order."""
    own = (SHIPPED, *VARIANTS)
    drawn = (row for name in own for row in (name, f"restored_{name}"))
    order = (*BOUNDS, *(f"words_{name}" for name in own), *drawn)
    rows = measured_rows(options.out, order)
    write_page(options.write, table(rows, AFTER_LESSON.title))


ACTIONS: dict[str, Callable[[argparse.Namespace], None]] = {
    "limits": limits,
    "words": words,
    "measure": measure,
    "restore": restore,
    "export": export,
    "table": write_table,
}


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.text_base",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("action", choices=ACTIONS)
    parser.add_argument("variant", nargs="?", choices=(SHIPPED, *VARIANTS), default=SHIPPED)
    parser.add_argument("--work", type=Path, default=ROOT / ".dev" / "tiny")
    parser.add_argument("--out", type=Path, required=True, help="where runs and rows are kept")
    parser.add_argument("--tera", type=float, default=30.0, help="budget, 1e12 operations")
    parser.add_argument("--pictures", type=int, default=10_000, help="training pictures of a mix")
    parser.add_argument("--count", type=int, default=200, help="questions")
    parser.add_argument("--telling", type=int, default=288, help="questions of the loss alone")
    parser.add_argument("--steps", type=int, default=20, help="of sampling")
    parser.add_argument(
        "--since", type=int, nargs="+", default=[0, 249, 416, 666], help="restore: timesteps"
    )
    parser.add_argument(
        "--start", type=Path, default=WEIGHTS, help="both files of what variants begin with"
    )
    parser.add_argument("--weights", type=Path, help="export: where both files go")
    parser.add_argument("--decoder-steps", type=int, default=0, help="export: of its decoder")
    parser.add_argument(
        "--decoder-crops",
        type=int,
        default=DecoderTraining().crops,
        help="export: its restored crops of a step",
    )
    parser.add_argument("--write", type=Path, help="table: a page that has one already")
    parser.add_argument("--guidance", type=float, default=3.0)
    parser.add_argument("--threads", type=int, default=1, help="cores to train and draw on")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    if options.action in ("export", "restore") and options.variant == SHIPPED:
        parser.error(f"{options.action}: expected a variant, got none. Name one.")
    if options.action == "export" and options.weights is None:
        parser.error("export: expected --weights, a folder for both files. Name it.")
    ACTIONS[options.action](options)


if __name__ == "__main__":
    main(sys.argv[1:])
