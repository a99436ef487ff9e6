"""What each extra of training is for, and whether it is enough: `python -m devtools.extras`.

Makes an environment for each extra alone (gigabytes and minutes: PyTorch is in all), installs it as
people do, and imports there what it is for. Names after the command take some of them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import venv
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# What somebody with this extra alone can import. `tiny` needs all three.
PURPOSES = {
    "train": (
        "training.commands.recipes", "training.commands.precompute", "training.commands.pack",
        "training.commands.train", "training.commands.export", "training.loop.run",
        "training.dataset.precompute", "training.dataset.packing", "training.loop.step_cost",
    ),
    "data": (
        "training.toy.data.build", "training.toy.references",
        "training.toy.vision",
    ),
    "curation": (
        "training.commands.data.convert", "training.commands.data.inspect",
        "training.commands.data.stats", "training.curation.build", "training.curation.captions",
        "training.curation.boxes", "training.curation.masks", "training.curation.nouns",
    ),
    "cluster": (
        "training.curation.build", "training.curation.captions", "training.curation.boxes",
        "training.curation.masks", "training.curation.nouns", "training.curation.cluster",
    ),
    "eval": (
        "training.commands.evaluate", "training.evaluation.tinybench", "training.evaluation.report",
        "benchmarks.dreambench.encoders", "benchmarks.dreambench.faces",
    ),
}  # fmt: skip
LATER = {"cluster": ("ray.data",)}  # what its modules import when they run
# One package each, on top of ComfyUI or of another extra; and the tools.
NOT_ALONE = ("segment", "adam8bit", "faces", "dev")


def try_extra(name: str, folder: Path) -> str:
    """ "fine", or the last line of what went wrong, for an extra in a new environment."""
    venv.create(folder, with_pip=True)
    python = str(folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))
    code = "; ".join(f"import {module}" for module in (*PURPOSES[name], *LATER.get(name, ())))
    code += "; from training.__main__ import build_parser; build_parser()"  # all commands' help
    for command in (["-m", "pip", "install", "--quiet", f".[{name}]"], ["-c", code]):
        done = subprocess.run([python, *command], cwd=ROOT, capture_output=True, text=True)
        if done.returncode:
            return done.stderr.strip().splitlines()[-1]
    return "fine"


def main(names: Sequence[str]) -> int:
    """Try the named extras, or all; the exit status."""
    wrong = 0
    for name in set(names) - set(PURPOSES):
        sys.exit(
            f"extras: expected {', '.join(PURPOSES)}, got {name}. Take one of these, or none for "
            "all."
        )
    for name in names or PURPOSES:
        with tempfile.TemporaryDirectory(prefix=f"subject-diffusion-{name}-") as folder:
            found = try_extra(name, Path(folder))
        print(f"{name}: {found}", flush=True)
        wrong += found != "fine"
    return min(1, wrong)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
