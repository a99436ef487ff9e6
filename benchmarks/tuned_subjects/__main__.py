"""HiFi Tuner's table 2 on the small model, and how much the tuning is held at the empty text.

    python -m benchmarks.tuned_subjects sweep --work .dev/tiny --out FOLDER --count 12
    python -m benchmarks.tuned_subjects report --work .dev/tiny --out FOLDER --count 40 --guided 20

All subjects are held out; the first 40 are `report`'s, and `sweep` takes those after them.
`sweep` tunes embeddings at every w_s; the best is the one with the greatest product of the cosine
gained over text alone and the share of scenes (below): a subject without its prompt is as little
use as a prompt without its subject.
`report`: a plain embedding, with the subject's mask, regularised by the
positive w_s that the sweep found best (or `--regularization`), with a set of vectors for each step,
with reference guidance (the first `--guided` subjects); fine-tuned weights, a LoRA of ComfyUI's own
Train LoRA, without and with that guidance; the adapter, text alone, and text with that guidance.
All rows of a subject have one picture of it, the same prompts, box and noise, and go through the
nodes inside ComfyUI. Measured in each picture, as in TinyBench:

cosine, top-1: of the asked box to the right subject seen from elsewhere.
scene: share of pictures that show the prompt's scene.
leak: the training photograph. The box is painted grey in the generated picture and in the training
picture alike; the metric encoder's cosine between them, less its mean to photographs of other
scenes painted alike. Text alone knows of no photograph: what its row says is chance.

Tables (ACTION/ACTION.md) and a sheet of pictures are written after every row; the same command goes
on where it stopped. `--rows` makes some rows alone, so that several processes can share the work;
the command without it then finds what they made. The folder of `--work` holds the pictures that
`python -m training tiny` or `python -m benchmarks.trained_heads data` makes.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from training.runs import write_json, write_text

from ..comfyui import ROOT
from ..structure.in_process import InProcessHost, in_process_host
from .bench import Bench
from .regularization import best_regularization, choice
from .report import Scores, resolved, table
from .rows import REGULARIZED, SCALES, Row, Sizes, report_rows, sweep_rows

NUM_REPORTED = 40  # subjects that are the report's alone


def chosen_regularization(options: argparse.Namespace) -> float:
    """Of the report: as asked for, else the sweep's."""
    if options.regularization is not None:
        return float(options.regularization)
    path = options.out / "sweep" / "best.json"
    if not path.exists():
        raise SystemExit(
            f"--regularization: expected a number, or a sweep in {options.out}, got neither. Run "
            "sweep with the same --out first, or give the number."
        )
    return float(json.loads(path.read_text(encoding="utf-8")))


def chosen_rows(rows: Sequence[Row], names: Sequence[str] | None) -> list[Row]:
    """The rows of these names, compared with what is among them; all where no name is given."""
    known = [row.name for row in rows]
    for name in names or ():
        if name not in known:
            raise SystemExit(
                f"--rows: expected {', '.join(known)}, got {name}. Take one of these, or leave "
                "--rows out for all."
            )
    return [
        row if names is None or row.control in names else replace(row, control=None)
        for row in rows
        if names is None or row.name in names
    ]


def heading(options: argparse.Namespace, bench: Bench, sizes: Sizes, rows: Sequence[Row]) -> str:
    """What the table shows, in a paragraph."""
    tunings = [row.tuning for row in rows if row.name == REGULARIZED]
    held = "".join(
        f" w_s {each.regularization:g} from {REGULARIZED} on." for each in tunings if each
    )
    after = f" after the first {NUM_REPORTED}" if options.action == "sweep" else ""
    return (
        f"{len(bench.subjects)} held-out subjects{after} x {options.seeds} prompts and seeds, one "
        f"picture of 128 x 128 each; {sizes.steps} steps of euler with ddim_uniform, cfg "
        f"{SCALES.text_only_guidance_scale:g} (adapter: text {SCALES.text_guidance_scale:g}, image "
        f"{SCALES.image_guidance_scale:g}). Tuned for {sizes.tuning_steps} updates, "
        f"{sizes.steps_per_set} for each set, at a learning rate of {sizes.learning_rate:g}; "
        f"weights for {sizes.weight_steps}.{held} Mean, and in parentheses the difference to the "
        "row that it is compared with, with its 95 % bootstrap "
        f"interval, paired by subject. top-1 among {len(bench.gallery.identities)} subjects. "
        f"Weights {bench.weights[:12]}."
    )


def measure(options: argparse.Namespace, host: InProcessHost) -> str:
    """The text of the whole report."""
    sizes = Sizes(
        steps=options.steps,
        tuning_steps=options.tuning_steps,
        steps_per_set=options.steps_per_set,
        learning_rate=options.learning_rate,
        weight_steps=options.weight_steps,
    )
    is_sweep = options.action == "sweep"
    every = sweep_rows() if is_sweep else report_rows(chosen_regularization(options))
    rows = chosen_rows(every, options.rows)
    out: Path = options.out / options.action
    skipped = NUM_REPORTED if is_sweep else 0
    guided = options.count if options.guided is None else options.guided
    bench = Bench(host, options.work, out, skipped, options.count, options.seeds, guided, sizes)

    def write(scores: Mapping[str, Scores]) -> None:
        lines = [heading(options, bench, sizes, rows), "", *table(rows, scores), ""]
        write_text(
            out / f"{options.action}.md", "\n".join([*lines, *resolved(rows, scores)]) + "\n"
        )

    scores = bench.measure(rows, write)
    report = (out / f"{options.action}.md").read_text(encoding="utf-8")
    if is_sweep and options.rows is None:
        write_json(out / "best.json", best_regularization(scores))
        report += "\n".join(choice(scores)) + "\n"
        write_text(out / f"{options.action}.md", report)
    return report


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.tuned_subjects",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("action", choices=("sweep", "report"))
    parser.add_argument("--work", type=Path, default=ROOT / ".dev" / "tiny")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=NUM_REPORTED, help="subjects")
    parser.add_argument("--seeds", type=int, default=5, help="prompts of a subject")
    parser.add_argument("--guided", type=int, help="subjects with reference guidance; default all")
    parser.add_argument("--regularization", type=float, help="report: w_s; default the sweep's")
    parser.add_argument("--rows", nargs="+", help="by name; default all")
    sizes = Sizes()
    parser.add_argument("--steps", type=int, default=sizes.steps, help="of sampling, and sets")
    parser.add_argument("--tuning-steps", type=int, default=sizes.tuning_steps)
    parser.add_argument("--steps-per-set", type=int, default=sizes.steps_per_set)
    parser.add_argument("--learning-rate", type=float, default=sizes.learning_rate)
    parser.add_argument("--weight-steps", type=int, default=sizes.weight_steps)
    options = parser.parse_args(arguments)
    if options.action == "report" and options.count > NUM_REPORTED:
        parser.error(
            f"--count: expected at most {NUM_REPORTED} subjects, got {options.count}. Take fewer: "
            "those after them are the sweep's."
        )
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder, in_process_host(Path(folder)) as host:
        print(measure(options, host))


if __name__ == "__main__":
    main(sys.argv[1:])
