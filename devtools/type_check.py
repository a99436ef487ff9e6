"""mypy over the pack, training, tools and benches: `python -m devtools.type_check`.

`nodes/` imports core relatively, as ComfyUI loads both: from one package, the repository's folder.
That may have any name, also one that Python cannot import, so what is checked is a copy under a
name of its own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACK = "subject_diffusion_pack"
PARTS = ("nodes", "subject_diffusion_core")
TOOLS = ("-p", "devtools", "-p", "training", "-p", "benchmarks")


def copy_pack(root: Path, folder: Path) -> None:
    """The package as ComfyUI sees it; times are kept, for mypy's cache."""
    for part in PARTS:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(root / part, folder / part, ignore=ignored)
    shutil.copy2(root / "__init__.py", folder)


def check_types(root: Path) -> int:
    """Print what mypy finds, with the paths of the repository; its exit status."""
    with tempfile.TemporaryDirectory(prefix="subject-diffusion-types-") as temporary:
        place = Path(temporary).resolve()
        copy_pack(root, place / PACK)
        done = subprocess.run(
            [sys.executable, "-m", "mypy", "-p", PACK, *TOOLS],
            cwd=root,
            env={**os.environ, "MYPYPATH": str(place)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        print(done.stdout.replace(f"{place / PACK}{os.sep}", ""), end="")
    return done.returncode


if __name__ == "__main__":
    sys.exit(check_types(ROOT))
