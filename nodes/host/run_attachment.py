"""How values in the conditionings reach the patches inside the UNet: one mechanism for every method
that patches a MODEL (see `sampling_run.py`)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import comfy.patcher_extension
import torch

from ...subject_diffusion_core.errors import require_finite_tensor
from .comfy_types import BaseModel, Control, Entry, Executor, Guider, Hook, Model, Options, Sampling
from .layout_size import warn_of_other_proportions
from .sampling_run import BranchCall, BranchCond, BranchValue, SamplingRun
from .schedule import HookBinder, sigma_bounds


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


def attach_run(model: Model, settings: RunSettings) -> None:
    """Let every sampling run of this MODEL hand the method's values to its patches."""
    wrappers = comfy.patcher_extension.WrappersMP
    key = settings.key
    model.add_wrapper_with_key(wrappers.OUTER_SAMPLE, key, make_outer_sample_wrapper(settings))
    model.add_wrapper_with_key(
        wrappers.DIFFUSION_MODEL, key, make_diffusion_model_wrapper(settings, model.model)
    )


def make_outer_sample_wrapper(settings: RunSettings) -> Callable[..., torch.Tensor]:
    """Every conditioning of the run gets the value of its branch (null, if it has none), so that
    all branches fit into one UNet call, and the run that all steps share."""

    def outer_sample(
        executor: Executor,
        noise: torch.Tensor,
        latent_image: torch.Tensor,
        *args: object,
        **kwargs: object,
    ) -> torch.Tensor:
        require_finite_tensor("latent_image", latent_image, "the nodes that made the latent")
        guider: Guider = executor.class_obj
        warn_of_other_proportions(guider.conds, noise.shape[-2], noise.shape[-1])
        sampling = guider.model_patcher.get_model_object("model_sampling")
        run = settings.new_run((noise.shape[-2], noise.shape[-1]), sampling)
        binder = None if settings.hook is None else HookBinder.for_run(settings.hook)
        silent = _values_of_silence(settings, _values_said(settings, guider.conds))
        guider.conds = {
            branch: [
                _prepare(sigma_bounds(entry, sampling), settings, silent[branch], run, binder)
                for entry in entries
            ]
            for branch, entries in guider.conds.items()
        }
        _share_controlnet_text(guider.conds)
        try:
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
        if run.is_active(options.get("sigmas")):
            _require_samples(call, x)
            options[settings.key] = call
        return executor(x, timesteps, context, y, control, options, **kwargs)

    return diffusion_model


def _cond_of(entry: Entry, key: str) -> BranchCond | None:
    """What an entry says; one that was zeroed, often the positive in place of a negative, says
    nothing."""
    cond: BranchCond | None = entry["model_conds"].get(key)
    text = entry.get("cross_attn")
    return None if text is not None and not bool(text.any()) else cond


def _values_said(
    settings: RunSettings, conds: dict[str, list[Entry]]
) -> dict[str, list[BranchValue]]:
    """The values of each guidance branch, all of this method and MODEL."""
    said = {
        branch: [cond.value for entry in entries if (cond := _cond_of(entry, settings.key))]
        for branch, entries in conds.items()
    }
    for values in said.values():
        for value in values:
            settings.require(value)
    return said


def _values_of_silence(
    settings: RunSettings, said: dict[str, list[BranchValue]]
) -> dict[str, BranchValue]:
    """What entries without a value get, by guidance branch."""
    if settings.opposite is None:
        return dict.fromkeys(said, settings.null)
    opposite = settings.opposite([value for values in said.values() for value in values])
    return {branch: settings.null if values else opposite for branch, values in said.items()}


def _prepare(
    entry: Entry,
    settings: RunSettings,
    silence: BranchValue,
    run: SamplingRun,
    binder: HookBinder | None,
) -> Entry:
    text = entry.get("cross_attn")
    cond = _cond_of(entry, settings.key) or BranchCond(value=silence)
    num_tokens = 0 if text is None else text.shape[1]
    prepared = {
        **entry,
        "model_conds": {**entry["model_conds"], settings.key: cond.bound(run, num_tokens)},
    }
    if binder is not None:
        prepared["hooks"] = binder.group_for(entry.get("hooks"))
    return prepared


def _share_controlnet_text(conds: dict[str, list[Entry]]) -> None:
    """Give every entry a text for ControlNet if one has it, or the branches do not batch."""
    entries = [entry for branch in conds.values() for entry in branch]
    if not any("cross_attn_controlnet" in entry for entry in entries):
        return
    for entry in entries:
        if "cross_attn_controlnet" not in entry and "cross_attn" in entry:
            entry["cross_attn_controlnet"] = entry["cross_attn"]


def _require_samples(call: BranchCall, x: torch.Tensor) -> None:
    """A wrapper around this one may have cut the batch up or repeated it."""
    if call.num_samples != x.shape[0]:
        raise ValueError(
            f"batch: expected {call.num_samples} samples for the subjects of this call, got "
            f"{x.shape[0]}. Turn off other nodes that change the batch inside the UNet call."
        )
