"""Names and shapes shared by everything that writes adapter files from trained modules."""

from __future__ import annotations

from subject_diffusion_core.adapter_config import AdapterBlock

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
