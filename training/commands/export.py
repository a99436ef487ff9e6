"""``python -m training export`` and ``import-reference``: adapter files for ComfyUI."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .parser import Commands, add_command

if TYPE_CHECKING:
    from ..loop.trained import TrainedModel

EXPORT_EPILOG = """\
Example
  python -m training export --run runs/mine --out ComfyUI/models/subject_diffusion/mine.safetensors

Takes the newest whole checkpoint of the run (--step for another one) and its moving average, so it
also works while the run goes on. The base is read again from the path the run was started with;
--base names another place. The file carries the recipe, the step and the data's counts.
In ComfyUI: put it into models/subject_diffusion, load it with Subject-Diffusion Adapter Loader, and
the base with ComfyUI's own loader.
"""
IMPORT_EPILOG = """\
Example
  python -m training import-reference --unet unet/diffusion_pytorch_model.safetensors \\
      --text-encoder clip_text/model.safetensors --mlp mlp.bin --proj proj.bin --out a.safetensors

Nothing is unpickled except plain tensors. The adapter keeps the reference's rules: its mask is
1 outside the boxes, its null tokens are zeros.
"""


def add_export(commands: Commands) -> None:
    """``export``: a run's checkpoint to one adapter file."""
    parser = add_command(
        commands,
        "export",
        run_export,
        help="make the adapter file of a run",
        description="Makes one .safetensors file that ComfyUI's nodes load.",
        epilog=EXPORT_EPILOG,
    )
    parser.add_argument(
        "--run", type=Path, required=True, dest="run_folder", help="the run's folder"
    )
    parser.add_argument("--out", type=Path, required=True, help="the file to write")
    parser.add_argument("--step", type=int, help="a checkpoint other than the newest")
    parser.add_argument("--base", type=Path, help="where the base is now, if it was moved")
    parser.add_argument(
        "--no-ema", action="store_true", help="the weights themselves, not their average"
    )
    parser.add_argument("--int8", action="store_true", help="large weights as int8: half the size")


def run_export(arguments: argparse.Namespace) -> None:
    """Build the model, put the checkpoint's weights in, write the file."""
    folder = find_checkpoint(arguments.run_folder, arguments.step)
    trained = trained_of(arguments.run_folder, folder, arguments.base, not arguments.no_ema)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    if trained.recipe.train_base:
        export_base(arguments, trained)
    if trained.recipe.has_references or trained.recipe.location_control:
        trained.write_adapter(arguments.out, arguments.int8)
        print(f"{arguments.out}: the adapter of {folder}")


def export_base(arguments: argparse.Namespace, trained: TrainedModel) -> None:
    """The base that a run has trained, too: alone as OUT, or beside the adapter."""
    from subject_diffusion_core.tiny import tiny_base

    source = base_of(arguments.run_folder, arguments.base)
    if trained.recipe.base_family != "tiny" or source is None:
        raise ValueError(
            f"--run: expected a small base among the runs that train their base, got "
            f"{trained.recipe.base_family}, whose base has no file format here. Its weights are in "
            "the run's checkpoints."
        )
    alone = not (trained.recipe.has_references or trained.recipe.location_control)
    out = arguments.out if alone else arguments.out.with_suffix(".base.safetensors")
    tiny_base.save(out, trained.tiny_base(source))
    print(f"{out}: the base of step {trained.snapshot.step}")


def base_of(run: Path, moved: Path | None) -> Path | None:
    """The base that a run was started with, or where it has moved."""
    places = saved_run(run)[1]
    return moved or (Path(places["base"]) if "base" in places else None)


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


def saved_run(run: Path) -> tuple[Any, dict[str, str]]:
    """The recipe and the paths that a run was started with."""
    from ..recipes import TrainingRecipe

    content = json.loads((run / "config.json").read_text(encoding="utf-8"))
    return TrainingRecipe(**content["recipe"]), content["places"]


def trained_of(run: Path, folder: Path, base_path: Path | None, use_ema: bool) -> TrainedModel:
    """The model of a checkpoint folder, on the run's base, or on where that has moved."""
    from ..bases.loading import load_base
    from ..loop.trained import load_trained

    recipe, places = saved_run(run)
    base_path = base_of(run, base_path)
    init = Path(places["init"]) if "init" in places else None
    return load_trained(folder, load_base(base_path, recipe), recipe, init, use_ema)


def add_import_reference(commands: Commands) -> None:
    """``import-reference``: the four files of the authors' public code."""
    parser = add_command(
        commands,
        "import-reference",
        run_import_reference,
        help="make an adapter file of weights from the authors' public code",
        description="Turns the four files of the authors' training code into one adapter file.",
        epilog=IMPORT_EPILOG,
    )
    for name, text in (
        ("unet", "the gated UNet with 5 input channels"),
        ("text-encoder", "the retrained CLIP text model"),
        ("mlp", "projector of the image embedding"),
        ("proj", "grounding net"),
    ):
        parser.add_argument(f"--{name}", type=Path, required=True, help=text)
    parser.add_argument("--num-subjects", type=int, default=2, help="slots it was trained with")
    parser.add_argument("--out", type=Path, required=True, help="the file to write")


def run_import_reference(arguments: argparse.Namespace) -> None:
    """Read, check, write."""
    from subject_diffusion_core import checkpoint

    for name in ("unet", "text_encoder", "mlp", "proj"):
        path = getattr(arguments, name)
        if not path.is_file():
            raise FileNotFoundError(
                f"--{name.replace('_', '-')}: expected a file, got {path}, where none is. "
                "Correct the path."
            )
    adapter = checkpoint.import_reference(
        arguments.unet,
        arguments.text_encoder,
        arguments.mlp,
        arguments.proj,
        num_subjects=arguments.num_subjects,
    )
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    checkpoint.save(arguments.out, adapter)
    print(f"{arguments.out}: {adapter.config.base_family}, {adapter.config.num_subjects} subjects")
