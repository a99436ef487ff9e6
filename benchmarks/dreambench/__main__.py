"""The paper's scores on DreamBench and people, with your copies of data and encoders.

First `jobs`: what to generate, for `dev.py generate --jobs`. Then `score`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from training.commands.options import add_path
from training.commands.running import ALL_EXTRAS, run_command

from .dataset import (
    BOXES,
    IMAGES_PER_PROMPT,
    OWN_PROMPTS,
    Case,
    DreamBenchError,
    DreamSubject,
    cases,
    load_dreambench,
    load_people,
)

if TYPE_CHECKING:
    from training.evaluation.metrics import Interval

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
PROTOCOLS = """\
protocols:
  single  every subject of DreamBooth's data set: DINO, CLIP-I, CLIP-T (the paper's table 1)
  pairs   the 30 pairs of the paper's table 8: the same scores (table 2)
  human   people, as FastComposer measures (table 4): identity preservation and prompt consistency.
          --data has one folder per person with a picture each; prompts_and_classes.txt there may
          give class words, one line each ("anna,woman"), else everybody is a "person".
          The faces need OpenCV: python -m pip install "opencv-python-headless>=4.8"
"""


def build_parser() -> argparse.ArgumentParser:
    """The data, the protocol, the encoders."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.dreambench",
        description=__doc__,
        epilog=PROTOCOLS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run, extras=ALL_EXTRAS)
    parser.add_argument("action", choices=["jobs", "score"])
    add_path(parser, "--data", "folder of subjects' folders", required=True)
    parser.add_argument("--protocol", choices=list(PAPER), default="single")
    parser.add_argument("--per-prompt", type=int, help="seeds a prompt (default 6; human 4)")
    add_path(parser, "--prompts", "human: text file, one prompt a line with {}")
    parser.add_argument("--reference", type=int, default=0, help="which photograph is given")
    add_path(parser, "--out", "jobs: the .jsonl; score: a .json", required=True)
    add_path(parser, "--pictures", "score: folder of generated pictures")
    add_path(parser, "--dino", "score: DINO ViT-S/16, a transformers folder")
    add_path(parser, "--clip", "score: CLIP, a transformers folder (human: ViT-L/14)")
    add_path(parser, "--face-detector", "score, human: YuNet, an ONNX file")
    add_path(parser, "--face-embedder", "score, human: FaceNet, a TorchScript file")
    parser.add_argument("--generator", default="unknown", help="score: what made the pictures")
    return parser


def run(arguments: argparse.Namespace) -> None:
    """Write the jobs, or score the pictures and print the table."""
    from training.evaluation.report import markdown_table
    from training.runs import write_json, write_text

    if arguments.per_prompt is None:
        arguments.per_prompt = IMAGES_PER_PROMPT[arguments.protocol]
    subjects = load(arguments)
    all_cases = list(cases(subjects, arguments.protocol, arguments.per_prompt))
    if arguments.action == "jobs":
        lines = [json.dumps(case.job(arguments.reference)) for case in all_cases]
        write_text(arguments.out, "\n".join(lines) + "\n")
        print(f"{len(all_cases)} jobs in {arguments.out}; next:")
        print(f"  python dev.py generate --jobs {arguments.out} --out PICTURES")
        if arguments.protocol == "human":
            prompts = next(iter(subjects.values())).prompts
            print(f"Prompts: {len(prompts)}, {arguments.prompts or OWN_PROMPTS}")
        return
    scores, found = measure(arguments, all_cases)
    report = {"settings": settings(arguments, all_cases) | found, "scores": scores}
    write_json(arguments.out, report, indent=2)
    paper = (
        [row, *(f"{v:.3f}" for v in values)] for row, values in PAPER[arguments.protocol].items()
    )
    lines = markdown_table(list(scores), [["measured", *scores.values()], *paper])
    lines += ["", *(f"- {key}: {value}" for key, value in report["settings"].items())]
    print("\n".join(lines))


def load(arguments: argparse.Namespace) -> dict[str, DreamSubject]:
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


def measure(
    arguments: argparse.Namespace, all_cases: list[Case]
) -> tuple[dict[str, Interval], dict[str, str]]:
    """The protocol's scores, and what was found besides; one sentence unless everything that they
    need is given."""
    human = arguments.protocol == "human"
    needed = ["pictures", "clip", *(["face_detector", "face_embedder"] if human else ["dino"])]
    missing = [name.replace("_", "-") for name in needed if getattr(arguments, name) is None]
    if missing:
        raise DreamBenchError(f"score: expected --{', --'.join(missing)}, got none. See --help.")
    from .encoders import ClipEncoder, DinoEncoder
    from .faces import FaceEncoder, YuNetDetector
    from .scores import score, score_people

    clip = ClipEncoder(arguments.clip)
    if not human:
        return score(all_cases, arguments.pictures, DinoEncoder(arguments.dino), clip), {}
    faces = FaceEncoder(YuNetDetector(arguments.face_detector), arguments.face_embedder)
    scores, found = score_people(all_cases, arguments.pictures, faces, clip, arguments.reference)
    return scores, {"faces_found": f"{found} of {len(all_cases)}"}


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
    from .faces import SETTINGS as FACE_SETTINGS

    return values | {
        "num_people": len({case.subjects for case in all_cases}),
        "prompts": str(arguments.prompts or OWN_PROMPTS),
        "face_detector": str(arguments.face_detector),
        "face_embedder": str(arguments.face_embedder),
        **FACE_SETTINGS,
        "human note": HUMAN_NOTE,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    run_command(build_parser, arguments)


if __name__ == "__main__":
    main()
