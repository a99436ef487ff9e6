# Shapes: B samples of a part of a UNet call, Q = h*w latent cells, d width of a layer, H heads, K
#         width of a head, N subjects of the part, V views of a subject, T tokens of a view, C their
#         width, E width of the image encoder's tokens.
"""Image tokens as a further term of the UNet's cross-attention.

Keys and values of a subject are made once a run, and so is its place at every size of layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import comfy.ops
import torch
from comfy.ldm.modules.attention import optimized_attention
from torch import nn

from ....subject_diffusion_core.area_resize import area_resize
from ....subject_diffusion_core.attention_maps import token_column_probabilities
from ....subject_diffusion_core.files.ip_attention_file import BASE, GROUNDED, IpAttentionFile
from ....subject_diffusion_core.ip_attention import box_cells, joint_image_attention
from ....subject_diffusion_core.location_mask import box_coverage
from ...host.attention_terms import AttentionCall, AttentionTerm
from ...host.patchers import with_manual_cast
from ...host.run_attachment import BranchCall, BranchCond
from ...host.sampling_run import Frame, SamplingRun
from ...host.unet_geometry import Location, latent_size_of_block
from ..family import ATTACHMENT_KEY
from .branches import POOLED, TOKENS, ShownSubject
from .label_places import LabelPlace


class TermLayer(NamedTuple):
    """One cross-attention layer: its place among the file's pairs, and the factor of its term."""

    number: int
    factor: float


class ImageKeys(NamedTuple):
    """Keys and values of one subject in one layer, both (1, V*T, d)."""

    key: torch.Tensor
    value: torch.Tensor


class ImageModules(nn.Module):
    """Projection to image tokens, and every layer's to_k and to_v of them."""

    def __init__(self, file: IpAttentionFile, dtype: torch.dtype) -> None:
        super().__init__()
        self.kind = file.kind
        self.projection = with_manual_cast(file.build_projection())
        self.keys = _linear_layers([key for key, _ in file.pairs], dtype)
        self.values = _linear_layers([value for _, value in file.pairs], dtype)
        self.requires_grad_(False)

    def tokens(
        self, subject: ShownSubject, frame: Frame, grounded: bool, device: torch.device
    ) -> torch.Tensor:
        """(1, V*T, C) in float32; several views are laid side by side.

        MS-Diffusion's subjects share one softmax: there every subject has the mean of its views,
        (1, T, C). Either way a view given twice counts as once.
        """
        if self.kind == BASE:
            tokens = self.projection(subject.embeds[POOLED].to(device))
        elif self.kind != GROUNDED:
            tokens = self.projection(subject.embeds[TOKENS].to(device))
        else:
            views_tokens = self._grounded_tokens(subject, frame, grounded, device)
            return views_tokens.mean(dim=0, keepdim=True)
        joined: torch.Tensor = tokens.flatten(0, 1)[None]
        return joined

    def _grounded_tokens(
        self, subject: ShownSubject, frame: Frame, grounded: bool, device: torch.device
    ) -> torch.Tensor:
        """(V, T, C)"""
        assert subject.label_embed is not None
        states = subject.embeds[TOKENS].to(device)
        views = states.shape[0]
        tokens: torch.Tensor = self.projection(
            states,
            subject.box_in(frame).clamp(0.0, 1.0).to(device).expand(views, -1),
            subject.label_embed.to(device).expand(views, -1),
            grounded=grounded,
        )
        return tokens


def _linear_layers(weights: list[torch.Tensor], dtype: torch.dtype) -> nn.ModuleList:
    """ComfyUI's own, which cast weights to the input."""
    layers = nn.ModuleList()
    for weight in weights:
        with torch.device("meta"):
            layer = comfy.ops.manual_cast.Linear(weight.shape[1], weight.shape[0], bias=False)
        layer.weight = nn.Parameter(weight.to(dtype), requires_grad=False)
        layers.append(layer)
    return layers


class ImageTerm:
    """The term of all layers of one MODEL, without state of its own.

    IP-Adapter: sum_i factor * strength_i * M_i * Attention(q, K_i, V_i), M_i the share of a cell
    that the subject's place covers. MS-Diffusion: one softmax over the subjects of a cell.
    """

    def __init__(self, modules: ImageModules, layers: Mapping[Location, TermLayer]) -> None:
        self._modules = modules
        self._layers = layers

    def __call__(self, attention: AttentionCall) -> torch.Tensor | None:
        call: BranchCall | None = attention.options.get(ATTACHMENT_KEY)
        layer = self._layers.get(attention.location)
        if call is None or layer is None or layer.factor == 0.0:
            return None
        if not any(part.value.subjects for part in call.parts):
            return None
        assert call.run is not None
        size = latent_size_of_block(attention.options, attention.query.shape[1])
        term = torch.zeros_like(attention.query)
        first = 0
        for part in call.parts:
            rows = slice(first, first + part.batch_size)
            first += part.batch_size
            if part.value.subjects:
                work = _PartOfCall(call.run, part, self._modules, layer, attention, size, rows)
                term[rows] = layer.factor * work.attend()
        return term


