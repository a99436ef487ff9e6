"""How a method takes part in sampling runs, what a run shares between its steps, and where the
subjects' words are in its texts."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, TypeVar

import torch

from .comfy_types import Hook, Sampling

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


class Said(NamedTuple):
    """What a method says in some branch while start_sigma >= sigma >= end_sigma."""

    value: Any
    start_sigma: float
    end_sigma: float

    def holds_at(self, sigma: float) -> bool:
        return self.start_sigma >= sigma >= self.end_sigma


@dataclass(frozen=True, kw_only=True)
class WatchedSubject:
    """Where a subject's words are in the text of a branch.

    Attributes:
        index: of the subject in the list that was encoded.
        name, label: as in `Subject`.
        box_xyxy: in 0..1 of the whole generated picture.
        label_position, placeholder_position: of the label's last token in the suffix and of the
            placeholder, among the tokens of the conditioning.
        num_placeholders: tokens from the placeholder's position on that stand for the subject.
    """

    index: int
    name: str
    label: str
    box_xyxy: Frame
    label_position: int
    placeholder_position: int
    num_placeholders: int = 1

    @property
    def positions(self) -> tuple[int, ...]:
        """The label's, then the placeholders'."""
        first = self.placeholder_position
        return (self.label_position, *range(first, first + self.num_placeholders))


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
class RunSettings:
    """How a method takes part in the runs of a MODEL.

    Attributes:
        key: of its conds, and of the calls in `transformer_options`.
        null: value of conditionings that say nothing.
        opposite: value of the conditionings of a guidance branch in which none says anything, such
            as a negative prompt from elsewhere, by the values in the other branches; None: `null`.
        require: raises a sentence where a value does not belong to this MODEL; it may get another
            family's, as all adapters have one key.
        start_percent, end_percent: the part of the sampling in which it acts.
        hook: its scheduled weight differences, None if there are none.
    """

    key: str
    null: BranchValue
    opposite: Callable[[Sequence[Any]], BranchValue] | None = None
    require: Callable[[Any], None] = field(default=lambda value: None)
    start_percent: float = 0.0
    end_percent: float = 1.0
    hook: Hook | None = None

    def new_run(self, latent_size: tuple[int, int], model_sampling: Sampling) -> SamplingRun:
        start, end = self.start_percent, self.end_percent
        return SamplingRun(
            latent_size,
            math.inf if start <= 0.0 else model_sampling.percent_to_sigma(start),
            0.0 if end >= 1.0 else model_sampling.percent_to_sigma(end),
        )
