"""Who may import whom: nodes -> core <- training, the rooms inside nodes, and no circles."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from import_graph import (
    ROOT,
    absolute_packages,
    circles,
    import_graph,
    imported_files,
    imports,
    reached,
    sources,
)

CORE, NODES, TRAINING = "subject_diffusion_core", "nodes", "training"
COMFY = {"comfy", "comfy_api", "comfy_extras", "comfy_execution", "folder_paths", "server"}
CORE_MAY_IMPORT = {"kornia", "torch", "safetensors"} | set(sys.stdlib_module_names)
SAFETENSORS_FILES = {"safetensors_file.py"}

# Rooms of nodes, and the other rooms that each may import; core is open to all of them. What is
# one method's own is a room, too, also below adapters; no method imports another.
SHARED = {"subjects", "adapters", "host"}
ROOMS: dict[str, set[str]] = {
    "subjects": {"host"},
    "host": set(),
    "adapters": {"subjects", "host"},
    "adapters/subject_diffusion": SHARED,
    "adapters/ip_attention": SHARED,
    "attention_maps": SHARED,
    "dreamtuner": SHARED,
    "hifi_tuner": SHARED,
    "segmentation": SHARED,
    "tiny": SHARED,
}
# Rooms of training: each may import those before it, and nothing after it.
TRAINING_ROOMS = (
    "recipes", "networks", "bases", "dataset", "curation", "methods", "loop", "toy", "evaluation",
    "commands",
)  # fmt: skip
# Finds a method by its name or keys: the one file of adapters that may import the methods below it.
REGISTRY = "nodes/adapters/registry.py"
# The same of training.
TRAINING_REGISTRY = "training/methods/registry.py"


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def room_of(path: Path) -> str | None:
    """The folder in nodes that a file stands in; None right in nodes, where everything meets."""
    folder = path.parent.relative_to(ROOT / NODES).as_posix()
    return None if folder == "." else folder


def depth_in(path: Path, part: str) -> int:
    """Dots of a relative import that lead to the part itself."""
    return len(path.relative_to(ROOT / part).parts)


def deepest_relative_import(path: Path) -> int:
    return max((level for level, _ in imports(path)), default=0)


def parts_reached(path: Path, part: str) -> set[str]:
    """Which of our parts a file imports, absolutely or relatively."""
    depth = depth_in(path, part)
    found = absolute_packages(path) & {CORE, NODES, TRAINING}
    return found | {module.split(".")[0] for level, module in imports(path) if level > depth}


@pytest.mark.parametrize("path", sources(CORE), ids=name_of)
def test_core_imports_torch_and_itself_only(path: Path) -> None:
    assert absolute_packages(path) <= CORE_MAY_IMPORT
    assert parts_reached(path, CORE) <= {CORE}
    assert deepest_relative_import(path) <= depth_in(path, CORE), "core reaches outside of itself"
    if path.name not in SAFETENSORS_FILES:
        assert "safetensors" not in absolute_packages(path)


@pytest.mark.parametrize("path", sources(NODES), ids=name_of)
def test_nodes_import_core_only(path: Path) -> None:
    assert parts_reached(path, NODES) <= {CORE}
    assert not absolute_packages(path) & {CORE, "diffusers"}, (
        "import core as ..subject_diffusion_core"
    )


@pytest.mark.parametrize("path", sources(TRAINING), ids=name_of)
def test_training_imports_core_and_never_nodes_or_comfy(path: Path) -> None:
    assert parts_reached(path, TRAINING) <= {CORE, TRAINING}
    assert not absolute_packages(path) & COMFY


def imports_against_the_table() -> set[tuple[str, str]]:
    """(file, room) of every import of one room by another that may not."""
    found = set()
    for path in sources(NODES):
        room = room_of(path)
        if room is None:
            continue
        for other in imported_files(path):
            if not other.is_relative_to(ROOT / NODES):
                continue
            target = room_of(other) or "nodes"
            registered = name_of(path) == REGISTRY and target.startswith("adapters/")
            if target != room and target not in ROOMS[room] and not registered:
                found.add((name_of(path), target))
    return found


def test_rooms_import_what_the_table_says() -> None:
    assert {room_of(path) for path in sources(NODES)} - {None} == set(ROOMS)
    assert sorted(imports_against_the_table()) == [], "not allowed by the table"


def training_room(path: Path) -> str | None:
    """The room of training that a file stands in; None right in training."""
    parts = path.relative_to(ROOT / TRAINING).parts
    return parts[0] if len(parts) > 1 else None


def test_rooms_of_training_import_those_before_them_only() -> None:
    paths = sources(TRAINING)
    assert {training_room(path) for path in paths} - {None} == set(TRAINING_ROOMS)
    found = {
        (name_of(path), room)
        for path in paths
        for other in imported_files(path)
        if other.is_relative_to(ROOT / TRAINING)
        and (room := training_room(other)) is not None
        and (own := training_room(path)) is not None
        and TRAINING_ROOMS.index(room) > TRAINING_ROOMS.index(own)
    }
    assert sorted(found) == []


def test_a_method_s_training_imports_no_other_method() -> None:
    methods = ROOT / TRAINING / "methods"
    for path in sources(f"{TRAINING}/methods"):
        if name_of(path) == TRAINING_REGISTRY:
            continue
        own = path.relative_to(methods).parts[0]
        for other in imported_files(path):
            if other.is_relative_to(methods) and other.parent != methods:
                assert other.relative_to(methods).parts[0] == own, name_of(path)


def test_node_classes_stand_in_node_files() -> None:
    """Every `*_node.py` has a class of a node, and no other file has one."""
    with_classes = {path for path in sources(NODES) if has_node_class(path)}
    assert with_classes == {path for path in sources(NODES) if path.name.endswith("_node.py")}


def has_node_class(path: Path) -> bool:
    classes = [
        node
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
    ]
    return any(ast.unparse(base).endswith("ComfyNode") for each in classes for base in each.bases)


def test_what_needs_no_comfyui_imports_none() -> None:
    """The machinery of subjects, and whatever `tests/nodes` tests: nor what they import."""
    graph = import_graph(sources(NODES))
    machinery = {
        path for path in sources("nodes/subjects") if not path.name.endswith("_node.py")
    } | machinery_under_test()
    assert len(machinery) > 10
    found = {
        (name_of(path), name_of(other))
        for path in machinery
        for other in reached(graph, path)
        if absolute_packages(other) & COMFY
    }
    assert sorted(found) == []


def machinery_under_test() -> set[Path]:
    """The files of nodes that `tests/nodes` imports."""
    prefix = "subject_diffusion_pack.nodes."
    modules = {
        module.removeprefix("subject_diffusion_pack.")
        for path in sources("tests/nodes")
        for _, module in imports(path)
        if module.startswith(prefix)
    }
    places = {ROOT.joinpath(*module.split(".")) for module in modules}
    return {file for file in map(lambda place: place.with_suffix(".py"), places) if file.is_file()}


@pytest.mark.parametrize("part", [NODES, CORE, TRAINING])
def test_there_are_no_circles_of_imports(part: str) -> None:
    found = circles(import_graph(sources(part)))
    assert [[name_of(path) for path in group] for group in found] == []


def test_a_circle_is_found(tmp_path: Path) -> None:
    package = tmp_path / "package"
    package.mkdir()
    texts = {
        "__init__": "",
        "first": "from .second import thing",
        "second": "def thing():\n    from . import third",
        "third": "import package.first",
        "fourth": "from .first import thing",
    }
    for name, text in texts.items():
        (package / f"{name}.py").write_text(text)
    (group,) = circles(import_graph(sorted(package.glob("*.py")), tmp_path))
    assert [path.stem for path in group] == ["first", "second", "third"]


def test_root_imports_nothing_before_comfy_entrypoint() -> None:
    tree = ast.parse((ROOT / "__init__.py").read_text(encoding="utf-8"))
    modules = [
        node.names[0].name if isinstance(node, ast.Import) else node.module
        for node in tree.body
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    assert set(modules) <= {"__future__"} | set(sys.stdlib_module_names)


def test_importing_all_of_core_loads_neither_torchvision_nor_transformers() -> None:
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
