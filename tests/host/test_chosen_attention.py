"""The adapter's own layers use the attention function that the user chose."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import comfy.ldm.modules.attention as comfy_attention
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
)

NUM_CELLS = {256, 64, 16}  # of a latent of 16 x 16, in the layers of the tiny UNet
TEXT_TOKENS = 77


class Setup:
    """A tiny base with an adapter and two weak subjects: logits have a bias."""

    def __init__(self, host: Host, folder: Path) -> None:
        self.base: Base = host.make_base()
        loaded = host.make_adapter(self.base, folder)
        self.model, _ = host.apply_node.apply_adapter(self.base.model, self.base.clip, loaded)
        branch = host.branch(loaded, 2, strength=0.5)
        self.positive = host.conditioning(random_context(self.base), branch)

    def predict(self, model: Any = None) -> torch.Tensor:
        guider = cfg_guider(model or self.model, self.positive, self.positive)
        return denoise_once(guider, random_noise(self.base, 2), 500)


class Watch:
    """An attention function, or an override of it, that notes the calls of gated layers: they have
    keys besides the latent cells."""

    def __init__(self, function: Callable[..., torch.Tensor] | None = None) -> None:
        self.function = function
        self.calls = 0

    def note(self, query: torch.Tensor, key: torch.Tensor) -> None:
        cells, keys = query.shape[1], key.shape[1]
        self.calls += cells in NUM_CELLS and keys > cells and keys != TEXT_TOKENS

    def __call__(self, query: torch.Tensor, key: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        self.note(query, key)
        assert self.function is not None
        return self.function(query, key, *args, **kwargs)

    def override(
        self, function: Any, query: torch.Tensor, key: torch.Tensor, *args: Any, **kwargs: Any
    ) -> Any:
        self.note(query, key)
        return function(query, key, *args, **kwargs)


@pytest.fixture(scope="module")
def setup(host: Host, tmp_path_factory: pytest.TempPathFactory) -> Setup:
    with torch.inference_mode():
        return Setup(host, tmp_path_factory.mktemp("attention"))


@pytest.mark.parametrize("name", ["split", "sub_quad", "basic"])
def test_the_function_of_a_start_option(
    setup: Setup, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """As `--use-split-cross-attention` and its like set it."""
    wanted = setup.predict()
    watch = Watch(getattr(comfy_attention, f"attention_{name}"))
    monkeypatch.setattr(comfy_attention, "optimized_attention", watch)
    got = setup.predict()
    assert watch.calls > 0
    assert relative_error(got, wanted) < 1e-5


@pytest.mark.parametrize("name", ["attention_sub_quad", "attention_pytorch"])
def test_what_comfyui_takes_by_itself_is_no_choice(
    host: Host, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(comfy_attention, "optimized_attention", getattr(comfy_attention, name))
    monkeypatch.setattr(host.attention_choice.args, "use_quad_cross_attention", False)
    assert host.attention_choice.chosen_attention({}) is None
    monkeypatch.setattr(host.attention_choice.args, "use_quad_cross_attention", True)
    is_chosen = host.attention_choice.chosen_attention({}) is not None
    assert is_chosen == (name == "attention_sub_quad")


def test_an_override_of_another_node(setup: Setup) -> None:
    wanted = setup.predict()
    model, watch = setup.model.clone(), Watch()
    options = model.model_options["transformer_options"]
    options["optimized_attention_override"] = watch.override
    assert relative_error(setup.predict(model), wanted) < 1e-5
    assert watch.calls > 0


def test_what_this_pack_puts_around_attention_is_no_choice(host: Host, setup: Setup) -> None:
    """Record Attention looks by an override of its own: the picture is the same, bit for bit."""
    model = setup.model.clone()
    host.attention_terms.attach_attention_term(model, "looks", "attn2", lambda call: None)
    assert torch.equal(setup.predict(model), setup.predict())
