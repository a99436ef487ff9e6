"""What the pack does while the real ComfyUI runs a graph: a picture's way, and work per run."""

from __future__ import annotations

import importlib
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import Any

import torch

from devtools.api_client import Graph

from ..comfyui import ROOT, find_comfyui
from ..golden_latents.editing import change, names_of, redirect, remove_unused
from ..golden_latents.graphs import golden
from .in_process import InProcessHost, replaced
from .pack_code import PackCode
from .picture_trace import PictureTrace

STEPS = 6
# Each waits for a GPU to finish what it was given.
SYNCS = ("item", "tolist", "cpu", "numpy", "__bool__", "__float__", "__int__")
POSITION_FEATURES = "position_features"
SUBJECT, LAYOUT = "SubjectDiffusionSubject", "SubjectDiffusionLayout"
APPLY, ENCODE = "SubjectDiffusionApply", "SubjectDiffusionEncode"
GUIDER = "SubjectDiffusionGuider"


def example(name: str, steps: int) -> Graph:
    graph = golden(name)
    change(graph, "BasicScheduler", steps=steps)
    return graph


def shortest_graph() -> Graph:
    """The example with one subject without what a picture need not pass: the box is the Subject's,
    the guider ComfyUI's own. Apply lets go before the end, so that there is a schedule."""
    graph = example("one_subject", 1)
    (subject,), (layout,) = names_of(graph, SUBJECT), names_of(graph, LAYOUT)
    redirect(graph, [layout, 0], [subject, 0])
    remove_unused(graph, [*names_of(graph, "PreviewImage"), layout])
    (guider,) = names_of(graph, GUIDER)
    inputs = graph[guider]["inputs"]
    graph[guider] = {
        "class_type": "CFGGuider",
        "inputs": {name: inputs[name] for name in ("model", "positive", "negative")} | {"cfg": 4.0},
    }
    change(graph, APPLY, end_percent=0.8)
    return graph


def trace_picture(host: InProcessHost, graph: Graph) -> PictureTrace:
    """From Load Image to the first patch of the pack that the UNet calls."""
    from comfy.ldm.modules.diffusionmodules import openaimodel

    nodes: Any = importlib.import_module("nodes")
    trace = PictureTrace(PackCode(ROOT), find_comfyui().folder)

    def loading(load_image: Callable[..., Any]) -> Callable[..., Any]:
        def load_and_follow(*args: Any, **kwargs: Any) -> Any:
            image, mask = load_image(*args, **kwargs)
            trace.followed.add(image)
            return image, mask

        return load_and_follow

    def calling(forward: Callable[..., Any]) -> Callable[..., Any]:
        def expect_and_forward(*args: Any, **kwargs: Any) -> Any:
            trace.expect_end()
            return forward(*args, **kwargs)

        return expect_and_forward

    host.forget()
    with (
        replaced(nodes.LoadImage, "load_image", loading),
        replaced(openaimodel.UNetModel, "_forward", calling),
        trace.watching(),
    ):
        host.run(graph)
    return trace


