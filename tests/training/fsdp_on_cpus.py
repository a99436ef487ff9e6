"""``python -m training`` with accelerate's FSDP version 2 on CPUs.

accelerate reads FSDP's settings only where there are accelerators; its code for FSDP, and torch's,
run on CPUs as well. This chooses them before the command starts.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from accelerate import Accelerator
from accelerate.state import PartialState
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin

from training.__main__ import main

WRAPPED = ["BasicTransformerBlock", "CLIPEncoderLayer"]


def choose_fsdp() -> None:
    """Make FSDP the kind of this process's group, as `accelerate config` does for GPUs."""
    state = Accelerator(cpu=True).state
    PartialState._shared_state["distributed_type"] = DistributedType.FSDP
    state.fsdp_plugin = FullyShardedDataParallelPlugin(
        fsdp_version=2,
        auto_wrap_policy="transformer_based_wrap",
        transformer_cls_names_to_wrap=WRAPPED,
    )


if __name__ == "__main__":
    choose_fsdp()
    main(sys.argv[1:])
