"""Each extra declares what its purpose imports, and nothing else.

`python -m devtools.extras` installs them, one by one; this reads the sources instead.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from import_graph import ROOT, import_graph, reached, sources

from devtools.environment import read_extras
from devtools.extras import LATER, NOT_ALONE, PURPOSES, main

OWN = {"benchmarks", "training", "subject_diffusion_core"}
BROUGHT = {"segment-anything": {"torchvision"}}  # imports it, and does not ask for it


def plain(name: str) -> str:
    """A distribution's name as all indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def declared(extra: str) -> set[str]:
    """The distributions of an extra."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    return {plain(re.split(r"[\[<>=~! ]", line)[0]) for line in read_extras(text, [extra])}


def optional_nodes(tree: ast.Module) -> set[ast.AST]:
    """What stands in a `try` that goes on without the package."""
    guarded = [
        node for node in ast.walk(tree)
        if isinstance(node, ast.Try)
        and any(isinstance(h.type, ast.Name) and h.type.id == "ImportError" for h in node.handlers)
    ]  # fmt: skip
    return {inner for node in guarded for part in node.body for inner in ast.walk(part)}


def needed(path: Path) -> set[str]:
    """First names of the packages that a file imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    optional = optional_nodes(tree)
    found = set()
    for node in ast.walk(tree):
        if node in optional:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.split(".")[0])
    return found - OWN - set(sys.stdlib_module_names)


def texts(path: Path) -> set[str]:
    """All texts of a file: packages that are found by name, not imported."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.value for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str)}  # fmt: skip


def files_of(extra: str) -> set[Path]:
    """What the extra's purpose imports of the repository."""
    files = [path for part in sorted(OWN) for path in sources(part)]
    graph = import_graph(files)
    starts = [ROOT.joinpath(*module.split(".")).with_suffix(".py") for module in PURPOSES[extra]]
    return set().union(*(reached(graph, start) for start in starts))


def test_any_extra_alone_shows_the_help_of_all_commands() -> None:
    everywhere = set.intersection(*map(declared, PURPOSES))
    names = set().union(*map(needed, sources("training")))
    distributions = packages_distributions()
    missing = [n for n in names if plain(distributions.get(n, [n])[0]) not in everywhere]
    assert {"scipy", "diffusers", "transformers", "tqdm"} <= set(missing)
    code = f"import sys; sys.modules.update(dict.fromkeys({missing!r})); "
    code += "from training.__main__ import build_parser; build_parser()"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.mark.parametrize("extra", PURPOSES)
def test_an_extra_is_what_its_purpose_imports(extra: str) -> None:
    files = files_of(extra)
    names = set().union(*map(needed, files))
    distributions = packages_distributions()
    wanted = {plain(distributions.get(name, [name])[0]) for name in names}
    wanted |= set().union(*(BROUGHT.get(name, set()) for name in wanted))
    by_name = {plain(text) for path in files for text in texts(path)}
    assert wanted - declared(extra) == set(), "imported, not declared"
    assert declared(extra) - wanted - by_name == set(), "declared, not imported"


def test_every_extra_is_tried_alone_or_says_why_not() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    section = text.split("[project.optional-dependencies]")[1].split("\n[")[0]
    assert set(re.findall(r"^(\w+) = \[", section, re.M)) == {*PURPOSES, *NOT_ALONE}
    assert set(LATER) <= set(PURPOSES)


def test_an_extra_that_is_not_there_is_one_sentence() -> None:
    with pytest.raises(SystemExit, match="expected train, data, curation, cluster, eval, got moon"):
        main(["moon"])
