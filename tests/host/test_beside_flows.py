"""Every other row of docs/compatibility's table: what nodes do to conditionings, latents, batches
and steps, with KSampler and with our Guider."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from beside_setup import BOX, SIZE, Applied, Setup, inside_and_outside, row
from comfy_execution.utils import CurrentNodeContext
from host_models import Host, relative_error

TILE = "This node samples several latents of 8x8 with the same subjects"


@pytest.fixture(scope="module")
def setup(host: Host, comfy_nodes: Any) -> Setup:
    with torch.inference_mode():
        return Setup(host, comfy_nodes)


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.WARNING):
        yield caplog


def changed_mostly_in_the_box(setup: Setup, make: Callable[[Applied], torch.Tensor]) -> bool:
    """Whether another subject changes the box more than the rest."""
    inside, outside = inside_and_outside(make(setup.crab) - make(setup.owl))
    return inside > 1.5 * outside


def with_wrapper(model: Any, wrapper: Callable[..., torch.Tensor]) -> Any:
    model = model.clone()
    model.set_model_unet_function_wrapper(wrapper)
    return model


def rows_of(values: dict[str, Any], batch: int, rows: Any) -> dict[str, Any]:
    """Of all tensors with a row for every sample."""
    return {
        name: value[rows] if torch.is_tensor(value) and value.shape[0] == batch else value
        for name, value in values.items()
    }


@row("Conditioning (Zero Out)")
def test_a_zeroed_positive_is_a_negative_without_subjects(setup: Setup, sampler: str) -> None:
    crab = setup.crab
    zeroed = setup.call("ConditioningZeroOut", conditioning=crab.branches[0])
    bare = [
        [text, {k: v for k, v in values.items() if k != "model_conds"}] for text, values in zeroed
    ]
    got, wanted = (
        setup.sample(sampler, crab.model, (*crab.branches[:2], negative))
        for negative in (zeroed, bare)
    )
    assert torch.equal(got, wanted)


@row("Conditioning Average", "a sentence")
def test_a_mixed_text_has_a_sentence(
    setup: Setup, sampler: str, said: pytest.LogCaptureFixture
) -> None:
    """Lengthened or combined texts have none."""
    crab, owl = setup.crab, setup.owl
    parts = {"conditioning_to": crab.branches[0], "conditioning_from": owl.branches[0]}
    combined = setup.call(
        "ConditioningCombine",
        conditioning_1=setup.call("ConditioningConcat", **parts),
        conditioning_2=owl.branches[0],
    )
    setup.sample(sampler, crab.model, (combined, *crab.branches[1:]))
    assert "was mixed" not in said.text
    mixed = setup.call("ConditioningAverage", **parts, conditioning_to_strength=0.5)
    setup.sample(sampler, crab.model, (mixed, *crab.branches[1:]))
    assert said.text.count("was mixed or weighed by another node (such as Conditioning Av") == 1


@row("Conditioning Set Timestep Range")
def test_a_range_of_other_nodes(setup: Setup, sampler: str) -> None:
    def in_the_first_half(conditioning: Any, stock: Any) -> Any:
        first, last = (
            setup.call("ConditioningSetTimestepRange", conditioning=each, start=start, end=end)
            for each, start, end in ((conditioning, 0.0, 0.5), (stock, 0.5, 1.0))
        )
        return setup.call("ConditioningCombine", conditioning_1=first, conditioning_2=last)

    def make(applied: Applied) -> torch.Tensor:
        positive = in_the_first_half(applied.branches[0], setup.stock.branches[0])
        return setup.sample(sampler, applied.model, (positive, *applied.branches[1:]))

    assert changed_mostly_in_the_box(setup, make)
    assert torch.equal(make(setup.off), make(setup.stock))


@row("KSampler (Advanced) in two stages")
def test_two_stages(setup: Setup, sampler: str, said: pytest.LogCaptureFixture) -> None:
    """As in one; on the loader's MODEL the second stage has a sentence."""
    crab = setup.crab
    whole = two_stages(setup, sampler, crab.model, crab.model, split=0)
    halves = two_stages(setup, sampler, crab.model, crab.model, split=2)
    assert relative_error(halves, whole) < 1e-5
    assert "does not know them" not in said.text
    two_stages(setup, sampler, crab.model, setup.model, split=2)
    assert "the MODEL that samples it does not know them" in said.text


