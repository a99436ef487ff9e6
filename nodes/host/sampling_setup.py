"""What happens to the conditionings when a sampling run with an adapter begins."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ...subject_diffusion_core.checkpoint import AdapterConfig
from ...subject_diffusion_core.errors import require_finite_tensor
from ..adapters.adapter_types import AppliedAdapter
from .cond import COND_KEY, BranchSubjects, SubjectCond
from .generation import Generation
from .schedule import Entry, HookBinder, sigma_bounds


def null_branch(config: AdapterConfig, fingerprint: str) -> BranchSubjects:
    """The branch without subjects."""
    return BranchSubjects(
        fingerprint=fingerprint,
        patch_embeds=torch.zeros(0, config.num_patches, config.patch_dim),
        subject_boxes_xyxy=torch.zeros(0, 4),
        subject_valid=torch.zeros(0, dtype=torch.bool),
        token_strengths=torch.zeros(0),
    )


def make_outer_sample_wrapper(applied: AppliedAdapter, hook: Any | None) -> Callable[..., Any]:
    """A wrapper for ComfyUI's OUTER_SAMPLE.

    Every conditioning of the run gets the subjects of its branch (none, if it was not made by
    Encode), so that all branches fit into one UNet call, and a table that is shared by all steps.

    Args:
        hook: the scheduled weight differences, or None if the adapter is on throughout.
    """
    null = null_branch(applied.loaded.config, applied.loaded.fingerprint)

    def outer_sample(
        executor: Any, noise: torch.Tensor, latent_image: torch.Tensor, *args: Any, **kwargs: Any
    ) -> Any:
        require_finite_tensor("latent_image", latent_image, "the nodes that made the latent")
        guider = executor.class_obj
        sampling = guider.model_patcher.get_model_object("model_sampling")
        generation = Generation(
            latent_size=(noise.shape[-2], noise.shape[-1]),
            start_sigma=sampling.percent_to_sigma(applied.start_percent),
            end_sigma=sampling.percent_to_sigma(applied.end_percent),
        )
        binder = None if hook is None else HookBinder(hook)
        guider.conds = {
            branch: [
                _prepare(sigma_bounds(entry, sampling), null, applied, generation, binder)
                for entry in entries
            ]
            for branch, entries in guider.conds.items()
        }
        _share_controlnet_text(guider.conds)
        try:
            return executor(noise, latent_image, *args, **kwargs)
        finally:
            generation.forget()

    return outer_sample


def _prepare(
    entry: Entry,
    null: BranchSubjects,
    applied: AppliedAdapter,
    generation: Generation,
    binder: HookBinder | None,
) -> Entry:
    cond = entry["model_conds"].get(COND_KEY, SubjectCond(null))
    if cond.branch.fingerprint != applied.loaded.fingerprint:
        raise ValueError(
            f"conditioning: expected subjects encoded with the adapter '{applied.loaded.name}' of "
            "the MODEL, got another adapter's. Connect the same adapter to Subject-Diffusion "
            "Encode and Apply."
        )
    prepared = dict(entry)
    num_tokens = entry["cross_attn"].shape[1] if "cross_attn" in entry else 0
    bound = cond.bound(generation, num_tokens)
    prepared["model_conds"] = {**entry["model_conds"], COND_KEY: bound}
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
