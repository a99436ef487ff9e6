"""The Python environment of the host: made once in `.dev/venv`, resumed when it was interrupted.

Each installed group of requirements leaves a stamp inside the environment: the hash of everything
that decided what was installed. A group whose stamp fits is not touched again.
"""

from __future__ import annotations

import ast
import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .console import DevError, Progress, last_lines
from .processes import run_logged

TORCH_REQUIREMENTS = ("torch==2.12.1", "torchvision==0.27.1", "torchaudio==2.11.0")
# ComfyUI imports these without naming them: other packages used to bring them along.
UNNAMED_HOST_REQUIREMENTS = ("requests",)
TEST_EXTRAS = ("dev", "train", "eval", "data", "cluster", "segment", "faces", "adam8bit")


def read_extras(pyproject_text: str, names: Sequence[str]) -> list[str]:
    """Requirements of the named extras in a pyproject.toml (Python 3.10 has no TOML parser).

    >>> read_extras('[project.optional-dependencies]\\ndev = ["ruff>=0.6", "mypy"]\\n', ["dev"])
    ['ruff>=0.6', 'mypy']
    """
    section = re.search(
        r"^\[project\.optional-dependencies\]\s*$(.*?)(?=^\[[\w.]+\]|\Z)",
        pyproject_text,
        re.M | re.S,
    )
    if section is None:
        raise DevError(
            "pyproject.toml: expected a [project.optional-dependencies] section, got none."
        )
    lists = dict(re.findall(r"^(\w+)\s*=\s*(\[.*?\])\s*$", section.group(1), re.M | re.S))
    missing = [name for name in names if name not in lists]
    if missing:
        raise DevError(
            f"pyproject.toml: expected the extras {', '.join(missing)}, got none of them."
        )
    return [requirement for name in names for requirement in ast.literal_eval(lists[name])]


@dataclass(frozen=True, kw_only=True)
class RequirementGroup:
    """Requirements installed together, known by `name` in the stamp's file name."""

    name: str
    requirements: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()
    constraints: Path | None = None

    def fingerprint(self) -> str:
        """Hash of all that decides what pip installs for this group."""
        digest = hashlib.sha256()
        texts = [*self.requirements, *(path.read_text(encoding="utf-8") for path in self.files)]
        if self.constraints is not None:
            texts.append(self.constraints.read_text(encoding="utf-8"))
        for text in texts:
            digest.update(text.encode("utf-8") + b"\0")
        return digest.hexdigest()

    def pip_arguments(self) -> list[str]:
        arguments = ["install", *self.requirements]
        for path in self.files:
            arguments += ["-r", str(path)]
        if self.constraints is not None:
            arguments += ["-c", str(self.constraints)]
        return arguments


class Environment:
    """A Python to run the host and the checks with: ours in `.dev/venv`, or the user's."""

    def __init__(self, folder: Path, log_folder: Path, progress: Progress) -> None:
        self._folder = folder
        self._log_folder = log_folder
        self._progress = progress
        given = os.environ.get("COMFYUI_PYTHON")
        self._given = Path(given) if given else None
        if self._given is not None and not self._given.is_file():
            raise DevError(
                f"COMFYUI_PYTHON: expected the path of a Python, got {given!r}. "
                "Correct it or unset it to let dev.py make its own environment."
            )

    @property
    def python(self) -> Path:
        """The interpreter (never resolved: a resolved link would leave the environment)."""
        if self._given is not None:
            return self._given
        if os.name == "nt":
            return self._folder / "Scripts" / "python.exe"
        return self._folder / "bin" / "python"

    @property
    def is_managed(self) -> bool:
        """False if the user gave the Python: then nothing is ever installed into it."""
        return self._given is None

    def create(self) -> None:
        """Make the environment unless a complete one is there."""
        if not self.is_managed or self._stamp("created").is_file():
            return
        self._progress.say(f"Making a Python environment in {self._folder}")
        self._folder.parent.mkdir(parents=True, exist_ok=True)
        made = subprocess.run(
            [sys.executable, "-m", "venv", "--clear", str(self._folder)],
            capture_output=True,
            text=True,
        )
        if made.returncode != 0:
            raise DevError(
                f"Python could not make an environment in {self._folder} (on Debian and Ubuntu, "
                f"install python3-venv first):\n{last_lines(made.stdout + made.stderr, 8)}"
            )
        self._write_stamp("created", "")

    def install(self, group: RequirementGroup) -> bool:
        """Install `group` unless its stamp says it is there; True if pip ran."""
        fingerprint = group.fingerprint()
        if not self.is_managed or self._read_stamp(group.name) == fingerprint:
            return False
        self._progress.say(
            f"Installing the {group.name} requirements (the first time this takes minutes)"
        )
        self.pip(group.pip_arguments(), f"pip-{group.name}.log")
        self._write_stamp(group.name, fingerprint)
        self._progress.say(f"The {group.name} requirements are installed")
        return True

    def pip(self, arguments: Sequence[str], log_name: str) -> None:
        """Run pip, its output in a log file and its larger steps on the terminal."""
        log = self._log_folder / log_name
        command = [str(self.python), "-m", "pip", "--disable-pip-version-check", *arguments]
        if run_logged(command, log, self._progress, is_pip_milestone) != 0:
            output = log.read_text(encoding="utf-8", errors="replace")
            raise DevError(
                f"pip failed (whole output: {log}). Run the same command again to continue:\n"
                f"{last_lines(output, 8)}"
            )

    def _stamp(self, name: str) -> Path:
        return self._folder / f"{name}.stamp"

    def _read_stamp(self, name: str) -> str | None:
        stamp = self._stamp(name)
        return stamp.read_text(encoding="utf-8").strip() if stamp.is_file() else None

    def _write_stamp(self, name: str, text: str) -> None:
        partial = self._folder / f"{name}.stamp.part"
        partial.write_text(text + "\n", encoding="utf-8")
        os.replace(partial, self._stamp(name))


def is_pip_milestone(line: str) -> bool:
    """Whether a line of pip's output is worth showing: large downloads, the installation."""
    size = re.search(r"Downloading .*\((\d+(?:\.\d+)?) (MB|GB)\)", line)
    if size is not None:
        return size.group(2) == "GB" or float(size.group(1)) >= 20
    return line.startswith("Installing collected packages")
