"""The way of a picture through the pack: which files get it, which classes carry it.

A tensor is followed by its memory: what an operation of PyTorch computes from followed tensors is
followed, too, as are all views of it. Conversions through Python's numbers lose the trace.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from .pack_code import PackCode

DEPTH = 12


class FollowedTensors(TorchDispatchMode):
    """The tensors that hold something of the picture; active inside a `with` block."""

    def __init__(self) -> None:
        super().__init__()
        # Alive, so that no other tensor gets their memory.
        self._kept: dict[int, torch.UntypedStorage] = {}

    def add(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage.data_ptr():
            self._kept[storage.data_ptr()] = storage

    def __contains__(self, tensor: torch.Tensor) -> bool:
        return tensor.untyped_storage().data_ptr() in self._kept

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if any(tensor in self for tensor in tensors_in((args, kwargs))):
            for tensor in tensors_in(result):
                self.add(tensor)
        return result


def tensors_in(value: Any) -> Iterator[torch.Tensor]:
    """The tensors in the arguments or the result of an operation."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from tensors_in(item)
    elif isinstance(value, dict):
        yield from tensors_in(list(value.values()))


class PictureTrace:
    """Watches every call in the pack.

    Attributes:
        files: that have a function which got something of the picture, in order of first sight.
        passing: those of them with a function that returned something of it, too.
        carriers: classes of the pack whose instances held something of it, directly or in what
            they hold, likewise.
    """

    def __init__(self, pack: PackCode) -> None:
        self._pack = pack
        self.followed = FollowedTensors()
        self.files: dict[str, None] = {}
        self.passing: set[str] = set()
        self.carriers: dict[str, None] = {}

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Inside, calls are watched until `stop`, which may come earlier than the block's end."""
        with self.followed:
            sys.setprofile(self._on_event)
            try:
                yield
            finally:
                self.stop()

    def stop(self) -> None:
        sys.setprofile(None)

    def _on_event(self, frame: FrameType, event: str, argument: Any) -> None:
        if event not in ("call", "return"):
            return
        file = self._pack.file_of(frame.f_code)
        if file is None:
            return
        if event == "return":
            if self._holds(argument, set()) and file in self.files:
                self.passing.add(file)
        elif self._holds(arguments_of(frame), set()):
            self.files.setdefault(file)

    def _holds(self, value: Any, seen: set[int], depth: int = 0) -> bool:
        """Whether something of the picture is in a value; notes the classes that carry it."""
        if isinstance(value, torch.Tensor):
            return value in self.followed
        if id(value) in seen or depth > DEPTH:
            return False
        ours = self._pack.owns(type(value))
        parts = list(parts_of(value, ours))
        if not parts:
            return False
        seen.add(id(value))
        held = any([self._holds(part, seen, depth + 1) for part in parts])
        if not held:
            return False
        if ours:
            self.carriers.setdefault(type(value).__name__)
        seen.discard(id(value))  # to be found again on another way
        return True


def parts_of(value: Any, ours: bool) -> Iterable[Any]:
    """What is looked through: containers, and the pack's own objects but for modules' weights."""
    if isinstance(value, list | tuple | set | frozenset):
        return value
    if isinstance(value, dict):
        return value.values()
    if ours and not isinstance(value, torch.nn.Module | type):
        slots = [name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())]
        slotted = [getattr(value, name, None) for name in slots]
        return [*getattr(value, "__dict__", {}).values(), *slotted]
    return ()


def arguments_of(frame: FrameType) -> list[Any]:
    """The arguments of the function that a frame runs."""
    code = frame.f_code
    extra = bool(code.co_flags & 0x04) + bool(code.co_flags & 0x08)  # *args, **kwargs
    count = code.co_argcount + code.co_kwonlyargcount + extra
    local = frame.f_locals
    return [local[name] for name in code.co_varnames[:count] if name in local]
