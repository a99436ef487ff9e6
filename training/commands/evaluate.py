"""``python -m training evaluate``: TinyBench, and its queries as jobs for any generator."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..evaluation.rows import DEFAULT_COUNT, PRECISIONS, ROWS, SamplingSettings
from .options import add_path

HELP = """\
TinyBench: identity, boxes and text match on held-out subjects

Writes JSON, a Markdown table and contact sheets; goes on where it stopped.

Examples
  python -m training evaluate --work .dev/tiny --weights weights --out bench
The same of pictures from anywhere, here the real nodes:
  python -m training evaluate jobs --work .dev/tiny --out jobs.jsonl --limit 50
  python dev.py generate --jobs jobs.jsonl --out pictures
  python -m training evaluate score --work .dev/tiny --pictures pictures --out bench --limit 50

Needs the data of `python -m training.toy.data.build` (or of `tiny`). Subjects, prompts, boxes and
seeds are fixed and took no part in training; docs/small_model explains the rows. --method names,
in each job, the method that is to make it. Rows that need no generator are made as ever.
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """What is measured, and how pictures are sampled."""
    defaults, names = SamplingSettings(), [row.name for row in ROWS]
    parser.add_argument("action", nargs="?", choices=("run", "jobs", "score"), default="run")
    parser.add_argument(
        "--record", action="store_true", help="also write the scores into the weights' metadata"
    )
    add_path(parser, "--pictures", "score: folder of a generator's pictures")
    parser.add_argument("--method", default="subject_diffusion", help="jobs: what makes them")
    add_path(parser, "--work", "data folder", default=Path(".dev/tiny"))
    add_path(parser, "--weights", "both weight files", default=Path("weights"))
    add_path(parser, "--out", "folder for the report", required=True)
    parser.add_argument("--limit", type=int, default=DEFAULT_COUNT, help="pictures of a row")
    parser.add_argument("--rows", nargs="+", choices=names, default=names, metavar="ROW")
    parser.add_argument("--steps", type=int, default=defaults.steps)
    for kind in ("text", "image", "text-only"):
        scale = getattr(defaults, f"{kind.replace('-', '_')}_guidance_scale")
        parser.add_argument(f"--{kind}-guidance", type=float, default=scale)
    parser.add_argument("--precision", choices=PRECISIONS, default=defaults.precision)
    parser.add_argument("--batch-size", type=int, default=defaults.batch_size)
    parser.add_argument(
        "--no-matches", dest="matches", action="store_false",
        help="identity only: no boxes, label groups and scenes",
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> None:
    """Measure, and record the scores where asked; or write the jobs."""
    rows = [row for row in ROWS if row.name in arguments.rows]
    settings = SamplingSettings(
        steps=arguments.steps,
        text_guidance_scale=arguments.text_guidance,
        image_guidance_scale=arguments.image_guidance,
        text_only_guidance_scale=arguments.text_only_guidance,
        precision=arguments.precision,
        batch_size=arguments.batch_size,
    )
    work, weights, out, count = (
        getattr(arguments, name) for name in ("work", "weights", "out", "limit")
    )
    if arguments.action == "jobs":
        from ..evaluation.jobs import write_jobs

        number = write_jobs(work, rows, settings, count, out, arguments.method)
        print(
            f"{number} jobs in {out}; next:\n  python dev.py generate --jobs {out} --out PICTURES"
        )
        return
    if (arguments.action == "score") != (arguments.pictures is not None):
        raise ValueError(
            "--pictures: expected it with `evaluate score`, and only there. Name the folder "
            "that the jobs' pictures are in."
        )
    from ..evaluation.jobs import StoredPictures
    from ..evaluation.report import record_scores
    from ..evaluation.tinybench import TinyBench

    bench = TinyBench(work, weights, out, settings, count)
    if arguments.pictures is not None:
        bench.maker = StoredPictures(bench.library, weights, settings, arguments.pictures)
    bench.measure_all(rows, arguments.matches)
    if arguments.record:
        record_scores(weights, out / "tinybench.json")
