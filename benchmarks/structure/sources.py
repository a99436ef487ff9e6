"""Counts in the source text: names, circles of imports, files."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

ImportGraph = Mapping[str, set[str]]


def python_files(root: Path, folders: tuple[str, ...]) -> dict[str, Path]:
    """Module name -> file; a package's name stands for its __init__.py."""
    found = {}
    for folder in folders:
        for path in sorted((root / folder).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def lines_of(files: Mapping[str, Path]) -> int:
    """Lines of all files, as `wc -l` counts them."""
    return sum(path.read_bytes().count(b"\n") for path in files.values())


def import_graph(files: Mapping[str, Path]) -> dict[str, set[str]]:
    """Who imports whom, at any depth and also for type checking only.

    That a module's package is imported before it is left out.
    """
    return {
        module: {target for target in _imported(module, path, files) if target != module}
        for module, path in files.items()
    }


def _imported(module: str, path: Path, files: Mapping[str, Path]) -> Iterator[str]:
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in files)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{source}.{alias.name}"
                target = inner if inner in files else source
                if target in files:
                    yield target


def circles(graph: ImportGraph) -> list[list[str]]:
    """Groups of modules that all reach each other (strongly connected components, two or more).

    >>> circles({"a": {"b"}, "b": {"a"}, "c": {"a"}})
    [['a', 'b']]
    """
    reached = {module: _reached_from(module, graph) for module in graph}
    groups = {
        frozenset(other for other in reached[module] if module in reached[other])
        for module in graph
        if module in reached[module]
    }
    return sorted(sorted(group) for group in groups)


def _reached_from(start: str, graph: ImportGraph) -> set[str]:
    """All modules that a chain of one import or more leads to."""
    found: set[str] = set()
    waiting = list(graph[start])
    while waiting:
        module = waiting.pop()
        if module not in found:
            found.add(module)
            waiting += graph[module]
    return found


def files_with_word(files: Mapping[str, Path], word: str) -> list[str]:
    """The modules in whose text the word stands."""
    pattern = re.compile(rf"\b{word}\b")
    return [name for name, path in files.items() if pattern.search(path.read_text("utf-8"))]


def declarations(files: Mapping[str, Path], name: str) -> tuple[list[str], list[str]]:
    """Where a name is a field of a class, and where it is a parameter of a function."""
    fields, parameters = [], []
    for module, path in files.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                fields += [f"{module}.{node.name}" for item in node.body if _is_field(item, name)]
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                if any(argument.arg == name for argument in arguments):
                    parameters.append(f"{module}.{node.name}")
    return fields, parameters


def _is_field(statement: ast.stmt, name: str) -> bool:
    target = statement.target if isinstance(statement, ast.AnnAssign) else None
    return isinstance(target, ast.Name) and target.id == name


def files_per_folder(root: Path, folder: str) -> Counter[str]:
    """Python files directly in each folder, without __init__.py."""
    paths = (path for path in (root / folder).rglob("*.py") if path.name != "__init__.py")
    return Counter(str(path.parent.relative_to(root)) for path in sorted(paths))


def node_files(files: Mapping[str, Path]) -> list[str]:
    """Modules with a class of a node: one that defines a schema."""
    return [
        module
        for module, path in files.items()
        if any(
            isinstance(node, ast.FunctionDef) and node.name == "define_schema"
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        )
    ]
