"""``python -m training ablation``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..evaluation.ablation.variants import FULL, NAMES, VARIANTS, with_compared
from .parser import Commands, add_command

STARTS = ("fresh", "weights")
NEEDED = ("cutouts.json", "backgrounds.json", "composites-train/references.safetensors")
EPILOG = """\
Variants
{variants}
The letters are the rows of the paper's table 3. `full` is always there: every other variant is
compared with it, query by query; `no_adapter_no_image_cls` with `no_adapter`.

Example: a first look
  python -m training ablation --work .dev/tiny --weights weights --out ablation \\
      --start weights --steps 200 --count 100
The same, but as the paper does it, every variant from new parts
  python -m training ablation --work .dev/tiny --weights weights --out ablation-fresh
One CPU core took about 1.9 s a step and 1 s a picture: 80 minutes for the first look at all
variants, nine hours for the other. Training uses a CUDA device if there is one.

--work needs the data and tables of `python -m training tiny`. Both starts train on the frozen base
of --weights, which was itself trained together with all parts. `--start weights` goes on from the
adapter there without the part: cheap, but what was learnt with the part is still in the weights,
so small differences say little.

Writes OUT/ablation.md and OUT/ablation.json after every variant, and OUT/VARIANT/ with its
weights, pictures and contact sheets. Stopped at any moment, the same command goes on: finished
trainings and finished rows are kept. More variants, or another --count, may be asked for later in
the same folder; other weights, --start, --steps or --learning-rate need another one.
"""


def add_ablation(commands: Commands) -> None:
    """``ablation``: the paper's table 3 on TinyBench."""
    listed = "".join(
        f"  {v.name:<21} {v.title}{f' ({v.paper_row})' if v.paper_row else ''}\n" for v in VARIANTS
    )
    parser = add_command(
        commands,
        "ablation",
        run_ablation,
        help="the paper's table 3 on TinyBench: train and measure the tiny model without each part",
        description="Trains the tiny model's adapter once for each variant and measures all of\n"
        "them on the same held-out queries.",
        epilog=EPILOG.format(variants=listed),
    )
    parser.add_argument(
        "--work", type=Path, default=Path(".dev/tiny"), help="data and tables (default: .dev/tiny)"
    )
    parser.add_argument(
        "--weights", type=Path, default=Path("weights"), help="both files (default: weights)"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for everything made here")
    parser.add_argument(
        "--variants", nargs="+", choices=NAMES, default=NAMES, metavar="VARIANT", help="see below"
    )
    parser.add_argument(
        "--start", choices=STARTS, default="fresh",
        help="what the parts start from: nothing, or the adapter in --weights (default: fresh)",
    )  # fmt: skip
    parser.add_argument(
        "--steps", type=positive, help="of each training (default: fresh 2000, weights 400)"
    )
    parser.add_argument(
        "--learning-rate", type=rate, help="its peak (default: fresh 8e-4, weights 3e-4)"
    )
    parser.add_argument(
        "--count", type=positive, default=200, help="queries of each row (default: 200)"
    )
    parser.add_argument(
        "--sampling-steps", type=positive, default=20, help="of each picture (default: 20)"
    )
    parser.add_argument(
        "--precision",
        choices=("float32", "bfloat16"),
        default="float32",
        help="of sampling (default: float32)",
    )


def positive(text: str) -> int:
    """A whole number of 1 or more."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of 1 or more, got {text}")
    return number


def rate(text: str) -> float:
    """A number above 0."""
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text}")
    return number


def run_ablation(arguments: argparse.Namespace) -> None:
    """Check, then train and measure."""
    check_paths(arguments.work, arguments.weights)
    from ..evaluation.ablation.variant_training import VariantTraining
    from ..evaluation.pictures import SamplingSettings

    training = VariantTraining(
        work=arguments.work,
        weights=arguments.weights,
        start=arguments.start,
        steps=arguments.steps,
        learning_rate=arguments.learning_rate,
    )
    settings = SamplingSettings(steps=arguments.sampling_steps, precision=arguments.precision)
    train_and_measure(training, settings, arguments.variants, arguments.count, arguments.out)
    print((arguments.out / "ablation.md").read_text(encoding="utf-8"))


def check_paths(work: Path, weights: Path) -> None:
    """Refuse missing files before anything is loaded."""
    for name in ("tiny_base.safetensors", "tiny_adapter.safetensors"):
        if not (weights / name).is_file():
            raise FileNotFoundError(
                f"--weights: expected a folder with {name}, got {weights}, which has none. "
                "Name the folder of both weight files."
            )
    for name in NEEDED:
        if not (work / name).exists():
            raise FileNotFoundError(
                f"--work: expected the data and tables of the tiny recipe, got {work} without "
                f"{name}. Make them with `python -m training tiny --work {work}`."
            )


def train_and_measure(
    training: Any, settings: Any, variants: list[str], count: int, out: Path
) -> None:
    """All asked variants and what they are compared with: the full model and those measured before
    first, so that a report never loses a variant that it had; it is written after each of the
    others."""
    from dataclasses import asdict

    from ..evaluation.ablation.measuring import bench_folder, is_measured, measured_rows
    from ..evaluation.ablation.report import write_report
    from ..evaluation.tinybench import TinyBench

    described = {
        "start": training.start,
        "files": training.file_hashes,
        "stage": asdict(training.stage),
        "sampling": asdict(settings),
        "count": count,
    }
    scores, bench = {}, None
    names = with_compared(variants)
    asked = [v for v in VARIANTS if v.name in names]
    asked.sort(key=lambda v: (v.name != FULL, not is_measured(out, v.name)))
    last_known = sum(is_measured(out, v.name) for v in asked) - 1
    for number, variant in enumerate(asked):
        print(f"variant {variant.name}", flush=True)
        weights = training.run(variant, out / variant.name)
        folder = bench_folder(out, variant.name)
        if bench is None:
            bench = TinyBench(training.work, weights, folder, settings, count)
        bench = bench.for_weights(weights, folder)
        scores[variant.name] = measured_rows(bench)
        if number >= last_known:
            write_report(described, scores, out)
