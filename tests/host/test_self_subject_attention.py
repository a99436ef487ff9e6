"""Self-subject-attention in the real samplers: what must stay exact, and what must change."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from host_models import Host, cfg_guider, denoise_once, relative_error, sample
from reference_models import WRAPPERS, ReferenceBench, bench_of

FAMILIES = ("tiny", "sd15", "sd2", "sdxl")
SAMPLERS = ("euler", "euler_ancestral")


@pytest.fixture
def bench(host: Host) -> ReferenceBench:
    return bench_of(host)


def run(
    bench: ReferenceBench, model: Any, positive: Any, negative: Any = None, **options: Any
) -> torch.Tensor:
    batch, size = options.pop("batch", 1), options.pop("size", (16, 16))
    guider = cfg_guider(model, positive, negative or bench.text(4), 3.0)
    torch.manual_seed(0)  # ancestral samplers
    return sample(guider, bench.noise(batch, size), **options)


def with_subjects(bench: ReferenceBench, *subjects: Any, **options: Any) -> torch.Tensor:
    """The same subjects in both branches."""
    both = (bench.seeing(text, *subjects) for text in (bench.text(), bench.text(4)))
    layers = {k: options.pop(k) for k in ("layers", "start", "end", "noise") if k in options}
    return run(bench, bench.attached(**layers), *both, **options)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_no_references_are_stock_bit_for_bit(bench: ReferenceBench, sampler: str) -> None:
    stock = run(bench, bench.model, bench.text(), sampler=sampler)
    assert torch.equal(run(bench, bench.attached(), bench.text(), sampler=sampler), stock)
    assert bench.passes == []


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_weight_zero_is_stock_bit_for_bit(bench: ReferenceBench, sampler: str) -> None:
    """The passes run here, so this also shows that they leave ComfyUI's random numbers alone."""
    stock = run(bench, bench.model, bench.text(), sampler=sampler)
    assert torch.equal(with_subjects(bench, bench.subject(omega=0.0), sampler=sampler), stock)
    assert len(bench.passes) == 3
    other = with_subjects(bench, bench.subject(), sampler=sampler)
    assert relative_error(other, stock) > 1e-3


def test_empty_ranges_are_stock_bit_for_bit(bench: ReferenceBench) -> None:
    stock = run(bench, bench.model, bench.text())
    for options in ({"start": 0.5, "end": 0.5}, {"start": 0.7, "end": 0.2}):
        assert torch.equal(with_subjects(bench, bench.subject(), **options), stock)
    subject = bench.subject(start_percent=0.5, end_percent=0.5)
    assert torch.equal(with_subjects(bench, subject), stock)
    assert bench.passes == []


@pytest.mark.parametrize("omega", [0.25, 1.0, 8.0])
@pytest.mark.parametrize("family", FAMILIES)
def test_reference_equal_to_the_input_is_stock(host: Host, family: str, omega: float) -> None:
    """Any weight, if the reference is what the model gets anyway."""
    bench = bench_of(host, family)
    reference = bench.reference(caption=bench.text())
    noise = torch.randn(reference.latent.shape, generator=torch.Generator().manual_seed(5))
    model = bench.model.model
    sigma = model.model_sampling.sigmas[500]
    latent = model.process_latent_in(reference.latent)
    # a single call at x = latent + sigma * noise, from an empty latent image
    x = latent / sigma + noise
    stock = denoise_once(cfg_guider(bench.model, bench.text(), bench.text()), x, 500)
    positive = bench.seeing(bench.text(), bench.subject(reference, omega=omega))
    seeing = cfg_guider(bench.attached(), positive, bench.text())
    assert relative_error(denoise_once(seeing, x, 500), stock) < 1e-5
    assert len(bench.passes) == 1
    different = bench.subject(bench.reference(seed=1), omega=omega)
    guider = cfg_guider(bench.attached(), bench.seeing(bench.text(), different), bench.text())
    assert relative_error(denoise_once(guider, x, 500), stock) > 1e-4


@pytest.mark.parametrize("family", FAMILIES)
def test_batch_is_singles(host: Host, family: str) -> None:
    bench = bench_of(host, family)
    subject = bench.subject(bench.reference((12, 20)))
    positive, negative = (bench.seeing(bench.text(seed), subject) for seed in (3, 4))
    model, noise = bench.attached(), bench.noise(3)
    batch = sample(cfg_guider(model, positive, negative, 3.0), noise, steps=2)
    for index in range(3):
        single = sample(cfg_guider(model, positive, negative, 3.0), noise[index : index + 1], 2)
        assert relative_error(batch[index : index + 1], single) < 1e-4


