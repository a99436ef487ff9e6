"""Which code and which classes are the pack's, however it was imported."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FrameType

FOLDERS = ("nodes", "subject_diffusion_core")


class PackCode:
    """The files in the given folders of `root`, also where they are reached through a link."""

    def __init__(self, root: Path, folders: tuple[str, ...] = FOLDERS) -> None:
        self._root = os.path.realpath(root)
        self._folders = folders
        self._files: dict[str, str | None] = {}

    def file_of(self, code: CodeType) -> str | None:
        """The file relative to the root, or None for code of others."""
        return self._relative(code.co_filename)

    def owns(self, kind: type) -> bool:
        """Whether a class is defined in the pack."""
        file = getattr(sys.modules.get(kind.__module__), "__file__", None)
        return file is not None and self._relative(file) is not None

    def frames(self, frame: FrameType | None) -> Iterator[FrameType]:
        """The frames of the pack from `frame` outwards."""
        while frame is not None:
            if self.file_of(frame.f_code) is not None:
                yield frame
            frame = frame.f_back

    def _relative(self, filename: str) -> str | None:
        if filename not in self._files:
            path = os.path.relpath(os.path.realpath(filename), self._root).replace(os.sep, "/")
            ours = path.split("/")[0] in self._folders
            self._files[filename] = path if ours else None
        return self._files[filename]
