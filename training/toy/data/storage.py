"""Writes files so that a reader never sees half of one."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np


def write_json(path: Path, content: object) -> None:
    """Writes JSON so that a reader never sees half a file."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(content))
    os.replace(partial, path)


def save_array(path: Path, array: np.ndarray) -> None:
    """Writes `array` as .npy, complete or not at all."""
    partial = path.with_name(path.stem + ".partial.npy")
    np.save(partial, array)
    os.replace(partial, path)
