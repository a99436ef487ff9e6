# Shapes: R ranges, S subjects, B pictures, T kinds, h, w a layer's map, H, W the latent's.
"""Attention to the subjects' words, or to their own pictures, summed up during one sampling run."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import torch

from ...subject_diffusion_core.attention_maps import resize_maps
from ...subject_diffusion_core.schema import printed
from ..host.picture_attention import PicturedSubject
from ..host.sampling_run import Frame, WatchedSubject

Range = tuple[float, float]
MappedSubject = WatchedSubject | PicturedSubject
# What a record has maps of: of the label's last token and of the placeholder, or of the pictures.
WORDS, PICTURES = ("label", "placeholder"), ("pictures",)
MOST_RUNS = 8  # whose maps are kept


@dataclass(frozen=True, kw_only=True, eq=False)
class AttentionRecord:
    """What a finished run leaves behind, on the CPU.

    Attributes:
        ranges: start and end in percent 0..1 of the sampling, R of them.
        subjects: S of them, in the order of the list that was encoded.
        kinds: T of them, `WORDS` or `PICTURES`.
        maps: (R, S, B, T, H, W) mean probability in 0..1 of each kind.
        present: (R, S) bool, False where no step of the range had the subject; its maps are 0.
    """

    ranges: tuple[Range, ...]
    subjects: tuple[MappedSubject, ...]
    kinds: tuple[str, ...]
    maps: torch.Tensor
    present: torch.Tensor


class AttentionHandle:
    """Where Attention Maps finds the runs of the MODEL that Record Attention gave out: the latest
    one, and some before it, as ComfyUI may take a picture of theirs out of its cache."""

    def __init__(self) -> None:
        self._records: tuple[AttentionRecord, ...] = ()
        self._earlier: dict[str, tuple[AttentionRecord, ...]] = {}

    def begin(self, run: str | None) -> None:
        """A run begins; `run` is the fingerprint of the node that samples, None if unknown."""
        self._records = ()
        self._earlier.pop(run or "", None)

    def keep(self, records: Iterable[AttentionRecord | None], run: str | None = None) -> None:
        """The run is over; None where it has nothing of a kind."""
        self._records = tuple(record for record in records if record is not None)
        if self._records and run is not None:
            self._earlier[run] = self._records
            for oldest in list(self._earlier)[:-MOST_RUNS]:
                del self._earlier[oldest]

    @property
    def has_records(self) -> bool:
        return bool(self._records)

    @property
    def record(self) -> AttentionRecord | None:
        """Of the words in the latest run; None before the first one, during a run, after a
        cancelled one, and where no subject has words in the prompt."""
        return self._of_kinds(WORDS)

    @property
    def pictures(self) -> AttentionRecord | None:
        """Of the subjects' pictures, likewise."""
        return self._of_kinds(PICTURES)

    def records_of(self, runs: Collection[str]) -> tuple[AttentionRecord, ...]:
        """Of the latest of these runs; of the latest at all where it is not known which made a
        picture."""
        if not runs or not self._earlier:
            return self._records
        return next((self._earlier[run] for run in reversed(self._earlier) if run in runs), ())

    def _of_kinds(self, kinds: tuple[str, ...]) -> AttentionRecord | None:
        return next((record for record in self._records if record.kinds == kinds), None)


@dataclass(eq=False)
class _Sum:
    """Maps of equal size, added up over layers and steps."""

    maps: torch.Tensor
    count: int


class AttentionRecorder:
    """The sums of one run: their number depends on ranges, subjects and sizes, not on the steps.

    Safe between threads, as newer versions of ComfyUI run the branches in several.
    """

    def __init__(self, ranges: Sequence[Range], kinds: tuple[str, ...] = WORDS) -> None:
        self._ranges = tuple(ranges)
        self._kinds = kinds
        self._lock = threading.Lock()
        self._subjects: dict[int, MappedSubject] = {}
        self._sums: dict[tuple[int, int, Frame], dict[torch.Size, _Sum]] = {}

    def add(
        self, ranges: Sequence[int], subject: MappedSubject, frame: Frame, maps: torch.Tensor
    ) -> None:
        """Maps (B, T, h, w) of one layer at one step, which belongs to these ranges."""
        with self._lock:
            self._subjects[subject.index] = subject
            for number in ranges:
                sums = self._sums.setdefault((number, subject.index, frame), {})
                if maps.shape in sums:
                    total = sums[maps.shape]
                    total.maps += maps.to(total.maps.device)
                    total.count += 1
                else:
                    sums[maps.shape] = _Sum(maps.clone(), 1)

    def finish(self, height: int, width: int) -> AttentionRecord | None:
        """The means over layers and steps in the latent's size H, W; None if nothing came."""
        with self._lock:
            if not self._sums:
                return None
            subjects = [subject for _, subject in sorted(self._subjects.items())]
            batch = max(shape[0] for sums in self._sums.values() for shape in sums)
            counted = (len(self._ranges), len(subjects), batch, len(self._kinds))
            maps = torch.zeros(*counted, height, width)
            counts = torch.zeros_like(maps)
            for (number, index, frame), sums in self._sums.items():
                slot = [subject.index for subject in subjects].index(index)
                top, bottom, left, right = _cells(frame, height, width)
                for shape, total in sums.items():
                    part = (number, slot, slice(shape[0]), slice(None))
                    area = (*part, slice(top, bottom), slice(left, right))
                    resized = resize_maps(total.maps.float().cpu(), bottom - top, right - left)
                    maps[area] += resized
                    counts[area] += total.count
            return AttentionRecord(
                ranges=self._ranges,
                subjects=tuple(subjects),
                kinds=self._kinds,
                maps=maps / counts.clamp(min=1.0),
                present=counts.flatten(2).amax(-1) > 0,
            )


def _cells(frame: Frame, height: int, width: int) -> tuple[int, int, int, int]:
    """Top, bottom, left and right of a frame in latent cells; frames are cut at whole cells."""
    x1, y1, x2, y2 = frame
    return round(y1 * height), round(y2 * height), round(x1 * width), round(x2 * width)


def parse_ranges(text: str) -> list[Range]:
    """ "start-end" pairs in 0..1, separated by commas; empty means the whole sampling.

    >>> parse_ranges("0-0.5, 0.5-1")
    [(0.0, 0.5), (0.5, 1.0)]
    """
    ranges = []
    for part in text.split(",") if text.strip() else ["0-1"]:
        start, _, end = part.partition("-")
        try:
            bounds = (float(start), float(end))
        except ValueError:
            bounds = (1.0, 0.0)
        if not 0.0 <= bounds[0] < bounds[1] <= 1.0:
            raise ValueError(
                "ranges: expected start-end pairs from 0 to 1 such as '0-0.5, 0.5-1', got "
                f"{printed(text)}. Correct them."
            )
        ranges.append(bounds)
    return ranges
