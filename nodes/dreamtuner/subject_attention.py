# Shapes: B samples of a UNet call, b those of one branch, Q latent positions, R keys of references,
#         H heads, K width of a head, h, w a layer's size.
"""Self-attention layers that see the keys of references, on a MODEL."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import comfy.patcher_extension
import torch

from ...subject_diffusion_core.area_resize import area_resize
from ...subject_diffusion_core.dreamtuner import (
    QueryGroup,
    attend_in_groups,
    group_queries,
    reference_attention_share,
)
from ...subject_diffusion_core.location_mask import box_coverage
from ..host.attention_terms import AttentionCall, Proceed, attach_attention_around
from ..host.comfy_types import Model
from ..host.picture_attention import SEEING_KEY, WATCH_KEY, PictureWatch
from ..host.run_attachment import BranchCall, attach_run
from ..host.sampling_run import Frame, RunSettings, SamplingRun
from .attention_share import REPORT_KEY, ShareReport, make_sampler_wrapper
from .key_store import KeyStore, LayerKeys
from .reference_pass import (
    READ_KEY,
    WRITE_KEY,
    PassSettings,
    ReferenceKeys,
    SeenReferences,
    SeenSubject,
    layer_size,
    make_apply_model_wrapper,
    prepare_sampling,
)
from .references import NO_REFERENCES, REFERENCES_KEY, ReferencedSubject

ATTACHMENT_KEY = SEEING_KEY


def attach_self_subject_attention(
    model: Model,
    settings: PassSettings,
    start_percent: float,
    end_percent: float,
    *,
    tells: bool = False,
) -> None:
    """Let the self-attention of a MODEL see the references of its conditionings.

    Args:
        tells: after each run, how much of the watched branches' attention they got.
    """
    run = RunSettings(
        key=REFERENCES_KEY,
        null=NO_REFERENCES,
        start_percent=start_percent,
        end_percent=end_percent,
    )
    model.set_attachments(ATTACHMENT_KEY, settings)
    attach_run(model, run)
    wrappers = comfy.patcher_extension.WrappersMP
    model.add_wrapper_with_key(wrappers.PREPARE_SAMPLING, REFERENCES_KEY, prepare_sampling)
    model.add_wrapper_with_key(
        wrappers.APPLY_MODEL, REFERENCES_KEY, make_apply_model_wrapper(settings)
    )
    if settings.store is not None:
        # when ComfyUI unloads the model's weights
        detached = comfy.patcher_extension.CallbacksMP.ON_DETACH
        model.add_callback_with_key(detached, REFERENCES_KEY, _clear_when_unloaded(settings.store))
    if tells:
        model.add_wrapper_with_key(wrappers.SAMPLER_SAMPLE, REFERENCES_KEY, make_sampler_wrapper())
    attach_attention_around(model, ATTACHMENT_KEY, "attn1", attend_with_references)


def _clear_when_unloaded(store: KeyStore) -> Callable[[Model, bool], None]:
    """ComfyUI also detaches a model that it is about to load; its weights stay then."""

    def detached(_model: Model, unpatch_all: bool) -> None:
        if unpatch_all:
            store.clear()

    return detached


def attend_with_references(attention: AttentionCall, proceed: Proceed) -> torch.Tensor:
    """A layer's attention; in the pass over a reference, its keys are kept besides."""
    keys: ReferenceKeys | None = attention.options.get(WRITE_KEY)
    seen: SeenReferences | None = attention.options.get(READ_KEY)
    if keys is not None:
        keys.keep(attention)
    if keys is not None or seen is None:
        return proceed(attention.query, attention.key, attention.value)
    report: ShareReport | None = attention.options.get(REPORT_KEY)
    if report is not None:
        _tell_shares(attention, seen, report)
    views = _rows_of_views(seen)
    if len(views) == 1:
        ((view, _),) = views
        return _attend(attention, proceed, view, seen.call)
    out = torch.empty_like(attention.query)
    for view, rows in views:
        index = torch.tensor(rows, device=out.device)
        out[index] = _attend(_of_samples(attention, index), proceed, view, seen.call)
    return out


class _View(NamedTuple):
    """What some samples show, and the subjects that they see."""

    frame: Frame
    subjects: tuple[SeenSubject, ...]


def _rows_of_views(seen: SeenReferences) -> list[tuple[_View, list[int]]]:
    """The samples that see the same keys in the same part of the picture."""
    rows: dict[_View, list[int]] = {}
    start = 0
    for part in seen.call.parts:
        view = _View(part.frame, seen.subjects.get(part.value, ()))
        rows.setdefault(view, []).extend(range(start, start + part.batch_size))
        start += part.batch_size
    return list(rows.items())


def _of_samples(attention: AttentionCall, index: torch.Tensor) -> AttentionCall:
    if attention.query.shape[0] != attention.key.shape[0]:
        layer_size(attention)  # says that the layer was cut into tiles
    return replace(
        attention,
        query=attention.query[index],
        key=attention.key[index],
        value=attention.value[index],
    )


class _Visible(NamedTuple):
    """One picture's keys in a layer, and whose picture it is."""

    subject: ReferencedSubject
    layer: LayerKeys


