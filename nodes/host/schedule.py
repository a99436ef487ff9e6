"""Start and end percent: weight differences that switch in mid-run, and the bounds of conditionings
that switch with them.

ComfyUI's weight hooks with keyframes do the switching, the mechanism behind its "Set CLIP Hooks"
node. One HookGroup is shared by all conditionings of a run, so their branches still run in one UNet
call.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import comfy.hooks
import numpy as np

from .comfy_types import Hook, HookGroup, Keyframes, Model, Sampling

RANGE_MARK = "subject_diffusion_range"
PERCENTS = ("clip_start_percent", "clip_end_percent", "start_percent", "end_percent")


def make_hook(strength: float, start_percent: float, end_percent: float) -> Hook:
    """A hook for weight differences that act between start and end.

    The differences are registered on a MODEL (`add_hook_patches`); the hook itself has none, so
    that a MODEL that does not know it takes conditionings that carry it.
    """
    hook: Hook = comfy.hooks.WeightHook(strength_model=strength, strength_clip=0.0)
    hook.need_weight_init = False
    hook.weights = {}
    hook.hook_keyframe = _keyframes(start_percent, end_percent)
    return hook


def require_switchable(model: Model, start_percent: float, end_percent: float) -> None:
    """One clear sentence unless ComfyUI can switch the weights of a model in mid-run."""
    if not _is_switchable(model):
        raise ValueError(
            f"start_percent, end_percent: expected 0 and 1 for a quantised model, got "
            f"{start_percent:g} and {end_percent:g}. ComfyUI cannot switch its weights in mid-run: "
            "leave start_percent at 0 and end_percent at 1, or load the model in fp16."
        )


def _is_switchable(model: Model) -> bool:
    """ComfyUI's hooks ask for all weights of a model by name, and set them in place: quantised ones
    have names without a weight, or refuse it."""
    try:
        model.get_key_patches()
    except AttributeError:
        return False
    weights = model.model_state_dict().values()
    return not any(type(weight).__name__ == "QuantizedTensor" for weight in weights)


def _keyframes(start_percent: float, end_percent: float) -> Keyframes:
    steps = [(0.0, 0.0)] if start_percent > 0.0 else []
    steps.append((start_percent, 1.0))
    if end_percent < 1.0:
        steps.append((end_percent, 0.0))
    keyframes: Keyframes = comfy.hooks.HookKeyframeGroup()
    for percent, strength in steps:
        # by default every keyframe is held for a step, also one that no step falls into
        keyframes.add(comfy.hooks.HookKeyframe(strength, start_percent=percent, guarantee_steps=0))
    return keyframes


class HookBinder:
    """Adds one hook to the groups of many entries; equal groups stay one object, so branches batch.

    Conditionings carry it from Encode on: ComfyUI looks for hooks when a guider gets them, and
    where it moves weights by itself ("dynamic VRAM"), it takes a MODEL that can switch weights.
    """

    def __init__(self, hook: Hook) -> None:
        self._hook = hook
        self._groups: dict[int, tuple[HookGroup | None, HookGroup]] = {}

    @classmethod
    def for_run(cls, hook: Hook) -> HookBinder:
        """With a clone: ComfyUI's keyframes remember the last sigma they saw, and nothing resets
        them."""
        clone = hook.clone()
        clone.hook_keyframe = hook.hook_keyframe.clone()
        return cls(clone)

    def group_for(self, existing: HookGroup | None) -> HookGroup:
        """The group to use instead of `existing`, an entry's own HookGroup or None; the hook takes
        the place of an earlier form of itself."""
        if id(existing) not in self._groups:
            group: HookGroup = comfy.hooks.HookGroup()
            for other in () if existing is None else existing.hooks:
                if other.hook_ref is not self._hook.hook_ref:
                    group.add(other)
            group.add(self._hook)
            self._groups[id(existing)] = (existing, group)
        return self._groups[id(existing)][1]


def clip_range(
    start_percent: float, end_percent: float, clip_start: float, clip_end: float
) -> dict[str, Any]:
    """What an entry gets to be in force between two percentages only; empty if it never is.

    Args:
        clip_start, clip_end: the entry's own `clip_start_percent` and `clip_end_percent`.
    """
    start, end = max(start_percent, clip_start), min(end_percent, clip_end)
    if start >= end:
        return {}
    return {"clip_start_percent": start, "clip_end_percent": end, RANGE_MARK: True}


def sigma_bounds(percents: Mapping[str, float], model_sampling: Sampling) -> dict[str, float]:
    """Exact bounds for an entry with a `clip_range`, in place of its `PERCENTS`.

    ComfyUI's ranges include both of their ends, so a step that falls on a boundary would use the
    entries of both sides. The end is moved by one float32 number: each step belongs to exactly one
    entry.
    """
    start = max(percents["clip_start_percent"], percents.get("start_percent", 0.0))
    clip_end, user_end = percents["clip_end_percent"], percents.get("end_percent", 1.0)
    end_sigma = model_sampling.percent_to_sigma(min(clip_end, user_end))
    if clip_end < 1.0 and clip_end <= user_end:
        end_sigma = next_sigma_above(end_sigma)
    return {
        "timestep_start": model_sampling.percent_to_sigma(start),
        "timestep_end": end_sigma,
    }


def sigmas_in_force(entry: Mapping[str, Any], model_sampling: Sampling) -> tuple[float, float]:
    """Between which sigmas an entry is in force, as ComfyUI reads it."""
    start = model_sampling.percent_to_sigma(entry.get("start_percent", 0.0))
    end = model_sampling.percent_to_sigma(entry.get("end_percent", 1.0))
    return entry.get("timestep_start", start), entry.get("timestep_end", end)


def next_sigma_above(sigma: float) -> float:
    """The next float32: ComfyUI compares sigmas as float32, and its ranges include both ends."""
    return float(np.nextafter(np.float32(sigma), np.float32(np.inf)))
