"""ControlNet, ControlLoRA and T2I-Adapter of ComfyUI, with random weights, beside the adapter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import comfy.cldm.cldm
import comfy.controlnet
import comfy.ops
import comfy.t2i_adapter.adapter
import factories
import pytest
import torch
from host_models import Base, Host, cfg_guider, random_context, random_noise, relative_error, sample

PROMPT, NEGATIVE = "a dog and a cat", "blurry"
KINDS = ("controlnet", "controllora", "t2i")


def control_network(base: Base) -> Any:
    """ComfyUI's ControlNet for the UNet, every weight random (also those that training begins
    at zero)."""
    config = dict(base.model.model.model_config.unet_config)
    config.pop("out_channels")
    operations = comfy.ops.disable_weight_init
    network = comfy.cldm.cldm.ControlNet(**config, hint_channels=3, operations=operations)
    return factories.randomize(network, 50)


def make_control(base: Base, kind: str) -> Any:
    """What ComfyUI's loader nodes give, as CONTROL_NET."""
    device = base.model.load_device
    if kind == "controlnet":
        return comfy.controlnet.ControlNet(control_network(base), load_device=device)
    if kind == "controllora":
        own = ("input_hint_block.", "zero_convs.", "middle_block_out.")
        state = control_network(base).state_dict()
        weights = {name: tensor for name, tensor in state.items() if name.startswith(own)}
        return comfy.controlnet.ControlLora(weights)
    network = comfy.t2i_adapter.adapter.Adapter(
        channels=list(base.config["block_out_channels"]),
        nums_rb=2,
        cin=3 * 64,
        ksize=1,
        sk=True,
        use_conv=False,
        xl=False,
    )
    factories.randomize(network, 51)
    return comfy.controlnet.T2IAdapter(network, 3, 8, "nearest-exact")


class Setup:
    """Base, adapter and what Encode makes of two subjects."""

    def __init__(self, host: Host, nodes: Any, folder: Path) -> None:
        self.host, self.nodes = host, nodes
        self.base: Base = host.make_base()
        self.loaded = host.make_adapter(self.base, folder)
        self.noise = random_noise(self.base)
        self.hint = torch.rand(1, 128, 128, 3, generator=torch.Generator().manual_seed(8))

    def apply(self, strength: float = 1.0) -> tuple[Any, Any, Any]:
        """MODEL, positive and negative."""
        model, clip = self.host.apply_node.apply_adapter(
            self.base.model, self.base.clip, self.loaded, strength
        )
        vision = self.host.tiny_clip_vision.TinyClipVision(self.host.tiny)
        picture = self.hint[:, :40, :40]
        node = self.host.subject_node.SubjectDiffusionSubject
        (first,) = node.execute(picture, "dog", "0.1,0.1,0.5,0.9", 1.0).args
        (both,) = node.execute(1 - picture, "cat", "0.5,0.2,1,0.9", 1.0, None, first).args
        positive, _, negative = self.host.encode_node.SubjectDiffusionEncode.execute(
            clip, vision, self.loaded, both, PROMPT, NEGATIVE
        ).args
        return model, positive, negative

    def plain(self) -> list[Any]:
        """Positive and negative of CLIP Text Encode."""
        encode = self.host.encode_text
        return [encode(self.base.clip, text) for text in (PROMPT, NEGATIVE)]

    def controlled(self, control: Any, positive: Any, negative: Any) -> tuple[Any, Any]:
        apply_control = self.nodes.ControlNetApplyAdvanced().apply_controlnet
        return apply_control(positive, negative, control, self.hint, 1.0, 0.0, 1.0)

    def run(self, model: Any, positive: Any, negative: Any) -> torch.Tensor:
        return sample(cfg_guider(model, positive, negative, cfg=2.0), self.noise, steps=2)


