"""``python -m training dreambench``: jobs for the generator, then scores of its pictures."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..evaluation.dreambench.cases import BOXES, IMAGES_PER_PROMPT, Case, cases, write_jobs
from ..evaluation.dreambench.dataset import DreamBench, DreamBenchError, load_dreambench
from ..evaluation.dreambench.encoders import ClipEncoder, DinoEncoder
from ..evaluation.dreambench.faces import SETTINGS as FACE_SETTINGS
from ..evaluation.dreambench.faces import FaceEncoder, YuNetDetector
from ..evaluation.dreambench.people import OWN_PROMPTS, load_people
from ..evaluation.dreambench.scores import score, score_people
from ..evaluation.metrics import Interval
from ..runs import atomic_path
from .parser import Commands, add_command

# Subject-Diffusion, tables 1 and 2: DINO, CLIP-I, CLIP-T; table 4: identity, prompt (CLIP-T).
PAPER: dict[str, dict[str, tuple[float, ...]]] = {
    "single": {"paper": (0.711, 0.787, 0.293)},
    "pairs": {"paper": (0.506, 0.696, 0.310)},
    "human": {
        "paper": (0.605, 0.228),
        "FastComposer": (0.514, 0.243),
        "Custom Diffusion, 5 pictures": (0.434, 0.233),
        "DreamBooth, 5 pictures": (0.273, 0.239),
        "Textual Inversion, 5 pictures": (0.293, 0.219),
        "Stable Diffusion, no picture": (0.039, 0.268),
    },
}
SETTINGS_NOTE = "paper: 50 PNDM steps, text guidance 3, image guidance 1.5"
HUMAN_NOTE = (
    "paper's table 4: MTCNN's faces, FaceNet (VGGFace2), CLIP ViT-L/14, FastComposer's data"
)
EPILOG = """protocols:
  single  every subject of DreamBooth's data set: DINO, CLIP-I, CLIP-T (the paper's table 1)
  pairs   the 30 pairs of the paper's table 8: the same scores (table 2)
  human   people, as FastComposer measures (table 4): identity preservation and prompt consistency.
          --data has one folder per person with a picture each; prompts_and_classes.txt there may
          give class words, one line each ("anna,woman"), else everybody is a "person".
          The faces need OpenCV: python -m pip install "opencv-python-headless>=4.8"
"""


def add_dreambench(commands: Commands) -> None:
    """``dreambench``: the paper's protocol."""
    parser = add_command(
        commands,
        "dreambench",
        run_dreambench,
        help="the paper's scores on DreamBench and people, with your copies of data and encoders",
        description="First `jobs`: what to generate, for `dev.py generate --jobs`. Then `score`.",
        epilog=EPILOG,
    )
    parser.add_argument("action", choices=["jobs", "score"])
    parser.add_argument("--data", type=Path, required=True, help="folder of subjects' folders")
    parser.add_argument("--protocol", choices=list(PAPER), default="single")
    parser.add_argument("--per-prompt", type=int, help="seeds a prompt (default 6; human 4)")
    parser.add_argument("--prompts", type=Path, help="human: text file, one prompt a line with {}")
    parser.add_argument("--reference", type=int, default=0, help="which photograph is given")
    parser.add_argument("--out", type=Path, required=True, help="jobs: the .jsonl; score: a .json")
    parser.add_argument("--pictures", type=Path, help="score: folder of generated pictures")
    parser.add_argument("--dino", type=Path, help="score: DINO ViT-S/16, a transformers folder")
    parser.add_argument(
        "--clip", type=Path, help="score: CLIP, a transformers folder (human: ViT-L/14)"
    )
    parser.add_argument("--face-detector", type=Path, help="score, human: YuNet, an ONNX file")
    parser.add_argument(
        "--face-embedder", type=Path, help="score, human: FaceNet, a TorchScript file"
    )
    parser.add_argument("--generator", default="unknown", help="score: what made the pictures")