def two_stages(setup: Setup, sampler: str, first: Any, second: Any, split: int) -> torch.Tensor:
    """Four steps, the first `split` of them on another MODEL."""
    branches = setup.apply("crab").branches  # fresh: the sentence is said once
    latent = setup.latent()
    stages = [(first, 0, split), (second, split, 4)] if split else [(second, 0, 4)]
    for model, start, end in stages:
        if sampler == "KSampler":
            latent = setup.call(
                "KSamplerAdvanced",
                model=model,
                add_noise="enable" if start == 0 else "disable",
                noise_seed=3,
                steps=4,
                cfg=4.0,
                sampler_name="euler",
                scheduler="normal",
                positive=branches[0],
                negative=branches[2],
                latent_image=latent,
                start_at_step=start,
                end_at_step=end,
                return_with_leftover_noise="enable" if end < 4 else "disable",
            )
        else:
            guider = setup.three_branches(model, branches)
            latent = setup.guided(model, guider, latent, first=start, last=end)
    return latent["samples"]


@row("Rebatch Latents")
def test_rebatched_latents(setup: Setup, sampler: str) -> None:
    crab, latent = setup.crab, setup.latent(batch=2)
    whole = setup.sample(sampler, crab.model, crab.branches, latent)
    singles = setup.call("RebatchLatents", latents=[latent], batch_size=[1])
    apart = [setup.sample(sampler, crab.model, crab.branches, each) for each in singles]
    assert len(apart) == 2
    assert relative_error(torch.cat(apart), whole) < 1e-4


@row("Inpaint Model Conditioning")
def test_inpainting(setup: Setup, sampler: str) -> None:
    """The subject in the box that may change, the photo elsewhere."""
    mask = torch.zeros(1, 128, 128)
    x1, y1, x2, y2 = (round(edge * 128) for edge in BOX)
    mask[:, y1:y2, x1:x2] = 1
    photo = torch.rand(1, 128, 128, 3, generator=torch.Generator().manual_seed(2))

    def make(applied: Applied) -> torch.Tensor:
        node = setup.nodes.NODE_CLASS_MAPPINGS["InpaintModelConditioning"]()
        positive, image_only, negative = applied.branches
        positive, negative, latent = node.encode(positive, negative, photo, setup.vae, mask, True)
        image_only, _, _ = node.encode(image_only, negative, photo, setup.vae, mask, True)
        return setup.sample(sampler, applied.model, (positive, image_only, negative), latent)

    inside, outside = inside_and_outside(make(setup.crab) - make(setup.owl))
    assert inside > 1e-2 and outside < 1e-5
    assert torch.equal(make(setup.off), make(setup.stock))


@row("Context Windows over the batch")
def test_windows_over_the_batch(setup: Setup, sampler: str) -> None:
    """Samples do not see each other: the same pictures as without windows. ComfyUI 0.3.75 compares
    sigmas sample by sample, so there are as many samples as sigmas."""
    crab, latent = setup.crab, setup.latent(batch=3)
    whole = setup.sample(sampler, crab.model, crab.branches, latent, steps=2)
    windowed = setup.windows(crab.model, length=2, overlap=1, dim=0)
    got = setup.sample(sampler, windowed, crab.branches, latent, steps=2)
    assert relative_error(got, whole) < 1e-4


@row("Context Windows over height or width")
def test_windows_over_the_picture(setup: Setup, sampler: str) -> None:
    """Boxes are re-expressed in every window."""

    def make(applied: Applied) -> torch.Tensor:
        model = setup.windows(applied.model, length=12, overlap=8, dim=2)
        return setup.sample(sampler, model, applied.branches)

    assert changed_mostly_in_the_box(setup, make)
    assert torch.equal(make(setup.off), make(setup.stock))


