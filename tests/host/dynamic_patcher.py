"""What "dynamic VRAM" means for a pack, on any machine: ComfyUI's own class for it works on NVIDIA
cards only, and hands a MODEL on a CPU to the class without it."""

from __future__ import annotations

from typing import Any

import comfy.model_patcher
import pytest


class DynamicPatcher(comfy.model_patcher.ModelPatcher):
    """A ModelPatcher that says it is dynamic, and, as `ModelPatcherDynamic` does, refuses to switch
    weights in mid-run and makes a ModelPatcher of itself for those who ask."""

    non_dynamic_delegate_model: Any = None

    def is_dynamic(self) -> bool:
        return True

    def set_in_use_by_current_prompt(self, in_use: bool) -> None:
        """ComfyUI asks it of every dynamic MODEL of a prompt."""

    def patch_hook_weight_to_device(self, *args: Any, **kwargs: Any) -> None:
        raise RuntimeError("Hooks not implemented in ModelPatcherDynamic")

    def get_non_dynamic_delegate(self) -> Any:
        delegate = self.clone(disable_dynamic=True, model_override=self.non_dynamic_delegate_model)
        self.non_dynamic_delegate_model = delegate.get_clone_model_override()
        return delegate


def make_weights_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """As dynamic VRAM does: a layer's weights come into being when they are loaded."""
    monkeypatch.setattr("comfy.memory_management.aimdo_enabled", True)
    # what it clears lies on a GPU
    monkeypatch.setattr("comfy.model_management.reset_cast_buffers", lambda: None)


def is_known() -> bool:
    """Whether this ComfyUI has dynamic VRAM at all."""
    return hasattr(comfy.model_patcher, "ModelPatcherDynamic")