def _tell_shares(attention: AttentionCall, seen: SeenReferences, report: ShareReport) -> None:
    """How much of the attention of the branches that are watched goes to each subject's keys."""
    watch: PictureWatch | None = attention.options.get(WATCH_KEY)
    start = 0
    for part in seen.call.parts:
        rows = torch.arange(start, start + part.batch_size, device=attention.query.device)
        start += part.batch_size
        visible = _visible(seen.subjects.get(part.value, ()), attention)
        if not part.value.is_watched or not visible:
            continue
        samples, size = _of_samples(attention, rows), layer_size(attention)
        shares = _shares(samples, visible, part.frame, seen.call)
        for index, subject in enumerate(_subjects_of(visible)):
            if subject.told_as is None:
                continue
            report.add(subject.told_as, shares[..., index])
            # with Token Merging, queries have no places
            if watch is not None and shares.shape[1] == size[0] * size[1]:
                maps = shares[..., index].unflatten(1, size)
                watch.add(subject.told_as, part.frame, maps[:, None])


def _shares(
    attention: AttentionCall, visible: list[_Visible], frame: Frame, call: BranchCall
) -> torch.Tensor:
    """(b, Q, S) in 0..1 of samples with the same view, for each of its subjects."""
    assert call.run is not None
    groups = _groups(call.run, frame, visible, layer_size(attention), attention.query)
    subjects = _subjects_of(visible)
    owners = [subjects.index(picture.subject) for picture in visible]
    counts = torch.tensor([picture.layer.key.shape[1] for picture in visible])
    subject_of_key = torch.repeat_interleave(torch.tensor(owners), counts)
    reference_key = torch.cat([picture.layer.key for picture in visible], dim=1)
    return reference_attention_share(
        attention.split_heads(attention.query),
        attention.split_heads(attention.key),
        attention.split_heads(reference_key),
        groups,
        subject_of_key.to(attention.query.device),
        len(subjects),
    )


def _subjects_of(visible: list[_Visible]) -> list[ReferencedSubject]:
    return list(dict.fromkeys(picture.subject for picture in visible))


def _attend(
    attention: AttentionCall, proceed: Proceed, view: _View, call: BranchCall
) -> torch.Tensor:
    """(b, Q, H*K) of samples with the same view."""
    visible = _visible(view.subjects, attention)
    if not visible:
        return proceed(attention.query, attention.key, attention.value)
    size = layer_size(attention)
    assert call.run is not None
    groups = _groups(call.run, view.frame, visible, size, attention.query)
    return attend_in_groups(
        attention.query,
        attention.key,
        attention.value,
        torch.cat([picture.layer.key for picture in visible], dim=1),
        torch.cat([picture.layer.value for picture in visible], dim=1),
        groups,
        lambda query, key, value, bias: proceed(
            query, key, value, None if bias is None else bias[None, None]
        ),
    )


def _visible(subjects: Sequence[SeenSubject], attention: AttentionCall) -> list[_Visible]:
    return [
        _Visible(seen.subject, keys.layers[attention.location])
        for seen in subjects
        for keys in seen.pictures
        if attention.location in keys.layers
    ]


def _groups(
    run: SamplingRun,
    frame: Frame,
    visible: list[_Visible],
    size: tuple[int, int],
    query: torch.Tensor,
) -> list[QueryGroup]:
    """Which queries see which keys; the same at every step, so made once a run."""
    subjects = tuple(picture.subject for picture in visible)
    is_placed = any(s.box_xyxy is not None or s.region is not None for s in subjects)
    if is_placed and query.shape[1] != size[0] * size[1]:
        raise ValueError(
            "model: expected a query for every place, as a subject has a box or a region, got "
            f"{query.shape[1]} for {size[0] * size[1]} places. Turn Token Merging off, or leave "
            "boxes and regions out."
        )

    def make() -> list[QueryGroup]:
        weights = torch.cat([subject.omega * layer.weights for subject, layer in visible])
        if not is_placed:
            groups = group_queries(weights)
        else:
            counts = torch.tensor([len(picture.layer.weights) for picture in visible])
            owners = torch.repeat_interleave(torch.arange(len(visible)), counts)
            regions = [region_weights(subject, size, frame).flatten() for subject in subjects]
            groups = group_queries(weights, torch.stack(regions, dim=1), owners)
        return [_on_device(group, query.device) for group in groups]

    pictures = tuple((picture.subject, picture.layer.size) for picture in visible)
    return run.once(("groups", pictures, frame, size, query.device), make)


def region_weights(subject: ReferencedSubject, size: tuple[int, int], frame: Frame) -> torch.Tensor:
    """(h, w) >= 0, how much a subject acts at every position of a layer.

    A region is averaged over each cell. A box has the cells that it covers by half or more; if it
    is too small for that, those that it covers most.
    """
    if subject.region is not None:
        return area_resize(subject.region, *size, frame).clamp(0, 1)
    if subject.box_xyxy is None:
        return torch.ones(size)
    left, top, right, bottom = frame
    x1, y1, x2, y2 = subject.box_xyxy
    in_frame = torch.tensor(
        [
            (x1 - left) / (right - left),
            (y1 - top) / (bottom - top),
            (x2 - left) / (right - left),
            (y2 - top) / (bottom - top),
        ]
    ).clamp(0, 1)
    coverage = box_coverage(in_frame[None, None], *size)[0, 0]
    threshold = min(0.5, float(coverage.max()))
    return ((coverage >= threshold) & (coverage > 0)).float()


def _on_device(group: QueryGroup, device: torch.device) -> QueryGroup:
    def moved(tensor: torch.Tensor | None) -> torch.Tensor | None:
        return None if tensor is None else tensor.to(device)

    return QueryGroup(
        queries=moved(group.queries), keys=moved(group.keys), log_weights=moved(group.log_weights)
    )
