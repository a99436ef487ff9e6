"""Rows A, versions and kinds of ComfyUI, and rows B, other nodes and packs."""

from __future__ import annotations

from .rows import Row

_GUIDER = "tests/host/test_guider.py"
_FLOWS = "tests/host/test_beside_flows.py"
_PATCH = "tests/host/test_beside_patches.py::test_the_patch_and_the_subject_act"

HOSTS = (
    Row(
        name="A1",
        what="Apply's start and end under dynamic VRAM",
        tests=("tests/host/test_dynamic_vram.py",),
    ),
    Row(
        name="A2",
        what="quantised checkpoints: scaled fp8, and int8 and nvfp4 where the host has them",
        tests=("tests/host/test_quantised.py",),
    ),
    Row(
        name="A3",
        what="latents of 64 and 128 channels mean other TAESDs",
        tests=("tests/host/test_tiny_model.py::test_autoencoder_of_any_number_of_channels",),
    ),
    Row(
        name="A4",
        what="--gpu-only: raw parameters and thumbnails on the wrong device",
        tests=("tests/host/test_gpu_only.py",),
    ),
    Row(
        name="A5",
        what="Load Image decodes animations as many pictures",
        tests=("tests/host/test_views.py::test_an_animation_counts_with_its_first_views",),
    ),
    Row(
        name="A6",
        what="Manager 4 and the registry: install lines, and a name without ComfyUI in it",
        tests=("tests/test_install_lines.py",),
    ),
)

BESIDE_OTHERS = (
    Row(
        name="B1",
        what="a patch that reads cond_or_uncond, with our Guider",
        tests=(f"{_GUIDER}::test_patches_know_which_branch_they_see", f"{_PATCH}[IP-Adapter-like]"),
    ),
    Row(name="B2", what="Normalized Attention Guidance", tests=(f"{_PATCH}[NAG-like]",)),
    Row(
        name="B3",
        what="nodes that change predictions before guidance",
        tests=(
            f"{_GUIDER}::test_functions_before_guidance_take_part",
            f"{_PATCH}[APG]",
            f"{_PATCH}[TCFG]",
        ),
    ),
    Row(
        name="B4",
        what="nodes behind guidance at scales 1 and 1",
        tests=(f"{_GUIDER}::test_functions_after_guidance_act_on_the_positive_alone",),
    ),
    Row(
        name="B5",
        what="a zeroed positive as the negative",
        tests=(f"{_FLOWS}::test_a_zeroed_positive_is_a_negative_without_subjects",),
    ),
    Row(
        name="B6",
        what="a sampler on a MODEL without the adapter",
        outcome="sentence",
        tests=(f"{_FLOWS}::test_the_loaders_model", f"{_FLOWS}::test_two_stages"),
    ),
    Row(
        name="B7",
        what="Conditioning Average",
        outcome="sentence",
        tests=(f"{_FLOWS}::test_a_mixed_text_has_a_sentence",),
    ),
    Row(
        name="B8",
        what="wrappers that split or repeat the batch",
        tests=(
            f"{_FLOWS}::test_wrappers_that_split_or_repeat_the_batch",
            f"{_FLOWS}::test_wrappers_that_split_a_part_of_the_call",
        ),
    ),
    Row(
        name="B9",
        what="tiled upscalers, detailers, tiles inside of a call; windows have their frames",
        outcome="sentence",
        tests=(
            f"{_FLOWS}::test_tiles_one_after_the_other",
            f"{_FLOWS}::test_tiles_inside_of_a_call",
            f"{_FLOWS}::test_windows_over_the_picture",
            f"{_FLOWS}::test_windows_over_the_batch",
        ),
    ),
    Row(
        name="B10",
        what="branches of zero weight, or outside of Apply's range; no guidance interval",
        tests=(
            f"{_GUIDER}::test_branches_without_weight_are_not_computed",
            f"{_GUIDER}::test_one_prediction_for_branches_that_say_the_same",
            f"{_GUIDER}::test_guidance_has_a_start_and_an_end",
        ),
    ),
    Row(
        name="B11",
        what="the attention that the user chose",
        tests=("tests/host/test_chosen_attention.py", f"{_PATCH}[Attention override]"),
    ),
    Row(
        name="B12",
        what="EasyCache, and conditionings that join in mid-run",
        outcome="sentence",
        tests=("tests/host/test_beside_step_caches.py",),
    ),
)
