"""Where the small model is computed, and in which numbers."""

from __future__ import annotations

import torch


def training_device() -> torch.device:
    """Where the stages train: a CUDA device if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def fastest_precision(device: torch.device) -> str:
    """bf16 where the hardware computes in it; elsewhere it is emulated, several times slower."""
    has_bf16 = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return "bfloat16" if device.type != "cpu" or has_bf16() else "float32"


def fastest_autocast(device: torch.device) -> torch.autocast:
    """Autocast to bf16 where that is the fastest, else none."""
    low = fastest_precision(device) == "bfloat16"
    return torch.autocast(device.type, torch.bfloat16, enabled=low)
