"""The tiny recipe at a fraction of its width, with real classes, for tests."""

from __future__ import annotations

from dataclasses import replace

from training.toy.recipe import TinyRecipe


def small_recipe(**stage: object) -> TinyRecipe:
    """The tiny recipe at a fraction of its width; ``stage`` changes both stages."""
    recipe = TinyRecipe()
    unet = {**recipe.unet, "block_out_channels": [32, 64], "attention_head_dim": [2, 4]}
    unet["cross_attention_dim"] = 32
    text = {**recipe.text_encoder, "hidden_size": 32, "intermediate_size": 64}
    text |= {"num_hidden_layers": 1, "num_attention_heads": 2}
    settings = {
        "num_subjects": 2, "grounding_hidden_dim": 32, "projector_hidden_dim": 32,
        "adapter_heads": "32:4x32 64:6x32", "global_batch_size": 4, "micro_batch_size": 4,
        "steps": 4, "warmup_steps": 2, "checkpoint_every": 2, "log_every": 2, **stage,
    }  # fmt: skip
    joint = replace(recipe.joint, **settings)  # type: ignore[arg-type]
    second = {**settings, "base_only": 0.0}
    adapter = replace(recipe.adapter, **second)  # type: ignore[arg-type]
    return replace(recipe, unet=unet, text_encoder=text, joint=joint, adapter=adapter)
