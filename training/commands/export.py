"""``python -m training export``: an adapter file for ComfyUI."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from .options import add_path

if TYPE_CHECKING:
    from ..loop.trained import TrainedModel

HELP = """\
make the adapter file of a run

Makes one .safetensors file that ComfyUI's nodes load.

Example
  python -m training export --run runs/mine --out ComfyUI/models/subject_diffusion/mine.safetensors

Takes the newest whole checkpoint of the run (--step for another one) and its moving average, so it
also works while the run goes on. The base is read again from the path the run was started with;
--base names another place. The file carries the recipe, the step and the data's counts.
In ComfyUI: put it into models/subject_diffusion, load it with Subject-Diffusion Adapter Loader, and
the base with ComfyUI's own loader.
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The run, the file, which of its weights."""
    add_path(parser, "--run", "the run's folder", required=True, dest="run_folder")
    add_path(parser, "--out", "the file to write", required=True)
    parser.add_argument("--step", type=int, help="a checkpoint other than the newest")
    add_path(parser, "--base", "where the base is now, if it was moved")
    parser.add_argument(
        "--no-ema", action="store_true", help="the weights themselves, not their average"
    )
    parser.add_argument("--int8", action="store_true", help="large weights as int8: half the size")


def run(arguments: argparse.Namespace) -> None:
    """Build the model, put the checkpoint's weights in, write the file."""
    from ..bases.loading import load_base
    from ..loop.trained import load_trained
    from ..recipes import TrainingRecipe

    folder = find_checkpoint(arguments.run_folder, arguments.step)
    saved = json.loads((arguments.run_folder / "config.json").read_text(encoding="utf-8"))
    recipe = TrainingRecipe(**saved["recipe"])
    places = {name: Path(place) for name, place in saved["places"].items()}
    source = arguments.base or places.get("base")
    base = load_base(source, recipe)
    trained = load_trained(folder, base, recipe, places.get("init"), not arguments.no_ema)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    has_adapter = recipe.has_references or recipe.location_control
    if recipe.train_base:
        beside = arguments.out.with_suffix(".base.safetensors")
        export_base(trained, source, beside if has_adapter else arguments.out)
    if has_adapter:
        trained.write_adapter(arguments.out, arguments.int8)
        print(f"{arguments.out}: the adapter of {folder}")


def export_base(trained: TrainedModel, source: Path | None, out: Path) -> None:
    """The base that a run has trained, too, which began as ``source``."""
    from subject_diffusion_core.tiny import tiny_base

    if trained.recipe.base_family != "tiny" or source is None:
        raise ValueError(
            f"--run: expected a small base among the runs that train their base, got "
            f"{trained.recipe.base_family}, whose base has no file format here. Its weights are in "
            "the run's checkpoints."
        )
    tiny_base.save(out, trained.tiny_base(source))
    print(f"{out}: the base of step {trained.snapshot.step}")


def find_checkpoint(run: Path, step: int | None) -> Path:
    """The checkpoint to export."""
    from ..loop.checkpoints import list_checkpoints, newest_intact

    folder = newest_intact(run) if step is None else run / "checkpoints" / f"step-{step:08d}"
    if folder is None or not folder.is_dir():
        steps = ", ".join(str(int(p.name.split("-")[1])) for p in list_checkpoints(run)) or "none"
        raise FileNotFoundError(
            f"--run: expected a checkpoint in {run}, got {'none' if step is None else step} (there "
            f"are: {steps}). Train first, or name one of these with --step."
        )
    return folder