class FourLevels(Setup):
    """A UNet of Stable Diffusion 2's class, whose levels a T2I-Adapter expects; the tiny text
    encoder is too narrow for it, so its texts are random."""

    def __init__(self, host: Host, nodes: Any, folder: Path) -> None:
        super().__init__(host, nodes, folder)
        self.base = host.make_base("sd2")
        self.loaded = host.make_adapter(self.base, folder, seed=20)
        self.noise = random_noise(self.base)

    def apply(self, strength: float = 1.0) -> tuple[Any, Any, Any]:
        model, _ = self.host.apply_node.apply_adapter(
            self.base.model, self.base.clip, self.loaded, strength
        )
        if strength == 0.0:
            return model, *self.plain()
        positive = self.host.conditioning(
            random_context(self.base, 0), self.host.branch(self.loaded, 2)
        )
        return model, positive, self.plain()[1]

    def plain(self) -> list[Any]:
        return [self.host.conditioning(random_context(self.base, seed), None) for seed in (0, 1)]


@pytest.fixture(scope="module")
def setups(
    setup: Setup, host: Host, comfy_nodes: Any, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Setup]:
    """The setup for each kind of control."""
    with torch.inference_mode():
        levels = FourLevels(host, comfy_nodes, tmp_path_factory.mktemp("levels"))
    return {"controlnet": setup, "controllora": setup, "t2i": levels}


@pytest.fixture(scope="module")
def setup(host: Host, comfy_nodes: Any, tmp_path_factory: pytest.TempPathFactory) -> Setup:
    with torch.inference_mode():
        return Setup(host, comfy_nodes, tmp_path_factory.mktemp("control"))


def test_the_controlnet_gets_the_stock_text(setup: Setup) -> None:
    """It never saw fused text: both branches reach it as CLIP Text Encode makes them. With the
    same latent its answer is then the same as without the adapter, bit for bit."""
    control = make_control(setup.base, "controlnet")
    contexts, answers = [], []

    def record(_module: Any, _args: Any, kwargs: dict[str, Any], answer: Any) -> None:
        contexts.append(kwargs["context"].clone())
        answers.append([tensor.clone() for tensor in answer["output"]])

    control.control_model.register_forward_hook(record, with_kwargs=True)
    model, positive, negative = setup.apply()
    setup.run(model, *setup.controlled(control, positive, negative))
    count = len(contexts)
    plain = setup.plain()
    setup.run(setup.base.model, *setup.controlled(control, *plain))
    assert count == 2 and len(contexts) == 4
    rows = sorted(contexts[0].unbind(), key=lambda row: float(row.sum()))
    wanted = sorted((entry[0][0][0] for entry in plain), key=lambda row: float(row.sum()))
    assert all(torch.equal(row, text) for row, text in zip(rows, wanted, strict=True))
    assert all(torch.equal(*pair) for pair in zip(answers[0], answers[2], strict=True))
    assert not torch.equal(positive[0][0], plain[0][0][0])


@pytest.mark.parametrize("kind", KINDS)
def test_control_acts_beside_the_adapter(setups: dict[str, Setup], kind: str) -> None:
    setup = setups[kind]
    control = make_control(setup.base, kind)
    model, positive, negative = setup.apply()
    conditionings = setup.controlled(control, positive, negative)
    both = setup.run(model, *conditionings)
    assert bool(both.isfinite().all())
    assert torch.equal(setup.run(model, *conditionings), both)
    assert relative_error(both, setup.run(model, positive, negative)) > 1e-2
    assert relative_error(both, setup.run(setup.base.model, *conditionings)) > 1e-2


@pytest.mark.parametrize("kind", KINDS)
def test_strength_zero_is_stock_with_control(setups: dict[str, Setup], kind: str) -> None:
    setup = setups[kind]
    control = make_control(setup.base, kind)
    model, positive, negative = setup.apply(0.0)
    plain = setup.plain()
    got = setup.run(model, *setup.controlled(control, positive, negative))
    wanted = setup.run(setup.base.model, *setup.controlled(control, *plain))
    assert torch.equal(got, wanted)
