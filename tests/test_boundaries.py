"""Who may import whom: nodes -> core <- training, and nothing else."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CORE, NODES, TRAINING = "subject_diffusion_core", "nodes", "training"
COMFY = {"comfy", "comfy_api", "comfy_extras", "comfy_execution", "folder_paths", "server"}
CORE_MAY_IMPORT = {"kornia", "torch", "safetensors"} | set(sys.stdlib_module_names)
SAFETENSORS_FILES = {"safetensors_file.py"}


def sources(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """(level, module) of every import, at any depth; level 0 is absolute."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.level, node.module or ""


def absolute_packages(path: Path) -> set[str]:
    return {module.split(".")[0] for level, module in imports(path) if level == 0}


def depth_in(path: Path, part: str) -> int:
    """Dots of a relative import that lead to the part itself."""
    return len(path.relative_to(ROOT / part).parts)


def deepest_relative_import(path: Path) -> int:
    return max((level for level, _ in imports(path)), default=0)


def parts_reached(path: Path, part: str) -> set[str]:
    """Which of our parts a file imports, absolutely or relatively."""
    depth = depth_in(path, part)
    reached = absolute_packages(path) & {CORE, NODES, TRAINING}
    relative = {module.split(".")[0] for level, module in imports(path) if level > depth}
    return reached | relative


@pytest.mark.parametrize("path", sources(CORE), ids=lambda path: path.name)
def test_core_imports_torch_and_itself_only(path):
    assert absolute_packages(path) <= CORE_MAY_IMPORT
    assert parts_reached(path, CORE) <= {CORE}
    assert deepest_relative_import(path) <= depth_in(path, CORE), "core reaches outside of itself"
    if path.name not in SAFETENSORS_FILES:
        assert "safetensors" not in absolute_packages(path)


@pytest.mark.parametrize("path", sources(NODES), ids=lambda path: path.name)
def test_nodes_import_core_only(path):
    assert parts_reached(path, NODES) <= {CORE}
    assert not absolute_packages(path) & {CORE, "diffusers"}, (
        "import core as ..subject_diffusion_core"
    )


@pytest.mark.parametrize("path", sources(TRAINING), ids=lambda path: path.name)
def test_training_imports_core_and_never_nodes_or_comfy(path):
    assert parts_reached(path, TRAINING) <= {CORE, TRAINING}
    assert not absolute_packages(path) & COMFY


def test_root_imports_nothing_before_comfy_entrypoint():
    path = ROOT / "__init__.py"
    if not path.exists():
        pytest.skip("the pack's entry point is not there yet")
    tree = ast.parse(path.read_text(encoding="utf-8"))
    modules = [
        node.names[0].name if isinstance(node, ast.Import) else node.module
        for node in tree.body
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    assert set(modules) <= {"__future__"} | set(sys.stdlib_module_names)


def test_importing_all_of_core_loads_neither_torchvision_nor_transformers():
    program = (
        "import importlib, pkgutil, sys, subject_diffusion_core as core\n"
        "for module in pkgutil.walk_packages(core.__path__, 'subject_diffusion_core.'):\n"
        "    importlib.import_module(module.name)\n"
        "heavy = {'torchvision', 'transformers', 'diffusers', 'comfy', 'kornia', 'PIL'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    found = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"
