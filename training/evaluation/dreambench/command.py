"""``python -m training dreambench``: jobs for the generator, then scores of its pictures."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ...runs import atomic_path
from ..metrics import Interval
from .cases import BOXES, IMAGES_PER_PROMPT, Case, cases, write_jobs
from .dataset import load_dreambench
from .encoders import ClipEncoder, DinoEncoder
from .scores import score

# Subject-Diffusion, tables 1 and 2: DINO, CLIP-I, CLIP-T.
PAPER = {"single": (0.711, 0.787, 0.293), "pairs": (0.506, 0.696, 0.310)}
SETTINGS_NOTE = "paper: 50 PNDM steps, text guidance 3, image guidance 1.5"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``python -m training dreambench``."""
    parser.add_argument("action", choices=["jobs", "score"])
    parser.add_argument("--data", type=Path, required=True, help="DreamBooth's data set")
    parser.add_argument("--protocol", choices=["single", "pairs"], default="single")
    parser.add_argument("--per-prompt", type=int, default=IMAGES_PER_PROMPT, help="seeds a prompt")
    parser.add_argument("--reference", type=int, default=0, help="which photograph is given")
    parser.add_argument("--out", type=Path, required=True, help="jobs: the .jsonl; score: a .json")
    parser.add_argument("--pictures", type=Path, help="score: folder of generated pictures")
    parser.add_argument("--dino", type=Path, help="score: DINO ViT-S/16, a transformers folder")
    parser.add_argument("--clip", type=Path, help="score: CLIP, a transformers folder")
    parser.add_argument("--generator", default="unknown", help="score: what made the pictures")


def run(arguments: argparse.Namespace) -> None:
    """Write the jobs, or score the pictures and print the table."""
    bench = load_dreambench(arguments.data)
    all_cases = list(cases(bench, arguments.protocol, arguments.per_prompt))
    if arguments.action == "jobs":
        write_jobs(all_cases, arguments.out, arguments.reference)
        print(f"{len(all_cases)} jobs in {arguments.out}; next:")
        print(f"  python dev.py generate --jobs {arguments.out} --out PICTURES")
        return
    missing = [name for name in ("pictures", "dino", "clip") if getattr(arguments, name) is None]
    if missing:
        raise SystemExit(f"score: expected --{', --'.join(missing)}, got none. See --help.")
    scores = score(
        all_cases, arguments.pictures, DinoEncoder(arguments.dino), ClipEncoder(arguments.clip)
    )
    report = {"settings": settings(arguments, all_cases), "scores": as_values(scores)}
    with atomic_path(arguments.out) as temporary:
        temporary.write_text(json.dumps(report, indent=2), encoding="utf-8")
    print(table(arguments.protocol, report))


def settings(arguments: argparse.Namespace, all_cases: list[Case]) -> dict[str, Any]:
    """Everything the numbers depend on."""
    return {
        "protocol": arguments.protocol,
        "num_pictures": len(all_cases),
        "per_prompt": arguments.per_prompt,
        "reference": arguments.reference,
        "boxes": BOXES[len(all_cases[0].subjects)],
        "dino": str(arguments.dino),
        "clip": str(arguments.clip),
        "generator": arguments.generator,
        "note": SETTINGS_NOTE,
    }


def as_values(scores: dict[str, Interval]) -> dict[str, Any]:
    """Intervals as plain values."""
    return {name: asdict(interval) for name, interval in scores.items()}


def table(protocol: str, report: dict[str, Any]) -> str:
    """The scores beside the paper's, then the settings."""
    names = list(report["scores"])
    lines = ["| | " + " | ".join(names) + " |", "|---|" + "---|" * len(names)]
    cells = [
        "{value:.3f} [{low:.3f}, {high:.3f}]".format(**report["scores"][name]) for name in names
    ]
    lines.append("| measured | " + " | ".join(cells) + " |")
    lines.append("| paper | " + " | ".join(f"{value:.3f}" for value in PAPER[protocol]) + " |")
    lines += ["", *(f"- {key}: {value}" for key, value in report["settings"].items())]
    return "\n".join(lines)
