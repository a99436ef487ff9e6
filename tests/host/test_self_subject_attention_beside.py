"""Self-subject-attention beside other nodes' patches, and what is left of it: nothing."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

import comfy.gligen
import comfy.model_management
import comfy.model_patcher
import comfy.sd
import comfy.supported_models
import pytest
import torch
from factories import randomize
from host_models import Host, cfg_guider, relative_error, sample
from reference_models import WRAPPERS, ReferenceBench, bench_of
from test_coexistence import make_lora


@pytest.fixture
def bench(host: Host) -> ReferenceBench:
    return bench_of(host)


def run(bench: ReferenceBench, model: Any, *subjects: Any, **options: Any) -> torch.Tensor:
    both = (bench.seeing(text, *subjects) for text in (bench.text(), bench.text(4)))
    size = options.pop("size", (16, 16))
    return sample(cfg_guider(model, *both, 3.0), bench.noise(size=size), steps=2, **options)


def test_an_override_that_was_there_is_called(bench: ReferenceBench) -> None:
    subject, calls = bench.subject(), []
    wanted = run(bench, bench.attached(), subject)

    def override(function: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(args[1].shape)
        return function(*args, **kwargs)

    for first in (True, False):
        other = bench.model.clone() if first else bench.attached()
        options = other.model_options.setdefault("transformer_options", {})
        options["optimized_attention_override"] = override
        model = bench.attached(other) if first else other
        calls.clear()
        bench.passes.clear()
        assert torch.equal(run(bench, model, subject), wanted)
        assert len(bench.passes) == 2
        lengths = {shape[1] for shape in calls}
        assert {64, 128} <= lengths  # a layer's own keys, and with those of the reference


@pytest.mark.parametrize("backend", ["attention_basic", "attention_split", "attention_sub_quad"])
def test_every_attention_function_gives_the_same(bench: ReferenceBench, backend: str) -> None:
    import comfy.ldm.modules.attention as attention

    subject = bench.subject(bench.reference(mask=torch.rand(128, 128)), box_xyxy=(0, 0, 0.6, 1))
    wanted = run(bench, bench.attached(), subject)
    other = bench.model.clone()
    chosen = getattr(attention, backend)
    options = other.model_options.setdefault("transformer_options", {})
    options["optimized_attention_override"] = lambda function, *args, **kwargs: chosen(
        *args, **{**kwargs, "_inside_attn_wrapper": True}
    )
    assert relative_error(run(bench, bench.attached(other), subject), wanted) < 1e-4


@pytest.mark.parametrize("ours_first", [True, False])
def test_with_an_adapter_on_the_same_model(host: Host, tmp_path: Path, ours_first: bool) -> None:
    """Both act, in either order; the references' pass is made without the adapter's subjects."""
    bench, base = bench_of(host), host.make_base()
    loaded = host.make_adapter(base, tmp_path)
    apply = host.apply_node.apply_adapter
    subject = bench.subject()

    def both(first: bool) -> Any:
        if first:
            return bench.attached(apply(base.model, base.clip, loaded)[0])
        return apply(bench.attached(base.model), base.clip, loaded)[0]

    def result(model: Any, *subjects: Any, adapted: bool = True) -> torch.Tensor:
        branch = host.branch(loaded, 2) if adapted else None
        conditioning = host.conditioning(bench.text()[0][0], branch)
        seen = bench.seeing(conditioning, *subjects) if subjects else conditioning
        return sample(cfg_guider(model, seen, bench.text(4), 3.0), bench.noise(), steps=2)

    adapter_only = result(apply(base.model, base.clip, loaded)[0])
    assert torch.equal(result(both(ours_first)), adapter_only)
    together = result(both(ours_first), subject)
    assert relative_error(together, result(both(not ours_first), subject)) < 1e-5
    assert relative_error(together, adapter_only) > 1e-3
    assert relative_error(together, result(both(ours_first), subject, adapted=False)) > 1e-3


def test_lora_before_and_after(bench: ReferenceBench) -> None:
    subject, clip = bench.subject(), bench.host.make_base().clip
    before = comfy.sd.load_lora_for_models(bench.model, clip, make_lora(), 1.0, 1.0)[0]
    after = comfy.sd.load_lora_for_models(bench.attached(), clip, make_lora(), 1.0, 1.0)[0]
    first = run(bench, bench.attached(before), subject)
    assert relative_error(run(bench, after, subject), first) < 1e-5
    assert relative_error(first, run(bench, bench.attached(), subject)) > 1e-3


def stock_node(comfy_nodes: Any, name: str, *args: Any) -> Any:
    node = comfy_nodes.NODE_CLASS_MAPPINGS[name]
    made = (
        node.execute(*args) if hasattr(node, "execute") else getattr(node(), node.FUNCTION)(*args)
    )
    return getattr(made, "args", made)[0]


OTHERS = {
    "PerturbedAttentionGuidance": (3.0,),
    "SelfAttentionGuidance": (0.5, 2.0),
    "FreeU_V2": (1.3, 1.4, 0.9, 0.2),
    "TomePatchModel": (0.4,),
    "PatchModelAddDownscale": (1, 2.0, 0.0, 0.6, True, "bicubic", "bicubic"),
    "RescaleCFG": (0.7,),
}


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("after", [True, False])
def test_beside_stock_nodes(host: Host, comfy_nodes: Any, name: str, after: bool) -> None:
    """Each acts, without an error, before or after; a pass a step, whatever it calls."""
    bench = bench_of(host, "sd15")
    subject = bench.subject(bench.reference((10, 12)))
    if after:
        model = stock_node(comfy_nodes, name, bench.attached(), *OTHERS[name])
    else:
        model = bench.attached(stock_node(comfy_nodes, name, bench.model, *OTHERS[name]))
    both = run(bench, model, subject)
    assert len(bench.passes) == 2
    assert bool(both.isfinite().all())
    only = run(bench, stock_node(comfy_nodes, name, bench.model, *OTHERS[name]))
    assert relative_error(both, only) > 1e-3


def test_gligen_is_not_in_the_pass(bench: ReferenceBench) -> None:
    """ComfyUI's own, whose boxes are made for the batch of the call."""
    locations = bench.host.unet_geometry.transformer_block_locations(bench.model)
    unet = bench.model.model.diffusion_model
    blocks = [
        bench.host.unet_geometry.transformer_block_at(unet, location)
        for location in sorted(locations.values())
    ]
    widths = [block.attn1.to_q.in_features for block in blocks]
    modules = [comfy.gligen.GatedSelfAttentionDense(width, 48, 2, 16) for width in widths]
    network = comfy.gligen.Gligen(modules, comfy.gligen.PositionNet(48, 48), 48)
    randomize(network, 3)
    patcher = comfy.model_patcher.ModelPatcher(network, torch.device("cpu"), torch.device("cpu"))
    position = [(torch.rand(1, 48), 8, 8, 0, 0)]
    entries = []
    for text in (bench.text(), bench.text(4)):
        ((context, values),) = bench.seeing(text, bench.subject())
        entries.append([[context, {**values, "gligen": ("position", patcher, position)}]])
    guider = cfg_guider(bench.attached(), *entries, 3.0)
    together = sample(guider, bench.noise(batch=2), steps=2)
    assert bool(together.isfinite().all())
    plain = [bench.seeing(text, bench.subject()) for text in (bench.text(), bench.text(4))]
    without = sample(cfg_guider(bench.attached(), *plain, 3.0), bench.noise(batch=2), steps=2)
    assert relative_error(together, without) > 1e-3


