# Shapes: B samples of a UNet call, Q latent positions, L columns of a text, H heads, K width of a
#         head, h, w size of a latent.
"""Cross-attention of two pictures in turn: the source is watched, the target gets its attention to
all words that are not replaced. HiFi Tuner algorithm 3."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, get_args

import torch
from torch.nn import functional as F

from ...subject_diffusion_core.hifi_tuner import split_values
from ..host.attention_terms import AttentionCall, Proceed
from ..host.unet_geometry import Location

KEY = "subject_diffusion_replacement"
Picture = Literal["source", "target"]
# LocalBlend looks at layers that see the latent this much smaller, the first of these there is.
BLEND_FACTORS = (4, 2, 8)


class ReplacedAttention:
    """What goes around every cross-attention of a run's model calls.

    Args:
        mapper: (L_source, L_target), 1 where a column of the source's text stands for one of the
            target's.
        latent_size: h, w.
        words: columns of the source's text and of the target's that are the replaced word's, for
            LocalBlend.
    """

    def __init__(
        self,
        mapper: torch.Tensor,
        latent_size: tuple[int, int],
        words: tuple[torch.Tensor, torch.Tensor],
    ) -> None:
        self._mapper, self._latent_size = mapper, latent_size
        self._words: dict[Picture, torch.Tensor] = {"source": words[0], "target": words[1]}
        self._of: Picture | None = None
        self._is_kept = True
        self._source: dict[Location, tuple[torch.Tensor, torch.Tensor]] = {}
        self._heat: dict[tuple[Picture, int], torch.Tensor] = {}

    @contextmanager
    def of(self, picture: Picture, is_kept: bool = True) -> Iterator[None]:
        """Inside, the model is asked about this picture: in each step the source before the target.

        Args:
            is_kept: whether the target gets the source's attention in this step.
        """
        self._of, self._is_kept = picture, is_kept
        try:
            yield
        finally:
            self._of = None
            if picture == "target":
                self._source.clear()

    def around(self, call: AttentionCall, proceed: Proceed) -> torch.Tensor:
        """An `AttentionAround`."""
        if self._of is not None:
            self._look(call, self._of)
        if self._is_kept and self._of == "source":
            self._source[call.location] = call.query, call.key
        if self._of == "target" and call.location in self._source:
            return self._replaced(call, proceed)
        return proceed(call.query, call.key, call.value)

    def blend_mask(self, threshold: float) -> torch.Tensor | None:
        """LocalBlend: (h, w) bool, where either picture attended to its word, of all steps so far;
        None where no layer showed it."""
        masks = []
        for picture in get_args(Picture):
            seen = [self._heat[key] for f in BLEND_FACTORS if (key := (picture, f)) in self._heat]
            if seen:
                spread = F.max_pool2d(seen[0][None, None], 3, stride=1, padding=1)
                resized = F.interpolate(spread, self._latent_size, mode="nearest")[0, 0]
                masks.append(resized / resized.max().clamp_min(1e-12) > threshold)
        return torch.stack(masks).any(dim=0) if masks else None

    def _replaced(self, call: AttentionCall, proceed: Proceed) -> torch.Tensor:
        query, key = (
            states.expand(len(call.query), -1, -1) for states in self._source[call.location]
        )
        mapper = self._mapper.to(call.value)
        kept = torch.ones(len(mapper), dtype=torch.bool, device=mapper.device)
        from_source, own = split_values(call.value, kept, mapper)
        # its own queries first: what other nodes add to this layer goes by them
        attended = proceed(call.query, call.key, own)
        return attended + proceed(query, key, from_source)

    def _look(self, call: AttentionCall, picture: Picture) -> None:
        """Add up the attention to the picture's word."""
        factor = self._factor_of(call.query.shape[1])
        columns = self._words[picture].to(call.query.device)
        if factor is None or len(columns) == 0:
            return
        query, key = call.split_heads(call.query), call.split_heads(call.key)
        logits = query.float() @ key.float().mT / query.shape[-1] ** 0.5
        share = logits.softmax(dim=-1)[..., columns].sum(dim=-1).mean(dim=(0, 1))
        heat = share.unflatten(0, self._grid(factor))
        self._heat[picture, factor] = heat + self._heat.get((picture, factor), 0.0)

    def _factor_of(self, positions: int) -> int | None:
        """How much smaller a layer with so many positions sees the latent; None for layers that
        LocalBlend does not look at."""
        for factor in BLEND_FACTORS:
            rows, columns = self._grid(factor)
            if rows * columns == positions:
                return factor
        return None

    def _grid(self, factor: int) -> tuple[int, int]:
        height, width = self._latent_size
        return -(-height // factor), -(-width // factor)
