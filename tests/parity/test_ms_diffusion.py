"""Resampler and attention against the public modules of MS-Diffusion, by what they gave."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from subject_diffusion_core.ip_attention import (
    GroundingResampler,
    box_cells,
    joint_image_attention,
)

VALUES = load_file(Path(__file__).with_name("ms_diffusion_modules.safetensors"))
HEADS, SIDE = 4, 8


def part(prefix: str) -> dict[str, torch.Tensor]:
    return {k.removeprefix(prefix): v for k, v in VALUES.items() if k.startswith(prefix)}


@pytest.fixture(scope="module")
def resampler() -> GroundingResampler:
    made = GroundingResampler(32, 2, 8, HEADS, 4, embed_dim=24, output_dim=40, label_dim=20)
    made.load_state_dict(part("image_proj."))
    return made.eval().requires_grad_(False)


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("dropped", [0, 1])
def test_grounding_resampler(resampler: GroundingResampler, count: int, dropped: int) -> None:
    given = part(f"resampler.{count}.")
    tokens = resampler(given["image"], given["boxes"], given["phrase"], grounded=not dropped)
    assert torch.allclose(tokens, given[f"drop{dropped}.out"], atol=1e-5, rtol=0)


def heads(states: torch.Tensor) -> torch.Tensor:
    return states.unflatten(-1, (HEADS, -1)).transpose(1, 2)


def merged(states: torch.Tensor) -> torch.Tensor:
    return states.transpose(1, 2).flatten(2)


def layer_output(
    hidden: torch.Tensor, text: torch.Tensor, image: torch.Tensor | float
) -> torch.Tensor:
    query = heads(F.linear(hidden, VALUES["attn.to_q.weight"]))
    key, value = (heads(F.linear(text, VALUES[f"attn.to_{name}.weight"])) for name in "kv")
    attended = F.scaled_dot_product_attention(query, key, value) + image
    return F.linear(merged(attended), VALUES["attn.to_out.0.weight"], VALUES["attn.to_out.0.bias"])


@pytest.mark.parametrize("case", ["one", "two", "overlap", "none"])
@pytest.mark.parametrize("scale", ["0.6", "1.0", "0.6.subjects"])
def test_joint_attention(case: str, scale: str) -> None:
    given = part(f"attention.{case}.")
    boxes, tokens = given["boxes"], given["tokens"]
    wanted = given[f"scale{scale}.out"]
    count = len(boxes)
    per_subject = scale.endswith("subjects")
    scales = torch.tensor([0.3, 0.9][:count]) if per_subject else torch.full((count,), float(scale))
    image = joint_image_attention(
        heads(F.linear(given["hidden"], VALUES["attn.to_q.weight"])),
        heads(F.linear(tokens, VALUES["ip.to_k_ip.weight"])),
        heads(F.linear(tokens, VALUES["ip.to_v_ip.weight"])),
        box_cells(boxes, SIDE, SIDE),
        scales,
    )
    positive = layer_output(given["hidden"], given["text"], image)
    negative = layer_output(given["hidden"], given["negative"], 0.0)
    assert torch.allclose(torch.cat((negative, positive)), wanted, atol=1e-5, rtol=0)