def test_the_memory_estimate_has_a_sample_more(bench: ReferenceBench) -> None:
    asked = []

    def watch(executor: Any, model: Any, shape: Any, *args: Any, **kwargs: Any) -> Any:
        asked.append(shape[0])
        return executor(model, shape, *args, **kwargs)

    model = bench.attached()
    model.add_wrapper_with_key(WRAPPERS.PREPARE_SAMPLING, "watch", watch)
    run(bench, model, bench.subject())
    sample(cfg_guider(model, bench.text(), bench.text(4), 3.0), bench.noise(), steps=2)
    assert asked == [2, 1]


def test_token_merging_goes_without_boxes_only(host: Host, comfy_nodes: Any) -> None:
    bench = bench_of(host, "sd15")
    model = stock_node(comfy_nodes, "TomePatchModel", bench.attached(), 0.4)
    with pytest.raises(ValueError, match="model: expected a query for every place, as a subject"):
        run(bench, model, bench.subject(box_xyxy=(0.0, 0.0, 0.5, 1.0)))


def test_hypertile_is_refused_in_a_sentence(host: Host, comfy_nodes: Any) -> None:
    bench = bench_of(host, "sd15")
    model = stock_node(comfy_nodes, "HyperTile", bench.attached(), 256, 2, 0, False)
    with pytest.raises(ValueError, match="model: expected self-attention over the whole picture"):
        run(bench, model, bench.subject(bench.reference((64, 64))), size=(64, 64))


