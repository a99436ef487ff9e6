"""What ComfyUI's registry gets of this repository: the files in git less those in `.comfyignore`.

`python -m devtools.archive` prints the size of the archive, and what in it is how large.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import zipfile
from collections import Counter
from pathlib import Path

from .console import DevError

ROOT = Path(__file__).resolve().parents[1]
IGNORE_FILE = ".comfyignore"
MEGABYTE = 1e6


def archived_names(root: Path) -> set[str]:
    """The files and folders right in the root that the archive has.

    `.comfyignore` begins with `/*`, all is left out, and then names what is not, a line each.
    """
    lines = (root / IGNORE_FILE).read_text(encoding="utf-8").splitlines()
    first, *others = [line for line in lines if line and not line.startswith("#")]
    wrong = [line for line in others if not line.startswith("!/") or set(line[2:]) & set("*?/")]
    if first != "/*" or wrong:
        raise DevError(
            f"{IGNORE_FILE}: expected /* and then lines such as !/nodes, got "
            f"{wrong[0] if wrong else first!r}. Name what runs, right in the root."
        )
    return {line.removeprefix("!/") for line in others}


def archived_files(root: Path) -> list[Path]:
    """All files of the archive, relative to the root; without git, all that are there."""
    names = archived_names(root)
    command = ["git", "-C", str(root), "ls-files", "-z"]
    listed = subprocess.run(command, capture_output=True, text=True)
    if listed.returncode == 0:
        files = [Path(name) for name in listed.stdout.split("\0") if name]
    else:
        there = (path for name in names for path in (root / name, *(root / name).rglob("*")))
        files = sorted(path.relative_to(root) for path in there if "__pycache__" not in path.parts)
    return [path for path in files if path.parts[0] in names and (root / path).is_file()]


def copy_archived(root: Path, folder: Path) -> None:
    """The pack as somebody has it who got it from the registry."""
    for path in archived_files(root):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / path, folder / path)


def archive_size(root: Path) -> int:
    """Bytes of the archive, compressed as the registry's tool does it."""
    with tempfile.TemporaryFile() as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in archived_files(root):
                archive.write(root / path, path)
        return file.tell()


def main() -> None:
    sizes: Counter[str] = Counter()
    for path in archived_files(ROOT):
        sizes[path.parts[0]] += (ROOT / path).stat().st_size
    for name, size in sizes.most_common():
        print(f"{size / MEGABYTE:8.3f} MB  {name}")
    print(f"{archive_size(ROOT) / MEGABYTE:8.3f} MB  the archive, compressed")


if __name__ == "__main__":
    main()
