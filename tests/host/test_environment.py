"""The test process really is ComfyUI's, and the pack does not shadow it."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType


def test_nodes_is_comfyuis(comfy_nodes: ModuleType, comfyui_folder: Path) -> None:
    assert Path(str(comfy_nodes.__file__)).resolve() == comfyui_folder / "nodes.py"
    assert "SamplerCustomAdvanced" in comfy_nodes.NODE_CLASS_MAPPINGS


def test_models_run_on_the_cpu() -> None:
    import comfy.model_management

    assert comfy.model_management.get_torch_device().type == "cpu"


def test_files_stay_in_the_temporary_base(base_folder: Path) -> None:
    import folder_paths

    assert Path(folder_paths.models_dir) == base_folder / "models"
    assert Path(folder_paths.get_output_directory()) == base_folder / "output"
