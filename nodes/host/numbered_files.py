"""Files that nodes save below ComfyUI's output folder, each under a name that no file has yet."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from dataclasses import dataclass

import folder_paths

from ...subject_diffusion_core.schema import printed


@dataclass(frozen=True, kw_only=True)
class NumberedFiles:
    """The files of one kind, all in one folder of output, where its loader looks.

    Attributes:
        folder: in output.
        extension: of the files.
        example: the beginning of a name, for messages.
    """

    folder: str
    extension: str
    example: str

    def save(self, prefix: str, write: Callable[[str], None]) -> str:
        """Write one file; its path, relative to output.

        Args:
            prefix: folders and the beginning of the name; without `folder` it is meant below it.
            write: given a path, writes the file, or raises FileExistsError where there is one.
        """
        folder, name, counter, subfolder = self.place(prefix)
        for number in itertools.count(counter):  # another server may save at this moment
            file_name = f"{name}_{number:05}_{self.extension}"
            try:
                write(os.path.join(folder, file_name))
            except FileExistsError:
                continue
            except OSError as error:
                raise ValueError(
                    f"filename_prefix: expected a name that can be saved in {folder}, got an error "
                    f"({error.strerror}). Choose another name, or make room there."
                ) from error
            return os.path.join(subfolder, file_name)
        raise AssertionError("numbers do not end")

    def place(self, prefix: str) -> tuple[str, str, int, str]:
        """Folder, beginning of the name, first free number, and the folder below output."""
        top = prefix.replace("\\", "/").lstrip("./").partition("/")
        below = prefix if top[0] == self.folder and top[1] else f"{self.folder}/{prefix}"
        try:
            folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(
                below, folder_paths.get_output_directory()
            )
            first = os.path.normpath(subfolder).split(os.sep)[0]
            is_inside = first == self.folder and "\0" not in prefix
        except Exception:  # ComfyUI raises no narrower one where the folder is outside of output
            is_inside = False
        if not is_inside:
            raise ValueError(
                f"filename_prefix: expected a name in output/{self.folder}, got {printed(prefix)}. "
                f"Write one such as {self.folder}/{self.example}."
            )
        return folder, name, counter, subfolder