@pytest.mark.parametrize(("sampler", "levels"), [("euler", 3), ("heun", 3), ("dpm_2", 5)])
def test_one_pass_for_every_noise_level(bench: ReferenceBench, sampler: str, levels: int) -> None:
    """Also where the branches come in calls of their own, as the prompts' lengths differ much."""
    with_subjects(bench, bench.subject(), sampler=sampler)
    assert len(bench.passes) == len(set(bench.passes)) == levels
    bench.passes.clear()
    positive = bench.seeing(bench.text(length=77 * 5), shared := bench.subject())
    run(bench, bench.attached(), positive, bench.seeing(bench.text(4), shared), sampler=sampler)
    assert len(bench.passes) == len(set(bench.passes)) == levels


def test_time_biases_shift_the_noise_level(bench: ReferenceBench) -> None:
    subject, sigmas = bench.subject(), bench.model.get_model_object("model_sampling").sigmas
    guider = cfg_guider(
        bench.attached(),
        bench.seeing(bench.text(), subject, time_bias=-30),
        bench.seeing(bench.text(4), subject, time_bias=50),
        3.0,
    )
    denoise_once(guider, bench.noise(), 500)
    assert sorted(bench.passes) == [float(sigmas[470]), float(sigmas[550])]
    bench.passes.clear()
    denoise_once(guider, bench.noise(), 10)
    assert sorted(bench.passes) == [float(sigmas[0]), float(sigmas[60])]


def test_references_belong_to_branches(bench: ReferenceBench) -> None:
    """A branch without references is the stock branch, in one call with one that has some."""
    noise = bench.noise()
    seen, plain = bench.seeing(bench.text(), bench.subject()), bench.text(4)
    model = bench.attached()
    guided = denoise_once(cfg_guider(model, seen, plain, 3.0), noise, 500)
    positive = denoise_once(cfg_guider(model, seen, plain, 1.0), noise, 500)
    negative = denoise_once(cfg_guider(bench.model, plain, plain, 1.0), noise, 500)
    assert relative_error(guided, negative + 3.0 * (positive - negative)) < 1e-5


def test_noise_may_change_with_the_step(bench: ReferenceBench) -> None:
    fixed = with_subjects(bench, bench.subject())
    each = with_subjects(bench, bench.subject(), noise="per step")
    assert relative_error(each, fixed) > 1e-4
    assert torch.equal(with_subjects(bench, bench.subject(), noise="per step"), each)


def test_masks_layers_and_ranges_matter(bench: ReferenceBench) -> None:
    half = torch.ones(128, 128)
    half[:, 64:] = 0
    masked = bench.subject(bench.reference(mask=half))
    results = [
        with_subjects(bench, bench.subject()),
        with_subjects(bench, masked),
        with_subjects(bench, bench.subject(), layers="mid"),
        with_subjects(bench, bench.subject(), layers="up"),
        with_subjects(bench, bench.subject(), end=0.4),
        with_subjects(bench, bench.subject(start_percent=0.4)),
        with_subjects(bench, bench.subject(omega=1.0)),
    ]
    assert len({float(latent.sum()) for latent in results}) == len(results)


def test_a_mask_of_ones_and_two_equal_pictures_change_nothing(bench: ReferenceBench) -> None:
    whole = with_subjects(bench, bench.subject())
    ones = bench.subject(bench.reference(mask=torch.ones(40, 50)))
    assert relative_error(with_subjects(bench, ones), whole) < 1e-5
    twice = bench.subject(bench.reference(), bench.reference(), omega=1.5)
    assert relative_error(with_subjects(bench, twice), whole) < 1e-5


def first_layer(bench: ReferenceBench, model: Any, positive: Any) -> torch.Tensor:
    """(Q, d) of the first self-attention of the first call, its output patch appended last."""
    outputs = []

    def behind(out: torch.Tensor, options: Any) -> torch.Tensor:
        if bench.host.reference_pass.WRITE_KEY not in options:
            outputs.append(out)
        return out

    watched = model.clone()
    watched.set_model_attn1_output_patch(behind)
    denoise_once(cfg_guider(watched, positive, bench.text(4)), bench.noise(), 500)
    return outputs[0][0]


