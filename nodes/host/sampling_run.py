# Shapes: B samples of a UNet call.
"""What rides in the conditionings, and what a sampling run shares between its steps.

A method puts a `BranchCond` with a value of its own into `model_conds` of its conditionings, under
its own key, and calls `run_attachment.attach_run` once on its MODEL. ComfyUI merges the
conditionings of all branches into one UNet call; patches then find a `BranchCall` under the same
key in `transformer_options`, as long as the method is active.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar

import torch

from .node_warnings import show_warnings

Frame = tuple[float, float, float, float]
WHOLE_PICTURE: Frame = (0.0, 0.0, 1.0, 1.0)
Made = TypeVar("Made")
NO_LISTENER = (
    "The conditioning carries subjects, but the MODEL that samples it does not know them: they "
    "have no effect. Connect the MODEL output of the node that goes with them (Subject-Diffusion "
    "Apply) to the sampler."
)


class BranchValue(Protocol):
    """What a method says in one guidance branch; compared and hashed by identity."""

    @property
    def acts(self) -> bool:
        """Whether it says anything; False in a branch without subjects."""

    @property
    def memory_shape(self) -> Sequence[int]:
        """For ComfyUI's memory estimate."""


@dataclass(frozen=True, kw_only=True)
class WatchedSubject:
    """Where a subject's words are in the text of a branch.

    Attributes:
        index: of the subject in the list that was encoded.
        name, label: as in `Subject`.
        box_xyxy: in 0..1 of the whole generated picture.
        label_position, placeholder_position: of the label's last token in the suffix and of the
            placeholder, among the tokens of the conditioning.
    """

    index: int
    name: str
    label: str
    box_xyxy: Frame
    label_position: int
    placeholder_position: int


@dataclass(frozen=True, kw_only=True)
class WatchedText:
    """The subjects that a branch's text names; `num_tokens` is that of the whole conditioning."""

    subjects: tuple[WatchedSubject, ...]
    num_tokens: int


class SamplingRun:
    """One sampling run: its latent size, when the method acts, and the tables that no step changes.

    It hangs on the conditionings of the run only, so it is gone when the run is over.

    Args:
        latent_size: height and width of the whole latent.
        start_sigma, end_sigma: the method acts while start_sigma >= sigma > end_sigma.
    """

    def __init__(
        self,
        latent_size: tuple[int, int],
        start_sigma: float = math.inf,
        end_sigma: float = 0.0,
    ) -> None:
        self.latent_size = latent_size
        self.start_sigma = start_sigma
        self.end_sigma = end_sigma
        self._tables: dict[Hashable, Any] = {}  # what each `make` gave
        self._lock = threading.Lock()

    def is_active(self, sigmas: torch.Tensor | None) -> bool:
        """Whether the method acts in a UNet call; looks at its sigmas only where that matters."""
        if sigmas is None or (self.start_sigma == math.inf and self.end_sigma <= 0.0):
            return True
        return self.start_sigma >= float(sigmas.flatten()[0]) > self.end_sigma

    def area_to_frame(self, area: Sequence[int]) -> Frame:
        """(height, width, y, x) in latent cells -> x1, y1, x2, y2 in 0..1 of the whole picture."""
        area_height, area_width, y, x = area
        height, width = self.latent_size
        return (x / width, y / height, (x + area_width) / width, (y + area_height) / height)

    def once(self, key: Hashable, make: Callable[[], Made]) -> Made:
        """`make()` at the first call with this key, its result later; safe between threads."""
        with self._lock:
            if key not in self._tables:
                self._tables[key] = make()
            made: Made = self._tables[key]
            return made

    def forget(self) -> None:
        """Drop the tables; a cancelled run may leave its conditionings on the guider."""
        with self._lock:
            self._tables.clear()


@dataclass(frozen=True, kw_only=True, eq=False)
class BranchCond:
    """A `model_conds` entry, with the interface of `comfy.conds.CONDRegular`.

    Attributes:
        value: what the method says in this branch, a `BranchValue` of its own kind.
        text: where the subjects' words are, None where the branch's text names none.
        run: the sampling run that it takes part in, None before it begins.
        frame: the part of the picture that the conditioning covers, x1, y1, x2, y2 in 0..1.
        batch_size: number of samples it holds for in one UNet call.
        warned: holds something once it was said that no MODEL listens.
        encoded: the text (1, L, D) that it came with, None where that is not known.
    """

    value: Any
    text: WatchedText | None = None
    run: SamplingRun | None = None
    frame: Frame = WHOLE_PICTURE
    batch_size: int = 1
    warned: list[str] = field(default_factory=list)
    encoded: torch.Tensor | None = None

    def bound(self, run: SamplingRun, num_tokens: int) -> BranchCond:
        """The same inside one run, in which its conditioning has `num_tokens`: more than when it
        was encoded, if other text was appended."""
        text = None if self.text is None else replace(self.text, num_tokens=num_tokens)
        return BranchCond(value=self.value, text=text, run=run)

    def process_cond(
        self, batch_size: int, area: Sequence[int] | None = None, **_kwargs: object
    ) -> BranchCond:
        """The entry for one model call; `area` is (height, width, y, x) in latent cells."""
        if self.run is None:
            self._warn_of_another_model()
        if area is None or self.run is None:
            return replace(self, frame=WHOLE_PICTURE, batch_size=batch_size)
        return replace(self, frame=self.run.area_to_frame(area), batch_size=batch_size)

    def _warn_of_another_model(self) -> None:
        """ComfyUI asks for the entry whatever the MODEL; ours would have begun a run with it."""
        if not self.warned and self.value.acts:
            self.warned.append(NO_LISTENER)
            show_warnings([NO_LISTENER])

    def can_concat(self, other: object) -> bool:
        return isinstance(other, BranchCond) and other.run is self.run

    def concat(self, others: Sequence[BranchCond]) -> BranchCall:
        return BranchCall(parts=(self, *others), run=self.run)

    def size(self) -> list[int]:
        return [self.batch_size, *self.value.memory_shape]


@dataclass(frozen=True, kw_only=True, eq=False)
class BranchCall:
    """One UNet call: each part holds for `batch_size` consecutive samples."""

    parts: tuple[BranchCond, ...]
    run: SamplingRun | None

    @property
    def num_samples(self) -> int:
        return sum(part.batch_size for part in self.parts)

    def once(self, what: str, make: Callable[[], Made], *more: Hashable) -> Made:
        """What these branches need at every step: made once a run; `more` tells calls apart."""
        assert self.run is not None
        branches = tuple((part.value, part.frame) for part in self.parts)
        return self.run.once((what, branches, *more), make)

    def rows(self, device: torch.device) -> torch.Tensor | None:
        """(B,) long, which of the parts each sample belongs to; None where sample i is part i or
        there is one part only."""
        counts = [part.batch_size for part in self.parts]
        if len(counts) == 1 or set(counts) == {1}:
            return None

        def make() -> torch.Tensor:
            parts = torch.arange(len(counts))
            return torch.repeat_interleave(parts, torch.tensor(counts)).to(device)

        return self.once("rows", make, tuple(counts), device)