class WorkCounter:
    """Counts calls that come from the pack, by what is called and where."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        self.unet_calls = 0
        self._pack = PackCode(ROOT)
        self._in_unet = False

    def count(self, what: str, where: str) -> int:
        return self.counts[what, where]

    def total(self, what: str) -> int:
        return sum(count for (kind, _), count in self.counts.items() if kind == what)

    def places(self, what: str) -> str:
        """Where and how often, for example "100 in SubjectDiffusionApply"."""
        found = [
            f"{count} in {place}" for (kind, place), count in self.counts.items() if kind == what
        ]
        return ", ".join(found) or "none"

    @contextmanager
    def watching(self) -> Iterator[None]:
        import comfy.sd
        from comfy.ldm.modules.diffusionmodules import openaimodel

        with ExitStack() as stack:
            for name in SYNCS:
                stack.enter_context(
                    replaced(torch.Tensor, name, self._counted("sync", direct=True))
                )
            gather = self._counted("gather", direct=True, condition=_is_gather)
            stack.enter_context(replaced(torch.Tensor, "__getitem__", gather))
            stack.enter_context(replaced(torch.nn.Linear, "__init__", self._counted("Linear")))
            for name in ("tokenize", "encode_from_tokens_scheduled"):
                stack.enter_context(replaced(comfy.sd.CLIP, name, self._counted(name)))
            stack.enter_context(replaced(openaimodel.UNetModel, "forward", self._unet_call))
            sys.setprofile(self._on_event)
            try:
                yield
            finally:
                sys.setprofile(None)

    def _counted(
        self,
        what: str,
        direct: bool = False,
        condition: Callable[[tuple[Any, ...]], bool] = lambda _: True,
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Makes a function that counts its calls from the pack: from a function of it directly, or
        from anything that such a function called."""

        def make(function: Callable[..., Any]) -> Callable[..., Any]:
            def counted(*args: Any, **kwargs: Any) -> Any:
                caller = sys._getframe(1)
                ours = self._pack.file_of(caller.f_code) is not None
                if condition(args) and (ours if direct else any(self._pack.frames(caller))):
                    self.counts[what, self._place(caller)] += 1
                return function(*args, **kwargs)

            return counted

        return make

    def _unet_call(self, forward: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            self.unet_calls += 1
            self._in_unet = True
            try:
                return forward(*args, **kwargs)
            finally:
                self._in_unet = False

        return counted

    def _place(self, caller: FrameType) -> str:
        """ "UNet", the id of the node that runs, or "elsewhere"."""
        if self._in_unet:
            return "UNet"
        for frame in self._pack.frames(caller):
            if frame.f_code.co_name == "execute" and "cls" in frame.f_locals:
                node_id: str = frame.f_locals["cls"].define_schema().node_id
                return node_id
        return "elsewhere"

    def _on_event(self, frame: FrameType, event: str, argument: Any) -> None:
        code = frame.f_code
        if event == "call" and POSITION_FEATURES in code.co_name and self._pack.file_of(code):
            self.counts["positions", self._place(frame)] += 1


def _is_gather(arguments: tuple[Any, ...]) -> bool:
    index = arguments[1]
    parts = index if isinstance(index, tuple) else (index,)
    return any(isinstance(part, torch.Tensor) for part in parts)


def count_work(host: InProcessHost, graph: Graph) -> WorkCounter:
    counter = WorkCounter()
    with counter.watching():
        host.run(graph)
    return counter


def describe_work(host: InProcessHost) -> list[str]:
    """Two lines of figures for each number of subjects, one for a change of Apply's strength."""
    lines = []
    for name in ("one_subject", "two_subjects"):
        host.forget()
        lines += describe_run(name, count_work(host, example(name, STEPS)))
    weaker = example("two_subjects", STEPS)
    change(weaker, APPLY, strength=0.8)
    again = count_work(host, weaker)
    lines.append(
        f"strength 1.0 -> 0.8 of Apply in a second prompt: nn.Linear made: {again.places('Linear')}"
    )
    return lines


def describe_run(name: str, work: WorkCounter) -> list[str]:
    calls = work.unet_calls

    def rate(what: str) -> str:
        count = work.count(what, "UNet")
        return f"{count} ({count / calls:g} a UNet call)"

    syncs_between = work.count("sync", "elsewhere")
    return [
        f"{name}, {STEPS} steps, {calls} UNet calls:",
        f"  position features computed: {rate('positions')}, {work.total('positions')} in all",
        f"  host syncs: {rate('sync')}, {syncs_between} between UNet calls",
        f"  gathers with a tensor as index: {rate('gather')}",
        f"  Encode: {work.count('tokenize', ENCODE)} x clip.tokenize, "
        f"{work.count('encode_from_tokens_scheduled', ENCODE)} x encode_from_tokens_scheduled",
        f"  nn.Linear made: {work.places('Linear')}",
    ]
