"""What the stages with networks share: finding a model's files, its mark, device and numbers."""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .settings import ModelSettings

if TYPE_CHECKING:  # the functions that need it import it: a build without networks loads none
    import torch

ENDS = 2**20  # bytes at both ends of a file that its mark looks at
# What a folder of transformers must hold: of each line one file.
MODEL_FILES = (
    ("config.json",),
    ("preprocessor_config.json", "processor_config.json"),
    ("tokenizer.json", "vocab.txt", "vocab.json"),
    ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin",
     "pytorch_model.bin.index.json"),
)  # fmt: skip


def model_folder(stage: str, settings: ModelSettings, what: str) -> Path:
    """The folder of a model of transformers: a path, or the name of one in the hub's cache on this
    machine. Nothing is downloaded. A file that is missing is named.

    Args:
        stage: whose setting it is. what: the model, for messages.
    """
    if not settings.model:
        raise ValueError(
            f"{stage}.model: expected the folder of {what}, got none, and a picture needs it. Set "
            f"it with --set {stage}.model=FOLDER, or give the pictures what it would find."
        )
    folder = Path(settings.model)
    if not folder.is_dir():
        folder = _cached(stage, settings.model, what)
    for names in MODEL_FILES:
        if not any((folder / name).is_file() for name in names):
            raise ValueError(
                f"{stage}.model: expected {what} with a file {' or '.join(names)}, got none in "
                f"{folder}. Copy the whole model there."
            )
    return folder


def _cached(stage: str, name: str, what: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, local_files_only=True))
    except Exception as error:  # wrong names and missing ones have several types
        raise ValueError(
            f"{stage}.model: expected the folder of {what}, or its name in the hub's cache, got "
            f"{name!r}, which is neither. Download it there first."
        ) from error


def model_mark(model: str, dtype: str = "") -> str:
    """A hash of a model's files (name, size, both ends) and of its type of number: results of
    another model are others. Of a model that is not there, its name's."""
    found = hashlib.sha256(f"{model} {dtype}".encode())
    path = Path(model)
    if model and path.exists():
        found = hashlib.sha256(dtype.encode())
        for file in [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file()):
            found.update(f"{file.name} {file.stat().st_size}".encode())
            found.update(_ends(file))
    return found.hexdigest()[:16]


def _ends(file: Path) -> bytes:
    with file.open("rb") as stream:
        head = stream.read(ENDS)
        stream.seek(max(0, file.stat().st_size - ENDS))
        return head + stream.read(ENDS)


def device_of(settings: ModelSettings) -> torch.device:
    """The chosen device, else CUDA where there is one."""
    import torch

    try:
        chosen = settings.device or ("cuda" if torch.cuda.is_available() else "cpu")
        return torch.empty(0, device=chosen).device
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"device: expected one that this machine has, got {settings.device!r} ({error}). "
            "Choose cpu or cuda."
        ) from error


def dtype_of(settings: ModelSettings) -> torch.dtype:
    """The chosen type of numbers."""
    import torch

    found: torch.dtype = getattr(torch, settings.dtype)
    return found


def load_pretrained(stage: str, kind: Any, folder: Path, **options: Any) -> Any:
    """``kind.from_pretrained`` from files on this machine; what fails is told with its folder."""
    try:
        return kind.from_pretrained(folder, local_files_only=True, **options)
    except Exception as error:  # transformers raises OSError, KeyError, ValueError, ...
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ValueError(
            f"{stage}.model: expected files that {kind.__name__} reads in {folder}, got: "
            f"{lines[0][:300]} Copy the whole model there."
        ) from error


def lower_precision(
    device: torch.device, dtype: torch.dtype
) -> contextlib.AbstractContextManager[Any]:
    """A context in which matrix products are of the dtype; of float32 nothing changes."""
    import torch

    if dtype == torch.float32:
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype)


def to_device(inputs: Any, device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """Tensors of a processor on the device, floating ones in the dtype."""
    return {
        name: value.to(device, dtype) if value.is_floating_point() else value.to(device)
        for name, value in inputs.items()
    }
