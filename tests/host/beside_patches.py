"""MODEL patches of other nodes, for docs/compatibility's table: ComfyUI's own, and the two kinds of
patches that packs put into attention."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from beside_setup import Setup
from comfy.ldm.modules.attention import attention_split, optimized_attention

Patch = Callable[[Setup, Any], Any]


def stock(name: str, **inputs: Any) -> Patch:
    """A node of ComfyUI that takes MODEL and gives MODEL."""
    return lambda setup, model: setup.call(name, model=model, **inputs)


def perp_neg(setup: Setup, model: Any) -> Any:
    empty = setup.stock.branches[2]
    return setup.call("PerpNeg", model=model, empty_conditioning=empty, neg_scale=1.0)


def ip_adapter_like(setup: Setup, model: Any) -> Any:
    """Replaces a cross-attention, with keys that it picks by `cond_or_uncond`: 0 and 1 only."""
    seeds = torch.Generator().manual_seed(5)
    tokens = [0.5 * torch.randn(1, 4, 192, generator=seeds) for _ in range(2)]

    def replaced(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, extra_options: Any) -> Any:
        heads, chosen = extra_options["n_heads"], extra_options["cond_or_uncond"]
        each = q.shape[0] // len(chosen)
        image = torch.cat([(tokens[0], tokens[1])[i].expand(each, -1, -1) for i in chosen])
        return optimized_attention(q, k, v, heads) + optimized_attention(q, image, image, heads)

    model = model.clone()
    model.set_model_attn2_replace(replaced, "middle", 0, 0)
    return model


def nag_like(setup: Setup, model: Any) -> Any:
    """Extrapolates the positive's attention away from the negative's: needs both in one call."""

    def behind(out: torch.Tensor, extra_options: Any) -> torch.Tensor:
        chosen = extra_options["cond_or_uncond"]
        if 0 not in chosen or 1 not in chosen:
            return out
        parts = list(out.chunk(len(chosen)))
        positive, negative = chosen.index(0), chosen.index(1)
        parts[positive] = 1.5 * parts[positive] - 0.5 * parts[negative]
        return torch.cat(parts)

    model = model.clone()
    model.set_model_attn2_output_patch(behind)
    return model


def merged(setup: Setup, model: Any) -> Any:
    """With a model of other weights, behind Apply."""
    name = "diffusion_model.out.2.weight"
    weight = setup.model.model_state_dict()[name]
    change = 0.05 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(6))
    second = setup.model.clone()
    second.add_patches({name: ("diff", (change,))})
    return setup.call("ModelMergeSimple", model1=model, model2=second, ratio=0.5)


def overridden(setup: Setup, model: Any) -> Any:
    """As nodes that choose an attention function put it on a MODEL; here the split one."""
    model = model.clone()
    options = model.model_options["transformer_options"]
    options["optimized_attention_override"] = lambda function, *args, **kwargs: attention_split(
        *args, **kwargs
    )
    return model


PATCHES: dict[str, Patch] = {
    "IP-Adapter-like patches": ip_adapter_like,
    "NAG-like patches": nag_like,
    "Perturbed-Attention Guidance": stock("PerturbedAttentionGuidance", scale=2.0),
    "Self-Attention Guidance": stock("SelfAttentionGuidance", scale=0.5, blur_sigma=2.0),
    "Perp-Neg": perp_neg,
    "RescaleCFG": stock("RescaleCFG", multiplier=0.7),
    "APG": stock("APG", eta=0.5, norm_threshold=5.0, momentum=0.0),
    "TCFG": stock("TCFG"),
    "FreeU": stock("FreeU", b1=1.3, b2=1.4, s1=0.9, s2=0.2),
    "ToMe": stock("TomePatchModel", ratio=0.3),
    "HyperTile": stock("HyperTile", tile_size=64, swap_size=1, max_depth=0, scale_depth=False),
    "Deep Shrink": stock(
        "PatchModelAddDownscale",
        block_number=3,
        downscale_factor=2.0,
        start_percent=0.0,
        end_percent=1.0,
        downscale_after_skip=True,
        downscale_method="bicubic",
        upscale_method="bicubic",
    ),
    "EasyCache": stock(
        "EasyCache", reuse_threshold=3.0, start_percent=0.0, end_percent=1.0, verbose=False
    ),
    "LazyCache": stock(
        "LazyCache", reuse_threshold=3.0, start_percent=0.0, end_percent=1.0, verbose=False
    ),
    "Model merges": merged,
    "Attention override": overridden,
}
# Changes that only rounding shows: what is computed is meant to be the same.
SAME_RESULT = {"Attention override"}
