"""A work folder that goes on from stored weights: their base stays, their adapter is trained on.

What the base's file fixes (the latents' transform, the features' statistics) is written into the
folder as if its stages had made it, so that the tables fit the stored weights.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from subject_diffusion_core import checkpoint
from subject_diffusion_core.files.adapter import Adapter
from subject_diffusion_core.tiny import tiny_base
from subject_diffusion_core.tiny.tiny_base import TinyBase

from ..bases.loading import tiny_vae
from ..networks.text import CompactVocabulary
from ..runs import write_json
from .autoencoder import save_basis
from .block_pca import basis_of
from .files import ADAPTER_NAME, BASE_NAME
from .references import save_statistics

START_NAME = "start.json"


@dataclass(frozen=True, kw_only=True)
class StoredStart:
    """Base and adapter to go on from.

    Attributes:
        base_path, adapter_path: the files; the base's becomes the result's base as it is.
        sha256: of both files, by file name.
    """

    base_path: Path
    adapter_path: Path
    base: TinyBase
    adapter: Adapter
    sha256: dict[str, str]

    @property
    def vocabulary(self) -> CompactVocabulary:
        """The words that the base knows."""
        return CompactVocabulary(self.base.token_ids.tolist())


def read_stored_start(folder: Path) -> StoredStart:
    """Read ``tiny_base.safetensors`` and ``tiny_adapter.safetensors`` of a folder."""
    paths = {name: folder / name for name in (BASE_NAME, ADAPTER_NAME)}
    return StoredStart(
        base_path=paths[BASE_NAME],
        adapter_path=paths[ADAPTER_NAME],
        base=tiny_base.load(paths[BASE_NAME]),
        adapter=checkpoint.load(paths[ADAPTER_NAME]),
        sha256={
            name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in paths.items()
        },
    )


def claim_work(work: Path, start: StoredStart | None) -> None:
    """Make ``work`` a folder of this start (None: from nothing), or refuse it as another's.

    Raises:
        ValueError: the folder holds stages of another start.
    """
    path = work / START_NAME
    wanted = None if start is None else start.sha256
    if path.exists() or (work / "basis.pt").exists():
        found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
        if found != wanted:
            raise ValueError(
                f"--work: expected a folder of {described(wanted)}, got {work}, which is one of "
                f"{described(found)}. Choose another folder, or delete this one."
            )
        return
    if start is not None:
        vision = start.base.vision
        work.mkdir(parents=True, exist_ok=True)
        write_json(path, start.sha256)
        save_statistics(work, vision["patch_mean"], vision["patch_std"])
        save_basis(work / "basis.pt", basis_of(tiny_vae(start.base)))


def described(sha256: dict[str, str] | None) -> str:
    """A start in words: its adapter's hash, or none."""
    if sha256 is None:
        return "training from nothing"
    return f"training from the adapter {sha256[ADAPTER_NAME][:12]}"
