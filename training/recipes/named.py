"""The recipes by name."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from .configuration import TrainingRecipe

FROM_SCRATCH = "tiny"
NO_POSITIONS: dict[str, Any] = {
    "patch_positions": False, "query_positions": False, "token_positions": False,
    "local_start": False,
}  # fmt: skip

# 34 GiB are counted (`recipes paper_sd2 --cost`).
PAPER_SD2 = TrainingRecipe(
    name="paper_sd2",
    summary="the paper's run: SD2-base, 24 GPUs of 80 GB, 300k steps",
    gradient_checkpointing=False,
)
# 13.5 GiB are counted.
ONE_GPU_SD2 = replace(
    PAPER_SD2,
    name="one_gpu_sd2",
    summary="SD2-base on one GPU of 24 GB: text encoder by LoRA, EMA on the CPU",
    num_processes=1,
    global_batch_size=16,
    micro_batch_size=4,
    steps=60_000,
    learning_rate=5e-5,
    text_encoder="lora",
    ema_device="cpu",
    ema_every=10,
    ema_decay=0.9995,
)
# 6.7 GiB are counted.
ONE_GPU_SD15 = replace(
    ONE_GPU_SD2,
    name="one_gpu_sd15",
    summary="SD1.5 on one GPU of 12 GB: as one_gpu_sd2, with gradient checkpointing",
    base_family="sd15",
    projector_hidden_dim=768,
    grounding_hidden_dim=768,
    gradient_checkpointing=True,
)
TINY_ADAPTER = TrainingRecipe(
    name="tiny_adapter",
    summary="your pictures on the small model of this repository (128 px), on a CPU",
    base_family="tiny",
    resolution=128,
    num_subjects=4,
    patch_positions=True,
    query_positions=True,
    token_positions=True,
    grounding_hidden_dim=512,
    projector_hidden_dim=384,
    token_table=False,
    steps=2000,
    warmup_steps=50,
    schedule="cosine",
    learning_rate=3e-4,
    weight_decay=0.01,
    global_batch_size=16,
    micro_batch_size=16,
    num_processes=1,
    ema_decay=0.99,
    precision="float32",
    gradient_checkpointing=False,
    flip=0.0,
    num_workers=0,
    checkpoint_every=100,
    log_every=10,
    sheet_every=200,
)
TINY_JOINT = replace(
    TINY_ADAPTER,
    name="tiny_joint",
    summary="first stage of `tiny`: base and adapter together, from nothing",
    train_base=True,
    token_table=True,
    initial_alpha_attn=1.0,
    initial_alpha_dense=0.5,
    local_start=True,
    adapter_heads="96:4x32 192:6x32",
    map_loss_below=1,
    inside_weight=3.0,
    base_only=0.10,
    unknown_label=0.10,
    same_view=0.6,
    few_slots=2,
    crowded_share=0.2,
    prediction_type="v_prediction",
    steps=4000,
    warmup_steps=200,
    learning_rate=8e-4,
    adam_beta2=0.98,
    global_batch_size=32,
    micro_batch_size=32,
    ema_decay=0.998,
    ema_every=4,
    checkpoint_every=250,
    keep_checkpoints=1,
    log_every=50,
    sheet_every=0,
    tensorboard=False,
    seed=1,
)
TINY_SECOND = replace(
    TINY_JOINT,
    name="tiny_second",
    summary="second stage of `tiny`: the adapter alone, on the stored base",
    train_base=False,
    token_table=False,
    base_only=0.0,
    steps=1200,
    warmup_steps=60,
    learning_rate=6e-4,
    seed=2,
)
TINY_IP_ADAPTER = replace(
    TINY_SECOND,
    name="tiny_ip_adapter",
    summary="IP-Adapter plus on the small model's base, in its makers' format",
    method="ip_adapter",
    grounding_hidden_dim=192,
    image_cls=False,
    location_control=False,
    conv_in=False,
    cross_attention_kv=False,
    text_encoder="frozen",
    map_loss="off",
    unknown_label=0.0,
    **NO_POSITIONS,
    steps=2000,
    warmup_steps=50,
    learning_rate=1e-3,
    global_batch_size=16,
    micro_batch_size=16,
    seed=3,
)
TINY_MS_DIFFUSION = replace(
    TINY_IP_ADAPTER,
    name="tiny_ms_diffusion",
    summary="MS-Diffusion on the small model's base, in its makers' format",
    method="ms_diffusion",
)
TEXT_TO_IMAGE_TINY = replace(
    TINY_JOINT,
    name="text_to_image_tiny",
    summary="a small base as a plain text-to-image model: no adapter, no subjects",
    adapter=False,
    image_cls=False,
    location_control=False,
    conv_in=True,
    map_loss="off",
    base_only=1.0,
    unknown_label=0.0,
    inside_weight=1.0,
    few_slots=0,
    **NO_POSITIONS,
    initial_alpha_attn=0.0,
    initial_alpha_dense=0.0,
)
TINY_TEXT = replace(
    TEXT_TO_IMAGE_TINY,
    name="tiny_text",
    summary="text stage of `tiny`: the base alone, on typical pictures, in steps of few",
    steps=10_000,
    warmup_steps=30,
    global_batch_size=8,
    micro_batch_size=8,
    ema_every=8,
)
TINY_TEXT_FINE = replace(
    TINY_TEXT,
    name="tiny_text_fine",
    summary="text stage of `tiny`, second training: timesteps towards pictures",
    timestep_shift=0.4,
    steps=5000,
    learning_rate=6e-4,
)
DEBUG_CPU = TrainingRecipe(
    name="debug_cpu",
    summary="a random model of SD2's classes at tiny width: the whole loop in seconds",
    random_base=True,
    resolution=64,
    grounding_hidden_dim=32,
    projector_hidden_dim=32,
    token_table=False,
    steps=40,
    warmup_steps=1,
    learning_rate=1e-3,
    global_batch_size=4,
    micro_batch_size=2,
    num_processes=1,
    ema_decay=0.9,
    precision="float32",
    gradient_checkpointing=False,
    num_workers=0,
    checkpoint_every=5,
    log_every=1,
    sheet_every=0,
    tensorboard=False,
)
RECIPES: dict[str, TrainingRecipe] = {
    recipe.name: recipe
    for recipe in (
        PAPER_SD2,
        ONE_GPU_SD2,
        ONE_GPU_SD15,
        TINY_ADAPTER,
        TINY_JOINT,
        TINY_SECOND,
        TINY_IP_ADAPTER,
        TINY_MS_DIFFUSION,
        TEXT_TO_IMAGE_TINY,
        TINY_TEXT,
        TINY_TEXT_FINE,
        DEBUG_CPU,
    )
}


def recipe_named(name: str) -> TrainingRecipe:
    """The recipe's configuration."""
    if name == FROM_SCRATCH:
        raise ValueError(
            "recipe: expected one for your own data, got tiny, which makes the small model from "
            "nothing. Run `python -m training tiny`, or choose tiny_adapter."
        )
    if name not in RECIPES:
        raise ValueError(
            f"recipe: expected one of {', '.join(RECIPES)}, got {name!r}. "
            "Run `python -m training recipes` for what they are."
        )
    return RECIPES[name]
