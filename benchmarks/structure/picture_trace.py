"""The way of a picture through the pack: which files hand it on, which classes carry it.

A tensor is followed by its memory: what an operation of PyTorch computes from followed tensors is
followed, too, as are all views of it. Conversions through Python's numbers lose the trace.

**The way** is that to the end which the trace reaches: the first function of the pack that is
called after `expect_end`. A file is on the way if a function of it gets something that the end's
arguments were computed from (or are) and hands such a thing on: returns or yields it to another
file, or calls ComfyUI or another file of the way with it. The file of the end is on the way. What
is only looked at, or kept, or goes elsewhere, is beside it.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from .pack_code import PackCode

DEPTH = 12
ELSEWHERE = "ComfyUI"
Memory = int  # the address of a tensor's storage


class FollowedTensors(TorchDispatchMode):
    """The tensors that hold something of the picture; active inside a `with` block."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        # Alive, so that no other tensor gets their memory.
        self._kept: dict[Memory, torch.UntypedStorage] = {}
        self._made_from: defaultdict[Memory, set[Memory]] = defaultdict(set)

    def add(self, tensor: torch.Tensor, made_from: Iterable[Memory] = ()) -> None:
        storage = tensor.untyped_storage()
        if storage.data_ptr():
            self._kept[storage.data_ptr()] = storage
            self._made_from[storage.data_ptr()] |= set(made_from)

    def __contains__(self, tensor: torch.Tensor) -> bool:
        return memory_of(tensor) in self._kept

    def origins(self, memories: Iterable[Memory]) -> set[Memory]:
        """These and all that they were computed from."""
        found, to_visit = set(), list(memories)
        while to_visit:
            memory = to_visit.pop()
            if memory not in found:
                found.add(memory)
                to_visit += self._made_from[memory]
        return found

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        sources = {memory_of(tensor) for tensor in tensors_in((args, kwargs)) if tensor in self}
        if sources:
            for tensor in tensors_in(result):
                self.add(tensor, sources)
        return result


def memory_of(tensor: torch.Tensor) -> Memory:
    return tensor.untyped_storage().data_ptr()


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
    """Watches every call into, out of and between the files of the pack.

    Args:
        host: ComfyUI's folder.
    """

    def __init__(self, pack: PackCode, host: Path) -> None:
        self._pack = pack
        self._host = str(host.resolve())
        self.followed = FollowedTensors()
        self._got: defaultdict[str, set[Memory]] = defaultdict(set)
        self._gave: defaultdict[str, set[Memory]] = defaultdict(set)
        self._called: defaultdict[tuple[str, str], set[Memory]] = defaultdict(set)
        self._carried: defaultdict[str, set[Memory]] = defaultdict(set)
        self._end_file = ""
        self._at_end: set[Memory] = set()
        self._expects_end = False

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Inside, calls are watched, until the end of the way."""
        with self.followed:
            sys.setprofile(self._on_event)
            try:
                yield
            finally:
                sys.setprofile(None)

    def expect_end(self) -> None:
        """The next call of the pack with something of the picture is the end of the way."""
        self._expects_end = True

    @property
    def files(self) -> list[str]:
        """Which have a function that got something of the picture, in order of first sight."""
        return list(self._got)

    @property
    def way(self) -> list[str]:
        """Those of them that lie on the way."""
        origins = self.followed.origins(self._at_end)
        on_way = {file for file, memories in self._gave.items() if memories & origins}
        on_way |= {ELSEWHERE, self._end_file}
        calls = [pair for pair, memories in self._called.items() if memories & origins]
        while more := {caller for caller, called in calls if called in on_way} - on_way:
            on_way |= more
        return [file for file in self._got if file in on_way]

    @property
    def carriers(self) -> list[str]:
        """Classes of the pack whose instances held what goes the way, directly or in what they
        hold, when a function got them or handed them on."""
        origins = self.followed.origins(self._at_end)
        return [name for name, memories in self._carried.items() if memories & origins]

    def _on_event(self, frame: FrameType, event: str, argument: Any) -> None:
        if event not in ("call", "return"):
            return
        caller = None if frame.f_back is None else self._pack.file_of(frame.f_back.f_code)
        file = self._pack.file_of(frame.f_code)
        if event == "return":
            if file is not None and file != caller:
                self._gave[file] |= self._held(argument)
        elif file is not None:
            held = self._held(arguments_of(frame))
            if held:
                self._note_call(caller, file, held)
        elif caller is not None and self._is_of_host(frame):
            self._called[caller, ELSEWHERE] |= self._held(arguments_of(frame))

    def _note_call(self, caller: str | None, file: str, held: set[Memory]) -> None:
        self._got[file] |= held
        if caller is not None and caller != file:
            self._called[caller, file] |= held
        if self._expects_end:
            sys.setprofile(None)
            self._end_file, self._at_end = file, held

    def _is_of_host(self, frame: FrameType) -> bool:
        return frame.f_code.co_filename.startswith(self._host)

    def _held(
        self, value: Any, inside: frozenset[int] = frozenset(), depth: int = 0
    ) -> set[Memory]:
        """What of the picture is in a value; notes the classes that carry it."""
        if isinstance(value, torch.Tensor):
            return {memory_of(value)} if value in self.followed else set()
        if id(value) in inside or depth > DEPTH:
            return set()
        ours = self._pack.owns(type(value))
        held: set[Memory] = set()
        for part in parts_of(value, ours):
            held |= self._held(part, inside | {id(value)}, depth + 1)
        if held and ours:
            self._carried[type(value).__name__] |= held
        return held


def parts_of(value: Any, ours: bool) -> Iterable[Any]:
    """What is looked through: containers, what a node returns, and the pack's own objects but for
    modules' weights."""
    if isinstance(value, list | tuple | set | frozenset):
        return value
    if isinstance(value, dict):
        return value.values()
    if type(value).__name__ == "NodeOutput":
        return list(vars(value).values())
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
