# Shapes: B samples of a UNet call.
"""How values in the conditionings reach the patches inside the UNet: one mechanism for every method
that patches a MODEL.

A method puts a `BranchCond` with a value of its own into `model_conds` of its conditionings, under
its own key, and calls `attach_run` once on its MODEL. ComfyUI merges the conditionings of all
branches into one UNet call; patches then find a `BranchCall` under the same key in
`transformer_options`, as long as the method is active.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import comfy.patcher_extension
import torch

from ...subject_diffusion_core.errors import require_finite_tensor
from .batch_rows import RowsCond, parts_of_batch, rows_key
from .comfy_types import BaseModel, Control, Entry, Executor, Guider, Model, Options, Sampling
from .layout_size import warn_of_other_proportions
from .node_warnings import show_warnings
from .parts_of_a_picture import frame_of_part, warn_of_tiles
from .picture_size import attach_size_check
from .sampling_run import (
    NO_LISTENER,
    WHOLE_PICTURE,
    Frame,
    Made,
    RunSettings,
    Said,
    SamplingRun,
    WatchedText,
)
from .schedule import PERCENTS, RANGE_MARK, HookBinder, sigma_bounds, sigmas_in_force
from .step_caches import told_of_late_conditionings
from .text_changes import warn_of_changed_texts


@dataclass(frozen=True, kw_only=True, eq=False)
class BranchCond:
    """A `model_conds` entry, with the interface of `comfy.conds.CONDRegular`.

    Attributes:
        value: what the method says in this branch, a `BranchValue` of its own kind.
        opposed: what the other branches say, where `value` is the opposite of what they say at a
            step; empty where it is one value at all steps.
        text: where the subjects' words are, None where the branch's text names none.
        run: the sampling run that it takes part in, None before it begins.
        frame: the part of the picture that the conditioning covers, x1, y1, x2, y2 in 0..1.
        batch_size: number of samples it holds for in one UNet call.
        warned: holds something once it was said that no MODEL listens.
        encoded: the text (1, L, D) that it came with, None where that is not known.
    """

    value: Any
    opposed: tuple[Said, ...] = ()
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
        return BranchCond(value=self.value, opposed=self.opposed, text=text, run=run)

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

    def with_parts(self, rows: Iterator[tuple[int, int]]) -> BranchCall:
        """The call of other samples: numbers of its parts, each with how many follow."""
        parts = tuple(replace(self.parts[index], batch_size=count) for index, count in rows)
        return BranchCall(parts=parts, run=self.run)

    def in_its_part(self, run: SamplingRun, x: torch.Tensor, options: Options) -> BranchCall:
        """The call where the UNet's input x is a part of the picture; areas have their frame."""
        if any(part.frame != WHOLE_PICTURE for part in self.parts):
            return self
        frame = frame_of_part(run, (x.shape[-2], x.shape[-1]), options) or WHOLE_PICTURE
        parts = tuple(replace(part, frame=frame) for part in self.parts)
        return BranchCall(parts=parts, run=self.run)

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


def attach_run(model: Model, settings: RunSettings) -> None:
    """Let every sampling run of this MODEL hand the method's values to its patches."""
    wrappers = comfy.patcher_extension.WrappersMP
    key = settings.key
    attach_size_check(model)
    model.add_wrapper_with_key(wrappers.OUTER_SAMPLE, key, make_outer_sample_wrapper(settings))
    model.add_wrapper_with_key(
        wrappers.DIFFUSION_MODEL, key, make_diffusion_model_wrapper(settings, model.model)
    )


def make_outer_sample_wrapper(settings: RunSettings) -> Callable[..., torch.Tensor]:
    """Every conditioning of a run gets the value of its branch, or null, so that all branches fit
    into one UNet call, and the run that all steps share."""

    def outer_sample(
        executor: Executor,
        noise: torch.Tensor,
        latent_image: torch.Tensor,
        *args: Any,  # sampler, sigmas, and more
        **kwargs: Any,
    ) -> torch.Tensor:
        require_finite_tensor("latent_image", latent_image, "the nodes that made the latent")
        guider: Guider = executor.class_obj
        sampling = guider.model_patcher.get_model_object("model_sampling")
        run = settings.new_run((noise.shape[-2], noise.shape[-1]), sampling)
        binder = None if settings.hook is None else HookBinder.for_run(settings.hook)
        conds = {
            branch: [_with_sigmas(entry, sampling) for entry in entries]
            for branch, entries in guider.conds.items()
        }
        said = _said(settings, conds, sampling)
        _warn(settings.key, conds, said, latent_image, args)
        silent = _silence(settings, said)
        guider.conds = {
            branch: [_prepare(entry, settings, silent[branch], run, binder) for entry in entries]
            for branch, entries in conds.items()
        }
        _share_controlnet_text(guider.conds)
        try:
            with told_of_late_conditionings(guider.model_options):
                return executor(noise, latent_image, *args, **kwargs)
        finally:
            run.forget()

    return outer_sample