def test_two_subjects_act_in_their_boxes_only(bench: ReferenceBench) -> None:
    """In the first layer, positions outside of both boxes are stock, bit for bit; those in a box
    are those of its subject alone."""
    left = bench.subject(bench.reference(seed=1), box_xyxy=(0.0, 0.0, 0.25, 1.0))
    right = bench.subject(bench.reference(seed=2), box_xyxy=(0.5, 0.5, 1.0, 1.0))
    text, model = bench.text(), bench.attached()
    stock = first_layer(bench, bench.model, text)
    both, only_left, only_right = (
        first_layer(bench, model, bench.seeing(text, *subjects))
        for subjects in ((left, right), (left,), (right,))
    )
    side = round(len(stock) ** 0.5)
    columns, rows = torch.arange(side).repeat(side), torch.arange(side).repeat_interleave(side)
    in_left, in_right = columns < side // 4, (columns >= side // 2) & (rows >= side // 2)
    outside = ~in_left & ~in_right
    assert torch.equal(both[outside], stock[outside])
    assert relative_error(both[in_left], only_left[in_left]) < 1e-6
    assert relative_error(both[in_right], only_right[in_right]) < 1e-6
    for inside in (in_left, in_right):
        assert bool(((both - stock).abs().sum(-1)[inside] > 1e-4).all())


def test_soft_regions_weigh(bench: ReferenceBench) -> None:
    region = torch.zeros(32, 32)
    region[:16] = torch.linspace(0.1, 1.0, 16)[:, None]
    text, model = bench.text(), bench.attached()
    stock = first_layer(bench, bench.model, text)
    soft = first_layer(bench, model, bench.seeing(text, bench.subject(region=region)))
    half = len(stock) // 2
    assert torch.equal(soft[half:], stock[half:])
    change = (soft - stock)[:half].norm(dim=-1).unflatten(0, (-1, round(len(stock) ** 0.5)))
    assert float(change[-1].mean()) > float(change[0].mean())
    whole = first_layer(bench, model, bench.seeing(text, bench.subject(region=torch.ones(7, 9))))
    assert torch.equal(whole, first_layer(bench, model, bench.seeing(text, bench.subject())))


@pytest.mark.parametrize("size", [(16, 16), (13, 19), (33, 49)])
@pytest.mark.parametrize("family", ["tiny", "sd15", "sdxl"])
def test_odd_sizes(host: Host, family: str, size: tuple[int, int]) -> None:
    bench = bench_of(host, family)
    subjects = (
        bench.subject(bench.reference((11, 7), mask=torch.rand(88, 56))),
        bench.subject(bench.reference((3, 5)), box_xyxy=(0.1, 0.2, 0.15, 0.9)),
    )
    latent = with_subjects(bench, *subjects, size=size, steps=1)
    assert latent.shape[-2:] == size and bool(latent.isfinite().all())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(host: Host, dtype: torch.dtype) -> None:
    exact, half = bench_of(host, "sd15"), bench_of(host, "sd15", dtype=dtype)
    seen = []

    def note(q: torch.Tensor, k: Any, v: Any, options: Any) -> Any:
        seen.append(q.dtype)
        return q, k, v

    half.model.set_model_attn1_patch(note)
    subject = {"omega": 3.0, "box_xyxy": (0.0, 0.0, 0.6, 1.0)}
    wanted = with_subjects(exact, exact.subject(**subject), steps=1)
    got = with_subjects(half, half.subject(**subject), steps=1)
    assert set(seen) == {dtype}
    assert bool(got.isfinite().all())
    assert relative_error(got, wanted) < 0.1


def test_area_conditionings_see_their_part_of_a_box(bench: ReferenceBench) -> None:
    """A subject whose box lies outside of a conditioning's area does not act there."""
    area = {"area": (16, 8, 0, 0), "strength": 1.0, "set_area_to_bounds": False}
    left = [[bench.text()[0][0], {**bench.text()[0][1], **area}]]
    inside = bench.subject(box_xyxy=(0.0, 0.0, 0.5, 1.0))
    outside = bench.subject(box_xyxy=(0.75, 0.0, 1.0, 1.0))
    base = bench.text(6)
    stock = run(bench, bench.model, left + base)
    model = bench.attached()
    assert torch.equal(run(bench, model, bench.seeing(left, outside) + base), stock)
    seen = run(bench, model, bench.seeing(left, inside) + base)
    assert relative_error(seen, stock) > 1e-3


def test_wrappers_see_a_pass_as_a_call_of_batch_one(bench: ReferenceBench) -> None:
    """No ControlNet residuals, no keys of other branches; the bench asserts the rest."""
    seen = []

    def watch(executor: Any, x: Any, t: Any, context: Any, y: Any, control: Any, options: Any,
              **kwargs: Any) -> Any:  # fmt: skip
        seen.append((x.shape[0], control, bench.host.reference_pass.READ_KEY in options))
        return executor(x, t, context, y, control, options, **kwargs)

    model = bench.attached()
    model.add_wrapper_with_key(WRAPPERS.DIFFUSION_MODEL, "watch", watch)
    both = (bench.seeing(text, bench.subject()) for text in (bench.text(), bench.text(4)))
    run(bench, model, *both, steps=1, batch=2)
    assert seen.count((1, None, False)) == 2  # a pass of each subject
    assert seen.count((4, None, True)) == 1
