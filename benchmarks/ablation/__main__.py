"""The paper's table 3 on TinyBench: train and measure the small model without each part.

Trains the small model's adapter once for each variant and measures all of them on the same held-out
queries.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from training.commands.options import add_path
from training.commands.running import ALL_EXTRAS, run_command
from training.evaluation.rows import DEFAULT_COUNT, PRECISIONS, SamplingSettings

from .variants import BY_NAME, VARIANTS

NEEDED = ("cutouts.json", "backgrounds.json", "composites-train/references.safetensors")
LISTED = "".join(
    f"  {v.name:<21} {v.title}{f' ({v.paper_row})' if v.paper_row else ''}\n" for v in VARIANTS
)
MORE = f"""\
Variants
{LISTED}
The letters are the rows of the paper's table 3. `full` is always there: every other variant is
compared with it, query by query; `no_adapter_no_image_cls` with `no_adapter`.

Example: a first look
  python -m benchmarks.ablation --work .dev/tiny --weights weights --out ablation \\
      --start weights --steps 200 --count 100
The same, but as the paper does it, every variant from new parts
  python -m benchmarks.ablation --work .dev/tiny --weights weights --out ablation-fresh
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


def build_parser() -> argparse.ArgumentParser:
    """Which variants, how they are trained and measured."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.ablation",
        description=__doc__,
        epilog=MORE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run, extras=ALL_EXTRAS)
    names, add = tuple(BY_NAME), parser.add_argument
    add_path(parser, "--work", "data and tables (default: .dev/tiny)", default=Path(".dev/tiny"))
    add_path(parser, "--weights", "both files (default: weights)", default=Path("weights"))
    add_path(parser, "--out", "folder for everything made here", required=True)
    add("--variants", nargs="+", choices=names, default=names, metavar="VARIANT", help="see below")
    add(
        "--start", choices=("fresh", "weights"), default="fresh",
        help="what the parts start from: nothing, or the adapter in --weights (default: fresh)",
    )  # fmt: skip
    add("--steps", type=positive, help="of each training (default: fresh 2000, weights 400)")
    add("--learning-rate", type=rate, help="its peak (default: fresh 8e-4, weights 3e-4)")
    add("--count", type=positive, default=DEFAULT_COUNT, help="queries of each row (default: 200)")
    add("--sampling-steps", type=positive, default=20, help="of each picture (default: 20)")
    add(
        "--precision", choices=PRECISIONS, default="float32", help="of sampling (default: float32)"
    )  # fmt: skip
    return parser


def run(arguments: argparse.Namespace) -> None:
    """Check, then train and measure."""
    check_paths(arguments.work, arguments.weights)
    from .run import Ablation

    names = ("work", "weights", "start", "steps", "learning_rate")
    ablation = Ablation(**{name: getattr(arguments, name) for name in names})
    settings = SamplingSettings(steps=arguments.sampling_steps, precision=arguments.precision)
    ablation.train_and_measure(arguments.variants, settings, arguments.count, arguments.out)
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


def main(arguments: Sequence[str] | None = None) -> None:
    run_command(build_parser, arguments)


if __name__ == "__main__":
    main()
