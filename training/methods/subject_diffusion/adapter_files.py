"""What all writers of adapter files share: names, and how a file says that a part is off."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from subject_diffusion_core.files.adapter_config import AdapterBlock

from .model import SubjectDiffusionModel

TOKEN_TABLE = "text_model.embeddings.token_embedding.weight"


def with_text_prefix(name: str) -> str:
    """transformers' parameter name with the ``text_model.`` that newer versions leave out."""
    return name if name.startswith("text_model.") else f"text_model.{name}"


def adapter_blocks(model: SubjectDiffusionModel) -> tuple[AdapterBlock, ...]:
    """Every transformer block with an adapter, in forward order."""
    order = {"down_blocks": 0, "mid_block": 1, "up_blocks": 2}
    names = [name for name, module in model.unet.named_modules() if hasattr(module, "fuser")]
    names.sort(key=lambda name: order[name.split(".")[0]])
    modules = dict(model.unet.named_modules())
    return tuple(
        AdapterBlock(
            name=name,
            query_dim=modules[name].fuser.query_dim,
            num_heads=modules[name].fuser.attn.num_heads,
            head_dim=modules[name].fuser.attn.head_dim,
        )
        for name in names
    )


def is_adapter_tensor(name: str) -> bool:
    """Whether a UNet parameter belongs into the adapter's file."""
    cross_attention = name.endswith(("attn2.to_k.weight", "attn2.to_v.weight"))
    return ".fuser." in name or cross_attention or name.startswith("conv_in.")


def closed_gates(unet: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The UNet's part with all gates at 0: how a file says "without the adapter layer"."""
    return {
        name: torch.zeros_like(tensor) if ".fuser.alpha_" in name else tensor
        for name, tensor in unet.items()
    }


def constant_projector(mlp: Mapping[str, Tensor], embedding: Tensor) -> dict[str, Tensor]:
    """A projector that gives ``embedding`` whatever the picture: how a file says "without CLS".

    The last layer's weight is zero and its bias the placeholder's own embedding, so a host that
    replaces the placeholder puts back what stood there.
    """
    constant = {name: tensor.clone() for name, tensor in mlp.items()}
    constant["fc2.weight"] = torch.zeros_like(constant["fc2.weight"])
    constant["fc2.bias"] = embedding.to(constant["fc2.bias"])
    return constant
