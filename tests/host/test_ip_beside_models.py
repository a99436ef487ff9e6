"""IP-Adapter and MS-Diffusion beside a ControlNet, a LoRA, PAG and another pack's cross-attention,
and on quantised checkpoints."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import comfy.sd
import comfy_extras.nodes_pag
import pytest
import torch
from host_models import (
    BOXES,
    Base,
    Host,
    cfg_guider,
    denoise_once,
    random_context,
    random_noise,
    relative_error,
    sample,
)
from ip_models import WIDTH, make_file, write_file
from sdxl_models import make_sdxl_base
from stock_unet import SCALED_FP8, STOCK_UNET, load_stock_base
from test_coexistence import make_lora
from test_control import make_control
from test_ip_adapter import PROMPT
from test_ip_adapter import Setup as IpSetup
from test_ip_files import module_of
from test_ms_diffusion import PROMPT as GROUNDED_PROMPT
from test_ms_diffusion import Setup as GroundedSetup

FP8, FULL = torch.float8_e4m3fn, torch.float32
# as ComfyUI knows Stable Diffusion 2, and with as many cross-attention layers
SIXTEEN_LAYERS = {**STOCK_UNET, "layers_per_block": 7}


class Family:
    """One family on its own base, with two subjects."""

    def __init__(self, name: str, host: Host, folder: Path, nodes: Any) -> None:
        self.name, self.host, self.nodes = name, host, nodes
        is_ip = name == "IP-Adapter"
        self.setup: Any = IpSetup(host, folder) if is_ip else GroundedSetup(host, folder)
        texts = (PROMPT, "blurry") if is_ip else (GROUNDED_PROMPT, "")
        self.plain = [host.encode_text(self.setup.base.clip, text) for text in texts]
        self.hint = torch.rand(1, 128, 128, 3, generator=torch.Generator().manual_seed(8))

    def apply(self, **settings: Any) -> tuple[Any, list[Any]]:
        """MODEL, and positive and negative."""
        model, clip = self.setup.apply(**settings)
        return model, self.encode(clip)

    def encode(self, clip: Any) -> list[Any]:
        positive, _, negative = self.setup.encode(clip, *self.setup.subjects(2))
        return [positive, negative]

    def controlled(self, control: Any, texts: list[Any]) -> list[Any]:
        apply = self.nodes.ControlNetApplyAdvanced().apply_controlnet
        return list(apply(*texts, control, self.hint, 1.0, 0.0, 1.0))

    def run(self, model: Any, texts: list[Any]) -> torch.Tensor:
        return sample(cfg_guider(model, *texts, cfg=3.0), self.setup.noise, steps=2)


@pytest.fixture(scope="module", params=["IP-Adapter", "MS-Diffusion"])
def family(
    request: pytest.FixtureRequest,
    host: Host,
    comfy_nodes: Any,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Family]:
    with torch.inference_mode():
        yield Family(request.param, host, tmp_path_factory.mktemp("beside"), comfy_nodes)


def test_beside_a_controlnet(family: Family) -> None:
    """Both act, and at one latent the ControlNet says the same as without the adapter."""
    base = family.setup.base
    control = make_control(base, "controlnet")
    answers: list[list[torch.Tensor]] = []
    control.control_model.register_forward_hook(
        lambda _module, _args, answer: answers.append([t.clone() for t in answer["output"]])
    )
    controlled = family.controlled(control, family.plain)
    stock = family.run(base.model, controlled)
    alone, first = len(answers), answers[0]
    model, texts = family.apply()
    both = family.run(model, family.controlled(control, texts))
    assert all(torch.equal(*pair) for pair in zip(answers[alone], first, strict=True))
    assert relative_error(both, stock) > 1e-3
    assert relative_error(both, family.run(model, texts)) > 1e-3
    off, texts = family.apply(strength=0.0)
    assert torch.equal(family.run(off, family.controlled(control, texts)), stock)


def test_a_lora_before_or_after_is_the_same(family: Family) -> None:
    base = family.setup.base
    lora = make_lora(base.config["cross_attention_dim"])
    latents = []
    for first in ("lora", "adapter"):
        model, clip = base.model, base.clip
        if first == "lora":
            model, clip = comfy.sd.load_lora_for_models(model, clip, lora, 1.0, 0.0)
        apply = family.host.apply_node.apply_adapter
        model, clip = apply(model, clip, adapter_of(family))
        if first == "adapter":
            model, clip = comfy.sd.load_lora_for_models(model, clip, lora, 1.0, 0.0)
        latents.append(family.run(model, family.encode(clip)))
    assert relative_error(latents[0], latents[1]) < 1e-5
    assert relative_error(latents[0], family.run(*family.apply())) > 1e-3


def adapter_of(family: Family) -> Any:
    return family.host.family.applied_adapter(family.apply()[0]).loaded


def test_beside_pag(family: Family) -> None:
    """It adds a third prediction with its own self-attention in the middle block."""
    model, texts = family.apply()
    pag = comfy_extras.nodes_pag.PerturbedAttentionGuidance

    def patched(model: Any) -> Any:
        return pag.execute(model, 3.0)[0] if hasattr(pag, "execute") else pag().patch(model, 3.0)[0]

    both = family.run(patched(model), texts)
    assert relative_error(both, family.run(model, texts)) > 1e-3
    assert relative_error(both, family.run(patched(family.setup.base.model), family.plain)) > 1e-3


def test_beside_another_packs_image_adapter(family: Family) -> None:
    """It replaces the cross-attention of every block by text and a picture of its own, as packs for
    IP-Adapter do: its term and ours are both there, whichever came first."""
    base = family.setup.base
    model, texts = family.apply()
    generator = torch.Generator().manual_seed(4)
    tokens = torch.randn(1, 4, base.config["cross_attention_dim"], generator=generator)
    before = replaced(family, base.model, tokens)
    theirs = family.run(before, family.plain)
    assert relative_error(theirs, family.run(base.model, family.plain)) > 1e-3
    after = family.run(replaced(family, model, tokens), texts)
    model, clip = family.host.apply_node.apply_adapter(before, base.clip, adapter_of(family))
    assert relative_error(family.run(model, family.encode(clip)), after) < 1e-5
    assert relative_error(after, theirs) > 1e-3
    assert relative_error(after, family.run(*family.apply())) > 1e-3
    nothing = replaced(family, family.apply()[0], tokens[:, :0])
    assert relative_error(family.run(nothing, texts), family.run(*family.apply())) < 1e-5


def replaced(family: Family, model: Any, tokens: torch.Tensor) -> Any:
    """A clone whose blocks attend to the text and, in a term of its own, to `tokens` (1, T, C)."""

    def heads(states: torch.Tensor, count: int) -> torch.Tensor:
        return states.unflatten(-1, (count, -1)).transpose(1, 2)

    def attend(
        q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, options: dict[str, Any]
    ) -> torch.Tensor:
        count, attention = options["n_heads"], torch.nn.functional.scaled_dot_product_attention
        q, k, v = (heads(states, count) for states in (q, k, v))
        out = attention(q, k, v)
        if tokens.shape[1]:
            image = tokens[..., :1].expand(q.shape[0], -1, q.shape[1] * q.shape[3])
            out = out + attention(q, heads(image, count), heads(image, count))
        return out.transpose(1, 2).flatten(2)

    clone = model.clone()
    for block in family.host.unet_geometry.read_unet_geometry(model).blocks.values():
        clone.set_model_attn2_replace(attend, *block.location)
    return clone


def shown(host: Host, base: Base, adapter: Any) -> Any:
    """Two subjects as Encode would hand them over; no CLIP here is as wide as the base."""
    branches = module_of(host, "branches")
    generator = torch.Generator().manual_seed(6)
    subjects = tuple(
        branches.ShownSubject(
            embeds={"penultimate_embeds": torch.randn(1, 17, WIDTH, generator=generator)},
            box_xyxy=box,
            region=None,
            strength=1.0,
            label_embed=torch.randn(48, generator=generator),
        )
        for box in BOXES[:2]
    )
    value = branches.BranchImages(fingerprint=adapter.fingerprint, subjects=subjects)
    return host.conditioning(random_context(base), value)


def predictions(
    host: Host, base: Base, adapter: Any, pooled: torch.Tensor | None
) -> list[torch.Tensor]:
    """Without and with the adapter, whose share in a random model is small."""
    model, _ = host.apply_node.apply_adapter(base.model, base.clip, adapter, 3.0)
    texts = [host.conditioning(random_context(base), None), shown(host, base, adapter)]
    for text in texts:
        text[0][1]["pooled_output"] = pooled
    return [denoise_once(cfg_guider(model, text, text), random_noise(base), 500) for text in texts]


def require_as_near(whole: list[torch.Tensor], quantised: list[torch.Tensor]) -> None:
    """With the adapter as without it: no weight is read wrongly, and the adapter acts."""
    lost = relative_error(quantised[0], whole[0])
    assert 0 < lost < 0.15
    assert relative_error(quantised[1], whole[1]) < 2 * lost
    assert relative_error(whole[1], whole[0]) > 2 * lost


@pytest.mark.parametrize("kind", ["plus", "grounded"])
def test_weights_of_8_bits(host: Host, tmp_path: Path, kind: str) -> None:
    """As "Load Diffusion Model" stores them with weight_dtype fp8."""
    with torch.inference_mode():
        is_sdxl = kind == "grounded"
        bases = [
            make_sdxl_base(host, stored, cast) if is_sdxl else host.make_base("sd15", stored, cast)
            for stored, cast in ((FULL, None), (FP8, FULL))
        ]
        assert bases[1].model.model_dtype() == FP8
        path = write_file(tmp_path / "file.safetensors", make_file(kind, bases[0].unet))
        adapter = host.registry.load_adapter(path)
        pooled = torch.randn(1, 32, generator=torch.Generator().manual_seed(2))
        require_as_near(
            *(predictions(host, base, adapter, pooled if is_sdxl else None) for base in bases)
        )


def test_a_file_in_scaled_fp8(host: Host, tmp_path: Path) -> None:
    with torch.inference_mode():
        bases = [
            load_stock_base(host, tmp_path, quantised, SIXTEEN_LAYERS)
            for quantised in ("", SCALED_FP8)
        ]
        path = write_file(tmp_path / "file.safetensors", make_file("plus", bases[0].unet))
        adapter = host.registry.load_adapter(path)
        require_as_near(*(predictions(host, base, adapter, None) for base in bases))
