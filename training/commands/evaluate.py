"""``python -m training evaluate``: TinyBench, and its queries as jobs for any generator."""

from __future__ import annotations

import argparse
from pathlib import Path

from .parser import Commands, add_command

EPILOG = """\
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


def add_evaluate(commands: Commands, asked: bool) -> None:
    """``evaluate``: TinyBench on a folder of weights. Its options, which import much, if asked."""
    parser = add_command(
        commands,
        "evaluate",
        run_evaluate,
        help="TinyBench: identity, boxes and text match on held-out subjects",
        description="Writes JSON, a Markdown table and contact sheets; goes on where it stopped.",
        epilog=EPILOG,
    )
    parser.add_argument("action", nargs="?", choices=("run", "jobs", "score"), default="run")
    parser.add_argument(
        "--record", action="store_true", help="also write the scores into the weights' metadata"
    )
    parser.add_argument("--pictures", type=Path, help="score: folder of a generator's pictures")
    parser.add_argument("--method", default="subject_diffusion", help="jobs: what makes them")
    if asked:
        from ..evaluation import tinybench

        tinybench.add_arguments(parser)


def run_evaluate(arguments: argparse.Namespace) -> None:
    """Measure, and record the scores where asked; or write the jobs."""
    from ..evaluation import tinybench
    from ..evaluation.record import record_scores

    if arguments.action == "jobs":
        number = tinybench.write_all_jobs(arguments)
        print(f"{number} jobs in {arguments.out}; next:")
        print(f"  python dev.py generate --jobs {arguments.out} --out PICTURES")
        return
    if (arguments.action == "score") != (arguments.pictures is not None):
        raise ValueError(
            "--pictures: expected it with `evaluate score`, and only there. Name the folder "
            "that the jobs' pictures are in."
        )
    tinybench.run(arguments)
    if arguments.record:
        record_scores(arguments.weights, arguments.out / "tinybench.json")