@row("Tiled second pass, detailers", "a sentence")
def test_tiles_one_after_the_other(
    setup: Setup, sampler: str, said: pytest.LogCaptureFixture
) -> None:
    """As tiled upscalers and detailers do in one node; the same latent again is none of it."""
    crab = setup.apply("crab")
    picture = torch.rand(1, 24, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    with CurrentNodeContext("prompt", "upscale"):
        for tile in (picture[..., :8, :8], picture[..., :8, :8], picture[..., 8:, 8:]):
            assert TILE not in said.text
            setup.sample(sampler, crab.model, crab.branches, {"samples": tile}, steps=1)
    assert said.text.count(TILE) == 1


@row("Tiles inside of a model call", "a sentence")
def test_tiles_inside_of_a_call(setup: Setup, sampler: str, said: pytest.LogCaptureFixture) -> None:
    def halves(apply_model: Any, call: dict[str, Any]) -> torch.Tensor:
        parts = call["input"].chunk(2, dim=-1)
        return torch.cat([apply_model(x, call["timestep"], **call["c"]) for x in parts], dim=-1)

    crab = setup.crab
    setup.sample(sampler, with_wrapper(crab.model, halves), crab.branches)
    assert said.text.count("A node gives the model 16x8 cells of a latent of 16x16: if it") == 1


@row("Wrappers that split or repeat the batch")
def test_wrappers_that_split_or_repeat_the_batch(setup: Setup, sampler: str) -> None:
    def one_by_one(apply_model: Any, call: dict[str, Any]) -> torch.Tensor:
        x, t, batch = call["input"], call["timestep"], call["input"].shape[0]
        each = [slice(i, i + 1) for i in range(batch)]
        return torch.cat([apply_model(x[i], t[i], **rows_of(call["c"], batch, i)) for i in each])

    def twice(apply_model: Any, call: dict[str, Any]) -> torch.Tensor:
        batch = call["input"].shape[0]
        rows = torch.arange(batch).repeat(2)
        conds = rows_of(call["c"], batch, rows)
        made: torch.Tensor = apply_model(call["input"][rows], call["timestep"][rows], **conds)
        return made[batch:]

    crab, latent = setup.crab, setup.latent(batch=2)
    wanted = setup.sample(sampler, crab.model, crab.branches, latent)
    for wrapper in (one_by_one, twice):
        model = with_wrapper(crab.model, wrapper)
        got = setup.sample(sampler, model, crab.branches, latent)
        assert relative_error(got, wanted) < 1e-4


@row("Wrappers that split some tensors of a call", "a sentence")
def test_wrappers_that_split_a_part_of_the_call(setup: Setup, sampler: str) -> None:
    def first_only(apply_model: Any, call: dict[str, Any]) -> torch.Tensor:
        conds = {**call["c"], "c_crossattn": call["c"]["c_crossattn"][:1]}
        made: torch.Tensor = apply_model(call["input"][:1], call["timestep"][:1], **conds)
        return made

    crab = setup.crab
    with pytest.raises(ValueError, match=r"batch: expected \d samples for the subjects of this"):
        setup.sample(sampler, with_wrapper(crab.model, first_only), crab.branches)


@row("A MODEL without the adapter", "a sentence")
def test_the_loaders_model(setup: Setup, sampler: str, said: pytest.LogCaptureFixture) -> None:
    """A warning, or at our Guider an error."""
    crab = setup.apply("crab")
    if sampler == "Guider":
        node = setup.host.guider_node.SubjectDiffusionGuider
        with pytest.raises(ValueError, match="expected the MODEL output of Subject-Diffusion App"):
            node.execute(setup.model, *crab.branches, 3.0, 1.5)
        return
    setup.sample(sampler, setup.model, crab.branches)
    assert said.text.count("the MODEL that samples it does not know them") == 1


def test_perp_neg_guider_in_place_of_ours(setup: Setup) -> None:
    def make(applied: Applied) -> torch.Tensor:
        guider = setup.call(
            "PerpNegGuider",
            model=applied.model,
            positive=applied.branches[0],
            negative=applied.branches[2],
            empty_conditioning=setup.stock.branches[2],
            cfg=4.0,
            neg_scale=1.0,
        )
        return setup.guided(applied.model, guider, setup.latent())["samples"]

    assert changed_mostly_in_the_box(setup, make)
    assert torch.equal(make(setup.off), make(setup.stock))


def test_two_branches_outside_of_applys_range(setup: Setup) -> None:
    """What Encode makes for image-only and negative there is known as one."""
    crab, rows = setup.apply("crab", end_percent=0.5), []

    def note(apply_model: Any, call: dict[str, Any]) -> torch.Tensor:
        rows.append(call["input"].shape[0])
        made: torch.Tensor = apply_model(call["input"], call["timestep"], **call["c"])
        return made

    setup.sample("Guider", with_wrapper(crab.model, note), crab.branches)
    assert rows == [3, 3, 2, 2]
