"""What self-subject-attention tells: how much attention went to whose pictures, and where."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from host_models import Host, cfg_guider, relative_error, sample
from reference_models import WRAPPERS, ReferenceBench, bench_of
from test_attention_maps import recorded
from test_self_subject_attention_beside import stock_node
from test_self_subject_attention_node import Setup


@pytest.fixture(scope="module")
def setup(host: Host) -> Setup:
    with torch.inference_mode():
        return Setup(host)


def two_subjects(host: Host) -> Any:
    node = host.subject_node.SubjectDiffusionSubject
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.rand(1, 40, 40, 3, generator=generator) for _ in range(2))
    (one,) = node.execute(first, "dog", "0,0,0.5,1", 1.0).args
    return node.execute(second, "cat", "", 0.5, previous=one).args[0]


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.message for r in caplog.records if "self-attention went to" in r.message]


def test_the_picture_stays_the_same_and_shares_are_told(
    setup: Setup, caplog: pytest.LogCaptureFixture
) -> None:
    subjects = two_subjects(setup.host)
    wanted = setup.sample(*setup.apply(*subjects))
    with caplog.at_level(logging.INFO):
        assert torch.equal(setup.sample(*setup.apply(*subjects)), wanted)
        assert told(caplog) == []
        assert torch.equal(setup.sample(*setup.apply(*subjects, report_attention=True)), wanted)
    first, second = told(caplog)
    assert first.startswith("dog: ") and second.startswith("cat: ")
    assert all(0.5 < float(line.split()[1].rstrip("%")) < 99 for line in (first, second))


def test_every_fourth_step_is_looked_at(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    module, calls = setup.host.subject_attention, []
    original = module.reference_attention_share
    monkeypatch.setattr(
        module, "reference_attention_share", lambda *a: calls.append(1) or original(*a)
    )
    model, positive, negative = setup.apply(report_attention=True)
    counts = []
    for steps in (1, 4, 5, 9):
        calls.clear()
        sample(cfg_guider(model, positive, negative, 3.0), setup.noise, steps=steps)
        counts.append(len(calls))
    assert counts == [counts[0] * times for times in (1, 1, 2, 3)]
    calls.clear()
    setup.sample(*setup.apply())
    assert calls == []


def attention_by_hand(bench: ReferenceBench, model: Any, positive: Any) -> list[torch.Tensor]:
    """(b, Q) share of the keys behind a layer's own, from what its attention function gets."""
    shares = []

    def override(function: Any, q: Any, k: Any, v: Any, heads: int, **kwargs: Any) -> torch.Tensor:
        if k.shape[1] > q.shape[1] and k.shape[1] != 77:
            query, key = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in (q, k))
            logits = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5 + kwargs["mask"]
            shares.append(logits.softmax(-1)[..., q.shape[1] :].sum(-1).mean(1))
        return function(q, k, v, heads, **kwargs)

    watched = model.clone()
    watched.model_options["transformer_options"]["optimized_attention_override"] = override
    sample(cfg_guider(watched, positive, bench.text(4)), bench.noise(2), steps=1)
    return shares


@pytest.mark.parametrize("family", ["tiny", "sd15", "sdxl"])
def test_shares_are_those_of_the_softmax(host: Host, family: str) -> None:
    """Against the whole softmax of what every self-attention really gets."""
    bench = bench_of(host, family)
    name = host.picture_attention.PicturedSubject(index=0, label="dog", box_xyxy=None)
    subject = bench.subject(bench.reference((10, 12)), told_as=name)
    references = host.references.BranchReferences(subjects=(subject,), is_watched=True)
    positive = host.references.with_references(bench.text(), references)
    reports = []

    def watch(executor: Any, x: Any, t: Any, *args: Any, **kwargs: Any) -> Any:
        reports.append(args[3][host.attention_share.REPORT_KEY])
        return executor(x, t, *args, **kwargs)

    model = bench.attached(tells=True)
    model.add_wrapper_with_key(WRAPPERS.APPLY_MODEL, "watch", watch)
    wanted = attention_by_hand(bench, model, positive)
    assert len(wanted) > 3
    (share,) = reports[0].shares().values()
    assert share == pytest.approx(float(torch.stack([s.mean() for s in wanted]).mean()), rel=1e-4)
    watched, handle = recorded(host, bench.attached(tells=True))
    attention_by_hand(bench, watched, positive)
    assert handle.record is None and handle.pictures.maps.shape[:4] == (1, 1, 2, 1)
    resize = host.core("attention_maps").resize_maps
    whole = torch.zeros(2, 16, 16)
    for shares in wanted:
        side = round(shares.shape[1] ** 0.5)
        whole += resize(shares.unflatten(1, (side, side)), 16, 16) / len(wanted)
    torch.testing.assert_close(handle.pictures.maps[0, 0, :, 0], whole, rtol=1e-3, atol=1e-5)


