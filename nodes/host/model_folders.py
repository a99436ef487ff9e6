"""Folders of model files as ComfyUI knows them, and clear words for a file that is not there."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import folder_paths

from ...subject_diffusion_core.errors import printable, shown
from .folder_lists import files_below

MOST_NAMES = 10  # that an error repeats


@dataclass(frozen=True, kw_only=True)
class ModelFolder:
    """One of ComfyUI's kinds of model folders.

    Attributes:
        name: of the kind, and of its folder below models.
        extensions: of its files.
        content: what belongs there, for messages, e.g. "the adapter".
        others: kinds of other packs, whose folders are looked into as well, after its own.
    """

    name: str
    extensions: tuple[str, ...]
    content: str
    others: tuple[str, ...] = ()

    def register(self, *more_parents: str) -> None:
        """Make the folder in models, and below `more_parents`, known to ComfyUI, beside those that
        the user or other packs configured."""
        for parent in (folder_paths.models_dir, *more_parents):
            folder_paths.add_model_folder_path(self.name, os.path.join(parent, self.name))
        for other in self.others:
            folder_paths.add_model_folder_path(other, os.path.join(folder_paths.models_dir, other))
        for name in (self.name, *self.others):
            _, extensions = folder_paths.folder_names_and_paths[name]
            if isinstance(extensions, set):  # another pack may have registered it in its own way
                extensions.update(self.extensions)

    def file_names(self) -> list[str]:
        """All files, relative to their folders."""
        listed = map(_file_names, (self.name, *self.others))
        return list(dict.fromkeys(file for files in listed for file in files))

    def find(self, file_name: str) -> str | None:
        """The path of a file, None if it is not there."""
        if not isinstance(file_name, str) or "\0" in file_name:
            return None
        found = (folder_paths.get_full_path(name, file_name) for name in (self.name, *self.others))
        return next((path for path in found if path is not None), None)

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
        others = [path for name in self.others for path in folder_paths.get_folder_paths(name)]
        existing = [path for path in others if os.path.isdir(path)]
        folders = ", ".join([*folder_paths.get_folder_paths(self.name), *existing])
        listed = self.file_names() if found is None else found
        names = ", ".join(listed[:MOST_NAMES]) or "nothing"
        if len(listed) > MOST_NAMES:
            names += f" and {len(listed) - MOST_NAMES} more"
        return printable(
            f"expected a file in {folders}, got '{shown(file_name)}'. There is {names}; put "
            f"{self.content} there and reload the page."
        )


def _file_names(kind: str) -> list[str]:
    """ComfyUI's list; its cache fails where a folder was there once and is gone."""
    try:
        return list(folder_paths.get_filename_list(kind))
    except OSError:
        return files_now(kind)


def files_now(kind: str) -> list[str]:
    """What lies in the folders of a kind at this moment, whatever ComfyUI remembers of them."""
    folders, extensions = folder_paths.folder_names_and_paths[kind]
    return sorted({name for top in folders for name in files_below(top, tuple(extensions))})
