"""The adapter as it travels through a graph: loaded, and applied to a MODEL and a CLIP."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from comfy_api.latest import io

from ...subject_diffusion_core import checkpoint

ATTACHMENT_KEY = "subject_diffusion"
AdapterType = io.Custom("SUBJECT_DIFFUSION_ADAPTER")
SubjectsType = io.Custom("SUBJECTS")


@dataclass(frozen=True, kw_only=True, eq=False)
class LoadedAdapter:
    """An adapter file in memory.

    Attributes:
        name: the file's name, for messages.
        adapter: configuration and weights.
    """

    name: str
    adapter: checkpoint.Adapter

    @property
    def config(self) -> checkpoint.AdapterConfig:
        return self.adapter.config

    @property
    def fingerprint(self) -> str:
        """Tells adapters apart, also when the same file is loaded twice."""
        return self.adapter.fingerprint


@dataclass(frozen=True, kw_only=True, eq=False)
class AppliedAdapter:
    """What the Apply node leaves on its MODEL and CLIP, for Encode and Guider to find.

    Attributes:
        strength: scales gates, mask kernel and all weight differences alike.
        start_percent, end_percent: the part of sampling in which the adapter is on.
        text_patches: parameter name -> the patch that this adapter put on the CLIP.
        block_strengths: block name -> strength of its gated layer.
    """

    loaded: LoadedAdapter
    strength: float
    start_percent: float
    end_percent: float
    text_patches: dict[str, Any]
    block_strengths: dict[str, float]

    @property
    def is_active(self) -> bool:
        return self.strength != 0.0 and self.start_percent < self.end_percent

    @property
    def is_always_on(self) -> bool:
        return self.start_percent <= 0.0 and self.end_percent >= 1.0


def load_adapter(path: str | Path) -> LoadedAdapter:
    """Read and check an adapter file."""
    return LoadedAdapter(name=Path(path).name, adapter=checkpoint.load(path))


def applied_adapter(patcher: Any) -> AppliedAdapter | None:
    """The adapter on a MODEL or on the patcher of a CLIP, if there is one."""
    return patcher.get_attachment(ATTACHMENT_KEY)


def require_adapter(patcher: Any, kind: str, node: str) -> AppliedAdapter:
    """The adapter on a MODEL or CLIP; `kind` and `node` name input and node in the error."""
    applied = applied_adapter(patcher)
    if applied is None:
        raise ValueError(
            f"{node}: expected the {kind} output of Subject-Diffusion Apply, got a {kind} without "
            f"an adapter. Put a Subject-Diffusion Apply node before {node} and connect its {kind}."
        )
    return applied
