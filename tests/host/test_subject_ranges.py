"""Start and end of a single subject: outside of them it is as if it were not there."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import comfy.samplers
import pytest
import torch
from host_models import Host, sample
from test_identity import (
    STEPS,
    Setup,
    percent_after,
    record_batches,
    three_branches,
    trajectory,
    two_branches,
)


@pytest.fixture(scope="module")
def setup(host: Host, tmp_path_factory: pytest.TempPathFactory) -> Setup:
    with torch.inference_mode():
        return Setup(host, tmp_path_factory.mktemp("ranges"))


def with_ranges(setup: Setup, *ranges: tuple[float, float]) -> tuple[Any, ...]:
    return tuple(
        replace(subject, start_percent=start, end_percent=end)
        for subject, (start, end) in zip(setup.subjects, ranges, strict=True)
    )


def encoded(setup: Setup, subjects: tuple[Any, ...], *settings: float) -> tuple[Any, Any]:
    """MODEL and three conditionings for other subjects than the fixture's."""
    changed = Setup.__new__(Setup)
    changed.__dict__ = {**setup.__dict__, "subjects": subjects}
    return changed.apply(*settings)


def test_node_has_the_whole_range_by_default(host: Host) -> None:
    node = host.subject_node.SubjectDiffusionSubject
    image = torch.rand(1, 8, 8, 3)
    ((whole,),) = node.execute(image, "dog", "0,0,1,1", 1.0).args
    ((part,),) = node.execute(image, "dog", "0,0,1,1", 1.0, start_percent=0.2, end_percent=0.7).args
    assert (whole.start_percent, whole.end_percent) == (0.0, 1.0)
    assert (part.start_percent, part.end_percent) == (0.2, 0.7)


def test_whole_ranges_are_one_entry_without_bounds(setup: Setup) -> None:
    _, conditionings = encoded(setup, with_ranges(setup, (0.0, 1.0), (0.0, 1.0)), 1.0)
    for conditioning in conditionings:
        ((_, values),) = conditioning
        assert "clip_start_percent" not in values


@pytest.mark.parametrize("empty", [(0.5, 0.5), (0.8, 0.1)])
def test_an_empty_range_leaves_the_subject_out(setup: Setup, empty: tuple[float, float]) -> None:
    first, second = setup.subjects
    without = encoded(setup, (first,), 1.0)
    left_out = replace(second, start_percent=empty[0], end_percent=empty[1])
    for got, wanted in zip(encoded(setup, (first, left_out), 1.0)[1], without[1], strict=True):
        assert len(got) == len(wanted) == 1
        assert torch.equal(got[0][0], wanted[0][0])


@pytest.mark.parametrize(
    ("make_guider", "num_branches"), [(two_branches, 2), (three_branches, 3)], ids=["two", "three"]
)
@pytest.mark.parametrize("apply_end", [1.0, None], ids=["always on", "apply ends, too"])
def test_subjects_come_and_go(
    setup: Setup, make_guider: Any, num_branches: int, apply_end: float | None
) -> None:
    """Every step equals a run with exactly the subjects of that step, in one UNet call."""
    sampling = setup.base.model.get_model_object("model_sampling")
    sigmas = comfy.samplers.calculate_sigmas(sampling, "normal", 8)
    cuts = [percent_after(sigmas, index, sampling) for index in range(7)]
    first, second = setup.subjects
    ranges = ((0.0, cuts[4]), (cuts[1], cuts[5]))  # steps 0-4, steps 2-5
    settings = (1.0, 0.0, 1.0 if apply_end else cuts[6])
    model, conditionings = encoded(setup, with_ranges(setup, *ranges), *settings)
    batches = record_batches(model)
    got = trajectory(make_guider(model, conditionings), setup.noise, sigmas)
    assert batches == [num_branches * len(setup.noise)] * 8
    for step in range(8):
        present = [s for s, steps in ((first, range(5)), (second, range(2, 6))) if step in steps]
        reference, wanted = encoded(setup, tuple(present), 1.0)
        if step == 7 and not apply_end:
            reference, wanted = encoded(setup, (first,), 0.0)
        states = trajectory(
            make_guider(reference, wanted), got[step], sigmas[step : step + 2], add_noise=False
        )
        torch.testing.assert_close(got[step + 1], states[-1], rtol=1e-4, atol=1e-4)


def test_a_range_changes_the_picture(setup: Setup) -> None:
    pictures = []
    for ranges in (((0.0, 1.0), (0.0, 1.0)), ((0.0, 1.0), (0.0, 0.5)), ((0.0, 1.0), (0.5, 1.0))):
        model, conditionings = encoded(setup, with_ranges(setup, *ranges), 1.0)
        pictures.append(sample(three_branches(model, conditionings), setup.noise, STEPS))
    for one, other in itertools.combinations(pictures, 2):
        assert (one - other).norm() > 1e-3 * one.norm()


def test_a_step_on_a_subjects_bound_belongs_to_the_later_part(setup: Setup) -> None:
    """ComfyUI's ranges include both ends: neither both parts nor none may be used."""
    sampling = setup.base.model.get_model_object("model_sampling")
    sigmas = torch.tensor([10.0, sampling.percent_to_sigma(0.5), 0.0])
    first, _ = setup.subjects
    ranges = with_ranges(setup, (0.0, 1.0), (0.0, 0.5))
    model, conditionings = encoded(setup, ranges, 1.0)
    batches = record_batches(model)
    got = trajectory(three_branches(model, conditionings), setup.noise, sigmas)
    assert batches == [3 * len(setup.noise)] * 2
    reference, wanted = encoded(setup, (first,), 1.0)
    alone = trajectory(three_branches(reference, wanted), got[1], sigmas[1:], add_noise=False)
    torch.testing.assert_close(got[2], alone[-1], rtol=1e-4, atol=1e-4)


def test_nobody_left_is_the_prompt_alone(setup: Setup) -> None:
    """Before the only subject comes, the branches have no subjects but stay in force."""
    first, _ = setup.subjects
    late = replace(first, start_percent=0.6)
    _, (positive, image_only, negative) = encoded(setup, (late,), 1.0)
    branches = [
        values["model_conds"][setup.host.family.ATTACHMENT_KEY].value.is_null
        for _, values in positive
    ]
    assert branches == [True, False]
    assert len(image_only) == 2 and len(negative) == 1
