"""Who imports whom, read from the sources: absolute and relative imports, at any depth."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
Graph = Mapping[Path, set[Path]]


def sources(folder: str) -> list[Path]:
    """All Python files below a folder of the repository."""
    return sorted((ROOT / folder).rglob("*.py"))


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """(level, module) of every import, at any depth; level 0 is absolute."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.level, node.module or ""


def absolute_packages(path: Path) -> set[str]:
    """First names of what a file imports absolutely."""
    return {module.split(".")[0] for level, module in imports(path) if level == 0}


def imported_files(path: Path, root: Path = ROOT) -> set[Path]:
    """The files of the repository that a file imports, a package as its `__init__.py`."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {_file_of(root, alias.name) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            start = path.parents[node.level - 1] if node.level else root
            for alias in node.names:
                inside = ".".join(part for part in (node.module, alias.name) if part)
                found.add(_file_of(start, inside) or _file_of(start, node.module or ""))
    return {file for file in found if file is not None}


def _file_of(start: Path, module: str) -> Path | None:
    """The file of a module, its name counted from a folder."""
    place = start.joinpath(*module.split(".")) if module else start
    for file in (place.with_suffix(".py"), place / "__init__.py"):
        if file.is_file():
            return file
    return None


def import_graph(files: list[Path], root: Path = ROOT) -> dict[Path, set[Path]]:
    """Each file -> those among the files that it imports."""
    return {path: imported_files(path, root) & set(files) for path in files}


def reached(graph: Graph, start: Path) -> set[Path]:
    """The file itself and all that it imports, directly or through others."""
    found: set[Path] = set()
    ahead = [start]
    while ahead:
        path = ahead.pop()
        if path not in found:
            found.add(path)
            ahead += graph[path]
    return found


def circles(graph: Graph) -> list[list[Path]]:
    """Groups of files that import each other, directly or through others."""
    behind = {path: reached(graph, path) for path in graph}
    groups = {frozenset(other for other in behind[path] if path in behind[other]) for path in graph}
    alone = {path for path in graph if path in graph[path]}
    return [sorted(group) for group in groups if len(group) > 1 or group & alone]