def make_diffusion_model_wrapper(
    settings: RunSettings, base_model: BaseModel
) -> Callable[..., torch.Tensor]:
    """Takes the call of the merged conds and puts it into a copy of `transformer_options`.

    Args:
        base_model: ComfyUI's BaseModel around the UNet. Calls that no sampling run prepared get
            their schedule from what it has as `model_sampling` then.
    """
    null = BranchCond(value=settings.null)

    def diffusion_model(
        executor: Executor,
        x: torch.Tensor,
        timesteps: torch.Tensor | None = None,
        context: torch.Tensor | None = None,
        y: torch.Tensor | None = None,
        control: Control | None = None,
        transformer_options: Options | None = None,
        **kwargs: Any,  # the other conds, of any kind
    ) -> torch.Tensor:
        options = dict(transformer_options or {})
        call: BranchCall = kwargs.pop(settings.key, None) or null.process_cond(x.shape[0]).concat(
            []
        )
        run = call.run
        if run is None:
            size = (x.shape[-2], x.shape[-1])
            run = settings.new_run(size, base_model.model_sampling)
            call = replace(call, run=run)
        rows = kwargs.pop(rows_key(settings.key), None)
        if run.is_active(options.get("sigmas")):
            if call.num_samples != x.shape[0]:
                call = call.with_parts(parts_of_batch(rows, call.num_samples, x.shape[0]))
            call = call.in_its_part(run, x, options)
            options[settings.key] = _at_step(call, settings, options.get("sigmas"))
        return executor(x, timesteps, context, y, control, options, **kwargs)

    return diffusion_model


def _cond_of(entry: Entry, key: str) -> BranchCond | None:
    """What an entry says; one that was zeroed, often the positive in place of a negative, says
    nothing."""
    cond: BranchCond | None = entry["model_conds"].get(key)
    text = entry.get("cross_attn")
    return None if text is not None and not bool(text.any()) else cond


def _said(
    settings: RunSettings, conds: dict[str, list[Entry]], sampling: Sampling
) -> dict[str, list[Said]]:
    """What each guidance branch says, all of this method and MODEL."""
    said = {
        branch: [
            Said(cond.value, *sigmas_in_force(entry, sampling))
            for entry in entries
            if (cond := _cond_of(entry, settings.key))
        ]
        for branch, entries in conds.items()
    }
    for sayings in said.values():
        for saying in sayings:
            settings.require(saying.value)
    return said


def _warn(
    key: str,
    conds: dict[str, list[Entry]],
    said: dict[str, list[Said]],
    latent_image: torch.Tensor,
    more: Sequence[Any],
) -> None:
    """Of what other nodes did to sizes and texts, or do with parts of the picture; `more` begins
    with sampler and sigmas."""
    warn_of_other_proportions(conds, latent_image.shape[-2], latent_image.shape[-1])
    acting = [
        (cond.encoded, entry.get("cross_attn"))
        for entries in conds.values()
        for entry in entries
        if (cond := entry["model_conds"].get(key)) and cond.value.acts
    ]
    warn_of_changed_texts(acting)
    values = (saying.value for sayings in said.values() for saying in sayings)
    acts = next((value for value in values if value.acts), None)
    if acts is not None:
        warn_of_tiles(acts, latent_image, *more[1:2])


def _silence(settings: RunSettings, said: dict[str, list[Said]]) -> dict[str, BranchCond]:
    """What entries without a value get, by guidance branch."""
    null = BranchCond(value=settings.null)
    if settings.opposite is None:
        return dict.fromkeys(said, null)
    everything = tuple(saying for sayings in said.values() for saying in sayings)
    comes_and_goes = len({saying[1:] for saying in everything}) > 1
    value = settings.opposite([saying.value for saying in everything])
    opposite = BranchCond(value=value, opposed=everything if comes_and_goes else ())
    return {branch: null if sayings else opposite for branch, sayings in said.items()}


def _at_step(call: BranchCall, settings: RunSettings, sigmas: torch.Tensor | None) -> BranchCall:
    """The call with the opposite of what holds at this step where a part says that."""
    run, opposite = call.run, settings.opposite
    if sigmas is None or run is None or opposite is None:
        return call
    if not any(part.opposed for part in call.parts):
        return call
    sigma = float(sigmas.flatten()[0])

    def at_step(part: BranchCond) -> BranchCond:
        values = tuple(saying.value for saying in part.opposed if saying.holds_at(sigma))
        value = run.once(("opposite", values), lambda: opposite(values))
        return replace(part, value=value) if part.opposed else part

    return replace(call, parts=tuple(map(at_step, call.parts)))


def _prepare(
    entry: Entry,
    settings: RunSettings,
    silence: BranchCond,
    run: SamplingRun,
    binder: HookBinder | None,
) -> Entry:
    text = entry.get("cross_attn")
    cond = _cond_of(entry, settings.key) or silence
    num_tokens = 0 if text is None else text.shape[1]
    prepared = {
        **entry,
        "model_conds": {
            **entry["model_conds"],
            settings.key: cond.bound(run, num_tokens),
            rows_key(settings.key): RowsCond(),
        },
    }
    if binder is not None:
        prepared["hooks"] = binder.group_for(entry.get("hooks"))
    return prepared


def _with_sigmas(entry: Entry, sampling: Sampling) -> Entry:
    """Exact bounds in place of a `clip_range`; it is unmarked then, as every method on a MODEL asks
    for them."""
    if RANGE_MARK not in entry:
        return entry
    percents = {name: entry[name] for name in PERCENTS if name in entry}
    others = {name: value for name, value in entry.items() if name not in (RANGE_MARK, *PERCENTS)}
    return {**others, **sigma_bounds(percents, sampling)}


def _share_controlnet_text(conds: dict[str, list[Entry]]) -> None:
    """Give every entry a text for ControlNet if one has it, or the branches do not batch."""
    entries = [entry for branch in conds.values() for entry in branch]
    if not any("cross_attn_controlnet" in entry for entry in entries):
        return
    for entry in entries:
        if "cross_attn_controlnet" not in entry and "cross_attn" in entry:
            entry["cross_attn_controlnet"] = entry["cross_attn"]