def run_dreambench(arguments: argparse.Namespace) -> None:
    """Write the jobs, or score the pictures and print the table."""
    if arguments.per_prompt is None:
        arguments.per_prompt = IMAGES_PER_PROMPT[arguments.protocol]
    bench = load(arguments)
    all_cases = list(cases(bench, arguments.protocol, arguments.per_prompt))
    if arguments.action == "jobs":
        write_jobs(all_cases, arguments.out, arguments.reference)
        print(f"{len(all_cases)} jobs in {arguments.out}; next:")
        print(f"  python dev.py generate --jobs {arguments.out} --out PICTURES")
        if arguments.protocol == "human":
            print(f"Prompts: {len(bench.object_prompts)}, {prompts_name(arguments)}")
        return
    require_options(arguments)
    found: dict[str, str] = {}
    clip = ClipEncoder(arguments.clip)
    if arguments.protocol == "human":
        faces = FaceEncoder(YuNetDetector(arguments.face_detector), arguments.face_embedder)
        scores, num_found = score_people(
            all_cases, arguments.pictures, faces, clip, arguments.reference
        )
        found = {"faces_found": f"{num_found} of {len(all_cases)}"}
    else:
        scores = score(all_cases, arguments.pictures, DinoEncoder(arguments.dino), clip)
    report = {"settings": settings(arguments, all_cases) | found, "scores": as_values(scores)}
    with atomic_path(arguments.out) as temporary:
        temporary.write_text(json.dumps(report, indent=2), encoding="utf-8")
    print(table(arguments.protocol, report))


def load(arguments: argparse.Namespace) -> DreamBench:
    """The protocol's data set, with its prompts."""
    if arguments.per_prompt < 1:
        raise DreamBenchError(
            f"per-prompt: expected at least 1, got {arguments.per_prompt}. Ask for more pictures."
        )
    if arguments.protocol == "human":
        return load_people(arguments.data, arguments.prompts)
    if arguments.prompts is not None:
        raise DreamBenchError(
            f"prompts: expected none for --protocol {arguments.protocol}, whose prompts come with "
            f"its data set, got {arguments.prompts}. Leave it out or take --protocol human."
        )
    return load_dreambench(arguments.data)


def require_options(arguments: argparse.Namespace) -> None:
    """One sentence unless everything that the protocol's scores need is given."""
    human = arguments.protocol == "human"
    needed = ["pictures", "clip", *(["face_detector", "face_embedder"] if human else ["dino"])]
    missing = [name.replace("_", "-") for name in needed if getattr(arguments, name) is None]
    if missing:
        raise DreamBenchError(f"score: expected --{', --'.join(missing)}, got none. See --help.")


def prompts_name(arguments: argparse.Namespace) -> str:
    """Which list of prompts the human protocol takes."""
    return OWN_PROMPTS if arguments.prompts is None else str(arguments.prompts)


def settings(arguments: argparse.Namespace, all_cases: list[Case]) -> dict[str, Any]:
    """Everything the numbers depend on."""
    values = {
        "protocol": arguments.protocol,
        "num_pictures": len(all_cases),
        "per_prompt": arguments.per_prompt,
        "reference": arguments.reference,
        "boxes": BOXES[len(all_cases[0].subjects)],
        "clip": str(arguments.clip),
        "generator": arguments.generator,
        "note": SETTINGS_NOTE,
    }
    if arguments.protocol != "human":
        return values | {"dino": str(arguments.dino)}
    return values | {
        "num_people": len({case.subjects for case in all_cases}),
        "prompts": prompts_name(arguments),
        "face_detector": str(arguments.face_detector),
        "face_embedder": str(arguments.face_embedder),
        **FACE_SETTINGS,
        "human note": HUMAN_NOTE,
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
    for row, values in PAPER[protocol].items():
        lines.append(f"| {row} | " + " | ".join(f"{value:.3f}" for value in values) + " |")
    lines += ["", *(f"- {key}: {value}" for key, value in report["settings"].items())]
    return "\n".join(lines)
