"""The picture that a graph saves, for benches that score it."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from devtools.api_client import Graph

from .structure.in_process import InProcessHost


def input_folder() -> Path:
    """ComfyUI's input folder."""
    folder_paths: Any = importlib.import_module("folder_paths")
    return Path(folder_paths.get_input_directory())


def output_folder() -> Path:
    """ComfyUI's output folder."""
    folder_paths: Any = importlib.import_module("folder_paths")
    return Path(folder_paths.get_output_directory())


def made_picture(host: InProcessHost, graph: Graph) -> np.ndarray:
    """(H, W, 3) uint8: the one picture that the graph saves; its file is removed."""
    output = output_folder()
    before = set(output.glob("*.png"))
    host.run(graph)
    (made,) = set(output.glob("*.png")) - before
    with Image.open(made) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    made.unlink()
    return pixels
