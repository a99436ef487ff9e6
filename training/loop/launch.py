"""How a run starts: its folder (one writer at a time, one configuration for ever), its processes,
its data, what it says of itself.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from ..bases.base_model import BaseModel
from ..bases.encoders import weights_mark
from ..bases.vision import load_vision
from ..dataset.catalogue import Catalogue, open_catalogue
from ..precision import fastest_precision
from ..recipes.configuration import TrainingRecipe
from ..runs import write_json

WEIGHTS = (".safetensors", ".bin", ".ckpt", ".pt")
SAMPLED_BYTES = 2**20
CONFIG_NAME = "config.json"
FREE_SETTINGS = {
    "summary", "num_workers", "num_processes", "checkpoint_every", "keep_checkpoints", "log_every",
    "sheet_every", "sheet_subjects", "tensorboard", "wandb", "micro_batch_size",
    "gradient_checkpointing", "ema_device",
}  # fmt: skip


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


@contextmanager
def only_writer(run: Path) -> Iterator[None]:
    """Hold the run's lock; the system frees it even after a kill."""
    run.mkdir(parents=True, exist_ok=True)
    try:
        import fcntl
    except ImportError:  # Windows: no lock
        yield
        return
    with (run / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BlockingIOError(
                f"--out: expected a run that nobody writes, got {run}, where another process is "
                "training. Wait for it, or choose another folder."
            ) from error
        yield


def check_config(run: Path, recipe: TrainingRecipe, files: dict[str, str]) -> None:
    """Refuse settings, base or starting adapter other than those the run was started with.

    Args:
        files: "base" and "init" to a mark of what they hold; no entry for none.
    """
    path = run / CONFIG_NAME
    if not path.exists():
        return
    saved = json.loads(path.read_text(encoding="utf-8"))
    _refuse_other(path, saved["recipe"], recipe)
    for name, mark in saved.get("files", {}).items():
        if files.get(name) != mark:
            place = saved["places"].get(name, "another one")
            got = "none" if name not in files else "a file that holds something else"
            raise ValueError(
                f"--{name}: expected what the run began with, {place}, got {got}. Pass --{name} "
                "as at the first start, or use another --out."
            )
    for name in files.keys() - saved.get("files", files).keys():
        raise ValueError(
            f"--{name}: expected none, as the run was begun without, got one. Leave it out, or use "
            "another --out."
        )


def write_config(
    run: Path, recipe: TrainingRecipe, places: dict[str, Any], files: dict[str, str]
) -> None:
    """Save the resolved configuration, once a run has everything it needs.

    Args:
        places: data, base, vision and init as given. files: see :func:`check_config`.
    """
    content = {
        "recipe": recipe.as_dict(),
        "places": {name: str(place) for name, place in places.items() if place},
        "files": files,
    }
    write_json(run / CONFIG_NAME, content, indent=2)


def _refuse_other(path: Path, saved: dict[str, Any], recipe: TrainingRecipe) -> None:
    free = FREE_SETTINGS | ({"steps"} if recipe.schedule == "constant" else set())
    for name, value in recipe.as_dict().items():
        if name not in free and name in saved and saved[name] != value:
            raise ValueError(
                f"{name}: expected {saved[name]!r} as in {path}, got {value!r}. "
                "Use the run's own settings, or another --out."
            )


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
    if options.recipe.precision != "float32" and fastest_precision(accelerator.device) == "float32":
        print(
            "warning: precision: bfloat16 is emulated on this CPU, several times slower than "
            "float32. Add --set precision=float32, with another --out."
        )
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
