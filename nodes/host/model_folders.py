"""Folders of model files as ComfyUI knows them, and clear words for a file that is not there."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import folder_paths


@dataclass(frozen=True, kw_only=True)
class ModelFolder:
    """One of ComfyUI's kinds of model folders.

    Attributes:
        name: of the kind, and of its folder below models.
        extensions: of its files.
        content: what belongs there, for messages, e.g. "the adapter".
    """

    name: str
    extensions: tuple[str, ...]
    content: str

    def register(self, *more_parents: str) -> None:
        """Make the folder in models, and below `more_parents`, known to ComfyUI, beside those that
        the user or other packs configured."""
        for parent in (folder_paths.models_dir, *more_parents):
            folder_paths.add_model_folder_path(self.name, os.path.join(parent, self.name))
        _, extensions = folder_paths.folder_names_and_paths[self.name]
        if isinstance(extensions, set):  # another pack may have registered it in its own way
            extensions.update(self.extensions)

    def file_names(self) -> list[str]:
        """All files, relative to their folders."""
        return list(folder_paths.get_filename_list(self.name))

    def find(self, file_name: str) -> str | None:
        """The path of a file, None if it is not there."""
        path: str | None = folder_paths.get_full_path(self.name, file_name)
        return path

    def require(self, file_name: str, argument: str) -> str:
        """The path of a file, or a sentence about `argument`."""
        path = self.find(file_name)
        if path is None:
            raise ValueError(f"{argument}: {self.missing(file_name)}")
        return path

    def stamp(self, file_name: str) -> tuple[int, int] | None:
        """Changes when the file does: for `fingerprint_inputs` of a loader."""
        path = self.find(file_name)
        if path is None:
            return None
        stat = os.stat(path)
        return (stat.st_mtime_ns, stat.st_size)

    def missing(self, file_name: str, found: Sequence[str] | None = None) -> str:
        """What to say of a file that is not there."""
        folders = ", ".join(folder_paths.get_folder_paths(self.name))
        names = ", ".join(self.file_names() if found is None else found) or "nothing"
        return (
            f"expected a file in {folders}, got '{file_name}'. There is {names}; put "
            f"{self.content} there and reload the page."
        )