def test_a_replaced_attention_stays_as_its_node_made_it(bench: ReferenceBench) -> None:
    """In the first block; no keys of it are kept, the other layers act."""
    seen = []

    def replaced(q: Any, k: Any, v: torch.Tensor, options: Any) -> torch.Tensor:
        seen.append(k.shape[1])
        return v

    locations = bench.host.unet_geometry.transformer_block_locations(bench.model)
    kind, number, index = min(locations.values())
    model = bench.model.clone()
    model.set_model_attn1_replace(replaced, kind, number, index)
    stock, ours = run(bench, model), run(bench, bench.attached(model), bench.subject())
    assert set(seen) == {64}
    assert relative_error(ours, stock) > 1e-3


def test_inpainting_models(host: Host) -> None:
    """The pass gets the picture's own latent and a mask of nothing to fill in."""
    bench, seen = bench_of(host, "sd15"), []
    config = dict(bench.model.model.model_config.unet_config, in_channels=9)
    model_config = comfy.supported_models.SD15(config)
    model_config.set_inference_dtype(torch.float32, None)
    inpainting = model_config.get_model({}, device=torch.device("cpu"))
    randomize(inpainting.diffusion_model, 0)
    device = comfy.model_management.get_torch_device()
    patcher = comfy.model_patcher.ModelPatcher(
        inpainting, load_device=device, offload_device=device
    )

    def watch(executor: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
        if x.shape[0] == 1:
            seen.append(x)
        return executor(x, *args, **kwargs)

    attached = bench.attached(patcher)
    attached.add_wrapper_with_key(WRAPPERS.DIFFUSION_MODEL, "watch", watch)
    reference = bench.reference((12, 20))
    latent = run(bench, attached, bench.subject(reference))
    assert bool(latent.isfinite().all())
    wanted = inpainting.process_latent_in(reference.latent)
    assert seen[0].shape == (1, 9, 12, 20)
    assert bool((seen[0][:, 4] == 0).all())
    assert torch.allclose(seen[0][:, 5:], wanted)


def leftovers(bench: ReferenceBench, model: Any, error: Exception | None) -> list[Any]:
    """Weak references to what a run keeps, after the run; it ends in the error, if there is one."""
    watched: list[Any] = []

    def watch(executor: Any, x: Any, t: Any, *args: Any, **kwargs: Any) -> Any:
        seen = args[3].get(bench.host.reference_pass.READ_KEY)
        if seen is None:
            return executor(x, t, *args, **kwargs)
        for subjects in seen.subjects.values():
            for keys in subjects[0].pictures:
                watched.append(weakref.ref(keys))
                watched.extend(weakref.ref(layer.key) for layer in keys.layers.values())
        if error is not None:
            raise error
        return executor(x, t, *args, **kwargs)

    model.add_wrapper_with_key(WRAPPERS.APPLY_MODEL, "leftovers", watch)
    subject = bench.subject()
    both = [bench.seeing(text, subject) for text in (bench.text(), bench.text(4))]
    guider = cfg_guider(model, *both, 3.0)
    try:
        sample(guider, bench.noise(), steps=2)
    except type(error or AssertionError()) as came:
        assert came is error
        came.__traceback__ = None
    watched.append(guider)  # a guider that lives on keeps nothing either
    return watched


ERRORS: tuple[type[BaseException] | None, ...] = (
    None,
    comfy.model_management.InterruptProcessingException,
    torch.OutOfMemoryError,
    RuntimeError,
)


@pytest.mark.parametrize("error", ERRORS)
def test_nothing_is_left_after_a_run(bench: ReferenceBench, error: Any) -> None:
    """The next run of the same MODEL is the one that it would have been."""
    model, subject = bench.attached(), bench.subject()
    wanted = run(bench, model, subject)
    failing = model.clone()
    *watched, _guider = leftovers(bench, failing, None if error is None else error("stopped"))
    gc.collect()
    assert len(watched) > 3
    assert [each() for each in watched if each() is not None] == []
    assert torch.equal(run(bench, model, subject), wanted)
    # the originals were never touched
    assert not bench.model.wrappers or not any(bench.model.wrappers.values())
    assert "patches" not in bench.model.model_options.get("transformer_options", {})


def test_a_cancelled_pass_leaves_no_half_of_its_keys(bench: ReferenceBench) -> None:
    """The next call at the same noise level makes the pass anew."""
    model, fail = bench.attached(), [True]

    def behind(out: torch.Tensor, options: Any) -> torch.Tensor:
        if bench.host.reference_pass.WRITE_KEY in options and fail[0]:
            fail[0] = False
            raise comfy.model_management.InterruptProcessingException
        return out

    model.set_model_attn1_output_patch(behind)
    subject = bench.subject()
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        run(bench, model, subject)
    assert torch.equal(run(bench, model, subject), run(bench, bench.attached(), subject))