def test_maps_show_where(setup: Setup) -> None:
    """Attention Maps has a picture for each subject; one with a box got attention there only."""
    model, positive, negative = setup.apply(*two_subjects(setup.host), report_attention=True)
    watched, handle = recorded(setup.host, model, "0-0.5, 0.5-1")
    wanted = setup.sample(model, positive, negative)
    assert torch.equal(setup.sample(watched, positive, negative), wanted)
    assert handle.record is None
    maps = handle.pictures.maps
    assert maps.shape == (2, 2, 1, 1, 16, 16)
    assert float(maps[0, 0, ..., 10:].max()) < 0.2 * float(maps[0, 0, ..., :6].mean())
    assert float(maps[0, 1].min()) > 0.0
    node = setup.host.attention_maps_node.SubjectDiffusionAttentionMaps
    images, heats, ious, report = node.execute(
        handle, torch.rand(1, 128, 128, 3), "average", 0.5, 0.7
    ).args
    lines = report.splitlines()
    assert len(images) == len(heats) == len(ious) == len(lines) >= 2
    assert lines[0].startswith("picture 1: dog (pictures), 0-50 %: ") and "%, IoU" in lines[0]
    assert ious[0] > 0.5


def test_beside_token_merging_only_the_share_is_told(
    host: Host, comfy_nodes: Any, caplog: pytest.LogCaptureFixture
) -> None:
    bench = bench_of(host, "sd15")
    name = host.picture_attention.PicturedSubject(index=0, label="dog", box_xyxy=None)
    references = host.references.BranchReferences(
        subjects=(bench.subject(told_as=name),), is_watched=True
    )
    positive = host.references.with_references(bench.text(), references)
    merging = stock_node(comfy_nodes, "TomePatchModel", bench.attached(tells=True), 0.4)
    with caplog.at_level(logging.INFO):
        sample(cfg_guider(merging, positive, bench.text(4), 3.0), bench.noise(), steps=1)
    assert len(told(caplog)) == 1


def test_with_an_adapter_both_are_recorded(host: Host, tmp_path: Any, setup: Setup) -> None:
    """Words and pictures; without report_attention, words alone, as ever."""
    base = setup.base
    loaded = host.make_adapter(base, tmp_path)
    adapted, _ = host.apply_node.apply_adapter(base.model, base.clip, loaded)
    subjects = two_subjects(host)
    watched_subject = host.sampling_run.WatchedSubject(
        index=0, name="Subject 1", label="dog", box_xyxy=(0.0, 0.0, 0.5, 1.0),
        label_position=5, placeholder_position=7,
    )  # fmt: skip
    ((context, values),) = setup.positive
    text = host.sampling_run.WatchedText(subjects=(watched_subject,), num_tokens=context.shape[1])
    cond = host.run_attachment.BranchCond(value=host.branch(loaded, 1), text=text)
    positive = [[context, {**values, "model_conds": {host.family.ATTACHMENT_KEY: cond}}]]
    for reports in (True, False):
        seeing = setup.apply(*subjects, model=adapted, positive=positive, report_attention=reports)
        watched, handle = recorded(host, seeing[0])
        first, second = (setup.sample(each, *seeing[1:]) for each in (seeing[0], watched))
        assert torch.equal(first, second)
        assert handle.record.kinds == ("label", "placeholder")
        assert (handle.pictures is not None) is reports


def test_without_the_report_there_is_nothing_to_show(setup: Setup) -> None:
    model, positive, negative = setup.apply()
    watched, handle = recorded(setup.host, model)
    setup.sample(watched, positive, negative)
    node = setup.host.attention_maps_node.SubjectDiffusionAttentionMaps
    with pytest.raises(ValueError, match="or turn `report_attention` of Self-Subject Attention on"):
        node.execute(handle, torch.rand(1, 128, 128, 3), "average", 0.5, 0.7)
    assert relative_error(setup.sample(watched, positive, negative), setup.stock()) > 1e-3