class _PartOfCall:
    """One branch in one layer."""

    def __init__(
        self,
        run: SamplingRun,
        part: BranchCond,
        modules: ImageModules,
        layer: TermLayer,
        attention: AttentionCall,
        size: tuple[int, int],
        rows: slice,
    ) -> None:
        self._run = run
        self._part = part
        self._modules = modules
        self._layer = layer
        self._attention = attention
        self._size = size
        self._query, self._text_key = attention.query[rows], attention.key[rows]
        self._kind = (attention.query.dtype, attention.query.device)

    def attend(self) -> torch.Tensor:
        """(B, Q, d)"""
        if self._modules.kind == GROUNDED:
            return self._attend_jointly()
        query = self._query
        total = torch.zeros_like(query)
        for subject in self._part.value.subjects:
            place = self._place(subject)
            if place is None:
                continue
            keys = self._keys(subject)
            key, value = (x.expand(query.shape[0], -1, -1) for x in keys)
            attended: torch.Tensor = optimized_attention(
                query,
                key,
                value,
                self._attention.num_heads,
                transformer_options=self._attention.options,
            )
            total += place * attended
        return total

    def _attend_jointly(self) -> torch.Tensor:
        split, batch = self._attention.split_heads, self._query.shape[0]
        keys = [self._keys(subject) for subject in self._part.value.subjects]
        key, value = (torch.cat(states, dim=1) for states in zip(*keys, strict=True))
        cells, scales = self._run.once(
            ("image cells", self._part.value, self._part.frame, self._size, self._kind),
            self._make_cells,
        )
        if not all(subject.has_place for subject in self._part.value.subjects):
            cells = self._with_label_places(cells)
        attended = joint_image_attention(
            split(self._query),
            split(key).expand(batch, -1, -1, -1),
            split(value).expand(batch, -1, -1, -1),
            cells,
            scales,
        )
        return attended.transpose(1, 2).flatten(2)

    def _with_label_places(self, cells: torch.Tensor) -> torch.Tensor:
        """(N, Q) -> (B, N, Q): subjects without a place are seen where their labels are."""
        cells = cells.expand(self._query.shape[0], -1, -1).clone()
        for slot, subject in enumerate(self._part.value.subjects):
            if subject.has_place:
                continue
            key = ("label place", subject, self._part.frame, self._layer.number)
            place = self._run.once(key, LabelPlace)
            if self._part.text is not None and subject.label_span is not None:  # the prompt's
                place.add(self._label_attention(*subject.label_span))
            found = place.cells()
            if found is not None:
                cells[:, slot] = found
        return cells

    def _label_attention(self, first: int, last: int) -> torch.Tensor:
        """(B, Q) mean over heads and the label's tokens."""
        split = self._attention.split_heads
        positions = torch.arange(first, last + 1, device=self._query.device)
        positions = positions.expand(self._query.shape[0], -1)
        columns = token_column_probabilities(split(self._query), split(self._text_key), positions)
        return columns.mean(dim=(1, 3))

    def _keys(self, subject: ShownSubject) -> ImageKeys:
        dtype, device = self._kind
        modules, number, frame = self._modules, self._layer.number, self._part.frame
        grounded = self._part.value.grounded and subject.has_place
        of_subject = (subject, grounded, frame if modules.kind == GROUNDED else None)

        def make_tokens() -> torch.Tensor:
            return modules.tokens(subject, frame, grounded, device)

        tokens = self._run.once(("image tokens", *of_subject, device), make_tokens).to(dtype)
        return self._run.once(
            ("image keys", *of_subject, number, *self._kind),
            lambda: ImageKeys(modules.keys[number](tokens), modules.values[number](tokens)),
        )

    def _place(self, subject: ShownSubject) -> torch.Tensor | None:
        """(Q, 1) strength times the share of each cell that is the subject's; None for nowhere."""

        def make() -> torch.Tensor | None:
            dtype, device = self._kind
            coverage = self._coverage(subject)
            if not bool(coverage.any()):
                return None
            return (subject.strength * coverage.flatten()[:, None]).to(device, dtype)

        return self._run.once(
            ("image place", subject, self._part.frame, self._size, *self._kind), make
        )

    def _coverage(self, subject: ShownSubject) -> torch.Tensor:
        """(h, w) in 0..1."""
        if subject.region is not None:
            return area_resize(subject.region, *self._size, self._part.frame).clamp(0.0, 1.0)
        return box_coverage(subject.box_in(self._part.frame)[None, None], *self._size)[0, 0]

    def _make_cells(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(N, Q) bool where each subject is seen, and (N,) their strengths."""
        subjects = self._part.value.subjects
        _, device = self._kind
        cells = []
        for subject in subjects:
            if subject.region is not None:
                cells.append(self._coverage(subject).flatten() > 0.0)
            else:
                box = subject.box_in(self._part.frame).clamp(0.0, 1.0)
                cells.append(box_cells(box[None], *self._size)[0])
        strengths = torch.tensor([subject.strength for subject in subjects])
        return torch.stack(cells).to(device), strengths.to(device)


def make_image_term(modules: ImageModules, layers: Mapping[Location, TermLayer]) -> AttentionTerm:
    return ImageTerm(modules, layers)
