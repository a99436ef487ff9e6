"""All branches in one UNet call, any batch, any size, areas."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import comfy.patcher_extension
import comfy_extras.nodes_custom_sampler as stock_nodes
import pytest
import torch
from host_models import (
    Base,
    Host,
    cfg_guider,
    denoise_once,
    random_context,
    random_noise,
    relative_error,
    sample,
)

from subject_diffusion_core.guidance import three_branch_guidance

TIMESTEP = 500
POSITIONS = {"patch_positions": True, "query_positions": True, "token_positions": True}


@pytest.fixture(scope="module")
def base(host: Host) -> Base:
    with torch.inference_mode():
        return host.make_base()


def unet_calls(model: Any) -> list[tuple[int, ...]]:
    """Shapes of x in all UNet calls to come."""
    shapes: list[tuple[int, ...]] = []

    def record(executor: Any, x: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        shapes.append(tuple(x.shape))
        return executor(x, *args, **kwargs)

    wrappers = comfy.patcher_extension.WrappersMP
    model.add_wrapper_with_key(wrappers.DIFFUSION_MODEL, "test", record)
    return shapes


def one_branch(model: Any, conditioning: Any, noise: torch.Tensor) -> torch.Tensor:
    return denoise_once(cfg_guider(model, conditioning, conditioning), noise, TIMESTEP)


@pytest.mark.parametrize(
    ("counts", "batch"), [((2, 2, 0), 1), ((2, 1, 0), 2), ((5, 3, 0), 2), ((2, 2, 0), 5)]
)
def test_three_branches_in_one_call(
    host: Host, base: Base, tmp_path: Path, counts: tuple[int, ...], batch: int
) -> None:
    """Different subjects, and different numbers of tokens, per branch; equal to three calls."""
    loaded = host.make_adapter(base, tmp_path, num_subjects=2)
    model, _ = host.apply_node.apply_adapter(base.model, base.clip, loaded)
    noise = random_noise(base, batch)
    branches = [
        host.conditioning(random_context(base, i), many_subjects(host, loaded, count, i))
        for i, count in enumerate(counts)
    ]
    separate = [one_branch(model, branch, noise) for branch in branches]
    assert relative_error(separate[0], separate[2]) > 1e-2
    shapes = unet_calls(model)
    guider = host.guider_node.ThreeBranchGuider(model)
    guider.set_branches(*branches)
    guider.set_scales(3.0, 1.5)
    got = denoise_once(guider, noise, TIMESTEP)
    assert shapes == [(3 * batch, 16, 16, 16)]
    assert relative_error(got, three_branch_guidance(*separate, 3.0, 1.5)) < 1e-4


def many_subjects(host: Host, loaded: Any, count: int, seed: int) -> Any:
    """More subjects than fixed boxes: the boxes repeat."""
    config = loaded.config
    slots = max(count, config.num_subjects) if count else 0
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(slots, 2, generator=generator) * 0.5
    return host.branches.BranchSubjects(
        adapter=loaded.adapter,
        patch_embeds=torch.randn(slots, config.num_patches, config.patch_dim, generator=generator),
        subject_boxes_xyxy=torch.cat((corners, corners + 0.4), dim=1),
        subject_valid=torch.arange(slots) < count,
        token_strengths=torch.ones(slots),
    )


def test_guider_equals_comfyuis_dual_cfg(host: Host, base: Base, tmp_path: Path) -> None:
    loaded = host.make_adapter(base, tmp_path)
    model, _ = host.apply_node.apply_adapter(base.model, base.clip, loaded)
    branches = [
        host.conditioning(random_context(base, i), host.branch(loaded, count, i))
        for i, count in enumerate((2, 2, 0))
    ]
    node = host.guider_node.SubjectDiffusionGuider
    for scales in ((3.0, 1.5), (3.0, 1.0), (1.0, 1.0)):
        (ours,) = node.execute(model, *branches, *scales).args
        stock = stock_nodes.Guider_DualCFG(model)
        stock.set_conds(*branches)
        stock.set_cfg(*scales)
        noise = random_noise(base)
        assert torch.equal(sample(ours, noise), sample(stock, noise))


def test_branches_without_subjects_of_their_own(host: Host, base: Base, tmp_path: Path) -> None:
    """A negative from CLIP Text Encode counts as the branch without subjects, in the same call."""
    loaded = host.make_adapter(base, tmp_path)
    model, _ = host.apply_node.apply_adapter(base.model, base.clip, loaded)
    context = random_context(base)
    positive = host.conditioning(context, host.branch(loaded, 2), cross_attn_controlnet=context)
    noise = random_noise(base)
    shapes = unet_calls(model)
    results = [
        denoise_once(cfg_guider(model, positive, negative, cfg=2.0), noise, TIMESTEP)
        for negative in (
            host.conditioning(context, None),
            host.conditioning(context, host.branch(loaded, 0)),
        )
    ]
    assert torch.equal(*results)
    assert shapes == [(2, 16, 16, 16)] * 2


@pytest.mark.parametrize("options", [{}, POSITIONS], ids=["paper", "positions"])
def test_520x776(host: Host, base: Base, tmp_path: Path, options: dict[str, Any]) -> None:
    loaded = host.make_adapter(base, tmp_path, **options)
    model, _ = host.apply_node.apply_adapter(base.model, base.clip, loaded)
    branch = host.conditioning(random_context(base), host.branch(loaded, 2))
    noise = random_noise(base, size=(97, 65))
    got = sample(cfg_guider(model, branch, branch), noise, steps=2)
    assert got.shape == noise.shape
    assert bool(got.isfinite().all())


@pytest.mark.parametrize(
    "area", [(8, 10, 4, 3), ("percentage", 0.5, 0.625, 0.25, 0.1875)], ids=["cells", "percent"]
)
def test_area_conditioning(host: Host, base: Base, tmp_path: Path, area: tuple[Any, ...]) -> None:
    """Inside an area the model sees a cut-out: boxes and mask are those of the cut-out."""
    loaded = host.make_adapter(base, tmp_path, **POSITIONS)
    model, _ = host.apply_node.apply_adapter(base.model, base.clip, loaded)
    context, noise = random_context(base), random_noise(base)
    height, width, top, left = 8, 10, 4, 3
    whole = host.branch(loaded, 4)
    entry = host.conditioning(context, whole, area=area)
    got = one_branch(model, entry, noise)[..., top : top + height, left : left + width]
    cut_out = noise[..., top : top + height, left : left + width]
    wanted = one_branch(
        model,
        host.conditioning(context, in_area(host, whole, (height, width, top, left))),
        cut_out,
    )
    assert relative_error(got, wanted) < 1e-5
    unmoved = one_branch(model, host.conditioning(context, whole), cut_out)
    assert relative_error(unmoved, wanted) > 1e-3


def in_area(host: Host, branch: Any, area: tuple[int, int, int, int]) -> Any:
    """The subjects of a 16x16 latent in the frame of an area, computed cell by cell."""
    height, width, top, left = area
    cells = branch.subject_boxes_xyxy * 16
    x1, y1, x2, y2 = cells.unbind(1)
    framed = torch.stack(
        (
            ((x1 - left) / width).clamp(0, 1),
            ((y1 - top) / height).clamp(0, 1),
            ((x2 - left) / width).clamp(0, 1),
            ((y2 - top) / height).clamp(0, 1),
        ),
        dim=1,
    )
    return host.branches.BranchSubjects(
        adapter=branch.adapter,
        patch_embeds=branch.patch_embeds,
        subject_boxes_xyxy=framed,
        subject_valid=(framed[:, 0] < framed[:, 2]) & (framed[:, 1] < framed[:, 3]),
        token_strengths=branch.token_strengths,
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(host: Host, base: Base, tmp_path: Path, dtype: torch.dtype) -> None:
    loaded = host.make_adapter(base, tmp_path, **POSITIONS)
    exact, _ = host.apply_node.apply_adapter(base.model, base.clip, loaded)
    branch = host.conditioning(random_context(base), host.branch(loaded, 2))
    noise = random_noise(base)
    wanted = one_branch(exact, branch, noise)
    rounded = host.make_base()
    unet = rounded.model.model.diffusion_model.to(dtype)
    unet.dtype = dtype
    seen: set[torch.dtype] = set()
    model, _ = host.apply_node.apply_adapter(rounded.model, rounded.clip, loaded)
    model.set_model_patch(lambda x, options: (seen.add(x.dtype), x)[1], "middle_patch")
    got = one_branch(model, branch, noise)
    assert seen == {dtype}
    assert relative_error(got, wanted) < 0.05


def test_keys_and_values_are_computed_once_per_run(
    host: Host, base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = host.make_adapter(base, tmp_path)
    model, _ = host.apply_node.apply_adapter(base.model, base.clip, loaded)
    layer = host.core("gated_attention").GatedSelfAttention
    calls = []
    original = layer.cache_tokens
    monkeypatch.setattr(
        layer, "cache_tokens", lambda self, tokens: (calls.append(0), original(self, tokens))[1]
    )
    branch = host.conditioning(random_context(base), host.branch(loaded, 2))
    sample(cfg_guider(model, branch, branch), random_noise(base, 3), steps=5)
    assert len(calls) == len(loaded.config.adapter_blocks)


def test_subject_strength(host: Host, base: Base, tmp_path: Path) -> None:
    """A subject's own strength acts on its columns, and fades continuously to nothing."""
    loaded = host.make_adapter(base, tmp_path, num_subjects=1, location_control=False)
    model, _ = host.apply_node.apply_adapter(base.model, base.clip, loaded)
    context, noise = random_context(base), random_noise(base)
    full, half, none = (
        one_branch(
            model, host.conditioning(context, host.branch(loaded, 1, strength=strength)), noise
        )
        for strength in (1.0, 0.5, 1e-12)
    )
    assert relative_error(half, full) > 1e-4
    assert (half - none).norm() < (full - none).norm()
