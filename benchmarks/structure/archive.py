"""The archive that ComfyUI's registry makes of the repository."""

from __future__ import annotations

import io
import subprocess
import zipfile
from pathlib import Path

IGNORE_FILE = ".comfyignore"


def archived_files(root: Path) -> list[str]:
    """Tracked files, less those that .comfyignore leaves out."""
    tracked = _git_files(root)
    if not (root / IGNORE_FILE).is_file():
        return tracked
    ignored = set(_git_files(root, "-i", "-c", f"--exclude-from={IGNORE_FILE}"))
    return [name for name in tracked if name not in ignored]


def archive_size(root: Path) -> tuple[int, int]:
    """Number of files, and bytes of their zip."""
    names = archived_files(root)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.write(root / name, name)
    return len(names), len(buffer.getvalue())


def _git_files(root: Path, *options: str) -> list[str]:
    command = ["git", "ls-files", "-z", *options]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    return [name for name in done.stdout.split("\0") if name]
