"""The guidance at which an adapter was measured, as its file says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..schema import NumberRange

SCORES_KEY = "tinybench"  # in an adapter's provenance
SCALE = NumberRange(low=0.0, high=30.0)


@dataclass(frozen=True, kw_only=True)
class MeasuredGuidance:
    """Scales of the three-branch guidance: s_t and s_i of `three_branch_guidance`, 0 to 30."""

    text_guidance_scale: float
    image_guidance_scale: float


def measured_guidance(provenance: Any) -> MeasuredGuidance | None:
    """What an adapter's provenance says of it, under "tinybench"; None where it says nothing that
    can be used, as anything may stand there.

    >>> settings = {"text_guidance_scale": 4, "image_guidance_scale": 5.0}
    >>> measured_guidance({"tinybench": {"settings": settings}})
    MeasuredGuidance(text_guidance_scale=4.0, image_guidance_scale=5.0)
    >>> measured_guidance({"tinybench": {"settings": {"text_guidance_scale": "much"}}})
    """
    found = provenance
    for key in (SCORES_KEY, "settings"):
        found = found.get(key) if isinstance(found, Mapping) else None
    if not isinstance(found, Mapping):
        return None
    names = ("text_guidance_scale", "image_guidance_scale")
    scales: dict[str, Any] = {name: found.get(name) for name in names}
    if not all(SCALE.holds(scale) for scale in scales.values()):
        return None
    return MeasuredGuidance(**{name: float(scale) for name, scale in scales.items()})
