"""References computed once for many pictures: a file beside the shards, where cut-outs recur.

    references.safetensors   patch_embeds (R, P, C), image_embeds (R, E), cutout (R,), identity (R,)

An entity that names its ``cutout`` takes its reference from there: a row of the same cut-out, or of
another one of the same identity.
# Shapes: R rows of the pool, P patch tokens, C patch width, E image embedding width.
"""

from __future__ import annotations

from collections import defaultdict
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from torch import Tensor

from .bad_sample import BadSample

POOL_NAME = "references.safetensors"
MARK = "encoder"


class ReferencePool:
    """The pool of a folder; it is opened anew in every process that reads."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def file(self) -> Any:
        """The open file; rows are read as slices."""
        return safe_open(self.path, framework="pt")

    @cached_property
    def mark(self) -> str:
        """Hash of the encoder that made it."""
        return str((self.file.metadata() or {}).get(MARK, ""))

    @cached_property
    def rows(self) -> dict[int, list[int]]:
        """Cut-out -> its rows."""
        rows: dict[int, list[int]] = defaultdict(list)
        for row, cutout in enumerate(self.file.get_tensor("cutout").tolist()):
            rows[cutout].append(row)
        return dict(rows)

    @cached_property
    def views(self) -> dict[int, list[int]]:
        """Cut-out -> all cut-outs of its identity, itself among them."""
        identities = self.file.get_tensor("identity").tolist()
        of = {cutout: identities[rows[0]] for cutout, rows in self.rows.items()}
        groups: dict[int, list[int]] = defaultdict(list)
        for cutout, identity in of.items():
            groups[identity].append(cutout)
        return {cutout: groups[identity] for cutout, identity in of.items()}

    def draw(self, cutout: int, same_view: float, rng: np.random.Generator) -> dict[str, Tensor]:
        """patch_embeds (P, C) and image_embeds (E,) of a row: of another view, if there is one and
        not in the share ``same_view``."""
        if cutout not in self.rows:
            raise BadSample("cut-out that the pool of references lacks")
        others = [view for view in self.views[cutout] if view != cutout]
        if not others or rng.random() < same_view:
            others = [cutout]
        rows = self.rows[others[int(rng.integers(len(others)))]]
        return self.read(rows[int(rng.integers(len(rows)))])

    def read(self, row: int) -> dict[str, Tensor]:
        """A row, as float32."""
        names = ("patch_embeds", "image_embeds")
        return {name: self.file.get_slice(name)[row].float() for name in names}

    def __getstate__(self) -> dict[str, Path]:
        return {"path": self.path}
