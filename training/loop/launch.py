"""How a run starts: its paths, its processes, its data, what it says of itself."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator

from ..bases.base_model import BaseModel
from ..bases.encoders import weights_mark
from ..bases.vision import load_vision
from ..dataset.catalogue import Catalogue, open_catalogue
from ..recipes.configuration import TrainingRecipe

WEIGHTS = (".safetensors", ".bin", ".ckpt", ".pt")
SAMPLED_BYTES = 2**20


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Where a run reads and writes; everything else is the recipe's.

    ``base_model`` is a base that exists in memory alone (one without weights yet), instead of
    ``base``. ``minutes``: after which the run stops by itself, kept.
    """

    recipe: TrainingRecipe
    data: Path
    out: Path
    base: Path | None = None
    vision: Path | None = None
    init: Path | None = None
    base_model: BaseModel | None = None
    minutes: float | None = None

    def places(self) -> dict[str, Path | None]:
        """What the options name, as given."""
        return {"data": self.data, "base": self.base, "vision": self.vision, "init": self.init}

    def file_marks(self) -> dict[str, str]:
        """What a run may not exchange: a mark of the base's and of the first adapter's content."""
        named = {"base": self.base, "init": self.init}
        return {name: content_mark(path) for name, path in named.items() if path is not None}


def content_mark(path: Path) -> str:
    """A hash of the sizes, first and last bytes of a file, or of all weights in a folder."""
    files = [path] if path.is_file() else sorted(path.rglob("*.*"))
    digest = hashlib.sha256()
    for file in files:
        if file.suffix not in WEIGHTS:
            continue
        size = file.stat().st_size
        digest.update(str(size).encode())
        with file.open("rb") as content:
            digest.update(content.read(SAMPLED_BYTES))
            content.seek(max(0, size - SAMPLED_BYTES))
            digest.update(content.read(SAMPLED_BYTES))
    return digest.hexdigest()[:16]


def make_accelerator(recipe: TrainingRecipe) -> Accelerator:
    """One process, DDP or FSDP (version 2), as `accelerate launch` or torchrun set it up."""
    accelerator = Accelerator(
        mixed_precision="bf16" if recipe.precision == "bfloat16" else "no",
        cpu=not torch.cuda.is_available(),
    )
    kind = str(accelerator.distributed_type.value)
    plain = kind in ("NO", "MULTI_GPU", "MULTI_CPU")
    if not plain and not (kind == "FSDP" and accelerator.is_fsdp2):
        raise ValueError(
            f"accelerate: expected one process, DDP or FSDP version 2, got {kind}. "
            "Choose one of these with `accelerate config`."
        )
    if kind == "FSDP" and (recipe.offload_optimizer or recipe.optimizer == "adamw8bit"):
        raise ValueError(
            "offload_optimizer: expected false (and optimizer adamw) with FSDP, which cuts the "
            "optimiser's state itself. Change the setting."
        )
    return accelerator


def shared_catalogue(data: Path, folder: Path, accelerator: Accelerator) -> Catalogue:
    """The catalogue of the shards in ``data``, built in ``folder`` by the first process."""
    if accelerator.is_main_process:
        open_catalogue(data, folder)
    accelerator.wait_for_everyone()
    return open_catalogue(data, folder, build=False)


def announce(options: RunOptions, catalogue: Catalogue, accelerator: Accelerator) -> None:
    """Print the resolved configuration and what the data is."""
    width = max(len(name) for name in options.recipe.as_dict())
    for name, value in options.recipe.as_dict().items():
        print(f"  {name:<{width}} {value}")
    computed = ", ".join(catalogue.features) or "nothing"
    print(
        f"{sum(catalogue.counts)} samples in {len(catalogue.shards)} shards, "
        f"{len(catalogue.views)} subjects with several pictures, computed before: {computed}"
    )
    for sentence in catalogue.damaged:
        print(f"warning: {sentence}")
    count = accelerator.num_processes
    print(
        f"{count} of the {options.recipe.num_processes} processes that the recipe is meant for, on "
        f"{accelerator.device}; micro-batches of each: {options.recipe.accumulation(count)}",
        flush=True,
    )


def require_own_features(
    features: Mapping[str, str], base: BaseModel, recipe: TrainingRecipe, vision: Path | None
) -> None:
    """Refuse latents and tokens of other networks: the marks in ``features`` are hashes of their
    weights. Tokens are checked where the image encoder is at hand."""
    found = {}
    if "latents" in features:
        found["latents"] = weights_mark(base.load_vae())
    at_hand = base.vision is not None or recipe.random_base or vision is not None
    if "tokens" in features and recipe.has_references and at_hand:
        found["tokens"] = weights_mark(load_vision(vision, recipe, base))
    for kind, mark in found.items():
        if mark != features[kind]:
            network = "autoencoder" if kind == "latents" else "image encoder"
            raise ValueError(
                f"--data: expected {kind} of this base's {network}, got those of another one "
                f"(mark {features[kind]}, not {mark}). Run precompute again with this base."
            )
