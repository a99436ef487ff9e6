"""No file and no function is too long to read at once."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LONGEST_FILE, LONGEST_FUNCTION = 350, 70
FUNCTION_START = re.compile(
    r"\bfunction\b|=>\s*\{\s*$|^\s*(?:static\s+|async\s+|get\s+|set\s+|#)*[\w$#]+\s*\([^;]*\)\s*\{\s*$"
)


def tracked_files(*suffixes: str) -> list[Path]:
    """Files in git; in an archive without git, those in the source folders."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if listed.returncode == 0:
        names = [ROOT / name for name in listed.stdout.splitlines()]
    else:
        names = [path for path in ROOT.rglob("*") if ".dev" not in path.parts]
    return sorted(path for path in names if path.suffix in suffixes and path.is_file())


def python_functions(text: str) -> Iterator[tuple[str, int]]:
    """Name and length in lines of every function."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            yield node.name, node.end_lineno - node.lineno + 1


def script_functions(text: str) -> Iterator[tuple[str, int]]:
    """First line and length of every function of a script that is indented as usual: it ends at
    the first closing brace that stands as far left as its first line."""
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if not FUNCTION_START.search(line) or re.match(r"\s*(if|for|while|switch|catch)\b", line):
            continue
        indent = re.match(r"\s*", line)
        assert indent is not None
        closing = re.compile(rf"{indent.group()}\}}")
        for end in range(number + 1, len(lines)):
            if closing.match(lines[end]):
                yield line.strip(), end - number + 1
                break


def too_long(path: Path) -> list[str]:
    text = path.read_text(encoding="utf-8")
    name, lines = path.relative_to(ROOT), len(text.splitlines())
    functions = python_functions(text) if path.suffix == ".py" else script_functions(text)
    found = [f"{name}: {lines} lines"] if lines > LONGEST_FILE else []
    return found + [
        f"{name}, {f}: {length}" for f, length in functions if length > LONGEST_FUNCTION
    ]


def test_no_file_and_no_function_is_too_long() -> None:
    files = tracked_files(".py", ".js", ".mjs", ".ts")
    assert len(files) > 100
    assert [sentence for path in files for sentence in too_long(path)] == []


def test_long_functions_of_scripts_are_found() -> None:
    body = "  work()\n" * LONGEST_FUNCTION
    script = f"export function draw(box) {{\n{body}}}\nconst fine = (x) => {{\n  x()\n}}\n"
    method = f"class Editor {{\n  async draw(box) {{\n  {body.replace('  w', '    w')}  }}\n}}\n"
    lengths = {name: length for name, length in script_functions(script + method)}
    assert lengths["export function draw(box) {"] == LONGEST_FUNCTION + 2
    assert lengths["const fine = (x) => {"] == 3
    assert lengths["async draw(box) {"] == LONGEST_FUNCTION + 2
