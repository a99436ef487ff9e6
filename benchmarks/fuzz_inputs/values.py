"""Values that nobody should write, and files that are nearly right; all decided by a generator."""

from __future__ import annotations

import json
import random
import struct
from typing import Any

LARGE = 1_000_000  # characters
NUMBERS: tuple[Any, ...] = (
    float("nan"), float("inf"), float("-inf"), -3, -1, -0.0, 0, 1e-300, 1e308, 2**31, 2**63, 2**70,
    10**400, 0.5, 3, 1000, True, None, "", "NaN", "much", "1e5", [], {}, {"a": 1}, [1, 2, 3],
)  # fmt: skip
TEXTS: tuple[Any, ...] = (
    "", " ", "None", "null", "nan", "x" * LARGE, "dog " * (LARGE // 4), "[" * 40_000, "{" * 9_999,
    "(" * 9_000, "\ud800", "dog \udfff", "\0", "a\0b", "embedding:x", "dog embedding:y", "../../x",
    "..", "/etc/passwd", "C:\\windows", "%year%/%s%n", "<b>dog</b>", "\u202edog", "🐕" * 300,
    "sks", "(dog:1e9)", "((((dog", "1,2,3,4", "0,0,1,1", "nan,nan,nan,nan", "1e400,0,1,1",
    "9" * 5000, "[" + "9" * 5000 + "]", '{"x": 1}', '{"version": 2}', "{'a': {'b': 1}}", "[[[]]]",
    '{"subjects": [' + "null," * 9999 + "null]}", "[null, null, null]", "0-1, 1-0", "0-nan",
    "up=1, up=nan", "all=1e999", "style composition", "0.5,0.5;0.5", 0, -1, 1.5, True, None, [], {},
    {"version": 1, "subjects": [{"box": [0, 0, 1, 1]}]}, {"x": 0, "y": 0, "width": 1, "height": 1},
)  # fmt: skip
CHARACTERS = "0123456789.,-+eE[]{}:\"' xyNa()\n\0\ud800é犬"


def any_number(chance: random.Random) -> Any:
    if chance.random() < 0.3:
        return chance.uniform(-2.0, 20.0) * 10 ** chance.randint(-3, 6)
    return chance.choice(NUMBERS)


def any_text(chance: random.Random, usual: str) -> Any:
    """One of the list, or the usual text with some characters changed."""
    if not usual or chance.random() < 0.5:
        return chance.choice(TEXTS)
    characters = list(usual)
    for _ in range(chance.randint(1, 4)):
        position = chance.randrange(len(characters) + 1)
        kind = chance.randrange(3)
        if kind == 0:
            characters.insert(position, chance.choice(CHARACTERS))
        elif kind == 1 and position < len(characters):
            characters[position] = chance.choice(CHARACTERS)
        else:
            characters[position : position + chance.randint(1, 5)] = []
    return "".join(characters) * chance.choice((1, 1, 1, 2, 200))


def broken_file(chance: random.Random, content: bytes) -> bytes:
    """A file with something wrong in it, or another file in its place."""
    kinds = [_cut, _flipped, _other_file]
    if content[8:9] == b"{":  # a .safetensors file's header
        kinds += [_other_json] * 3
    return chance.choice(kinds)(chance, content)


def _cut(chance: random.Random, content: bytes) -> bytes:
    return content[: chance.choice((0, 1, 7, 8, 9, 100, len(content) - 1, len(content) // 2))]


def _flipped(chance: random.Random, content: bytes) -> bytes:
    """Some bytes changed, mostly in the header."""
    changed = bytearray(content)
    length = 8 + int.from_bytes(content[:8], "little")
    for _ in range(chance.randint(1, 8)):
        last = length if chance.random() < 0.8 else len(changed)
        changed[chance.randrange(min(last, len(changed)))] = chance.randrange(256)
    return bytes(changed)


def _other_file(chance: random.Random, content: bytes) -> bytes:
    return chance.choice(
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
            b"<!DOCTYPE html><html>404</html>",
            b"PK\x03\x04" + content[:200],
            b"\x80\x02" + content[:200],
            struct.pack("<Q", 2**63) + content,
            struct.pack("<Q", 2) + b"{}",
            b"x" * 100_000,
            chance.randbytes(1000),
        )
    )


def _other_json(chance: random.Random, content: bytes) -> bytes:
    """Another header around the same tensors: one value of it, or of the description in it, is
    something else."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    metadata = header.get("__metadata__", {})
    if metadata and chance.random() < 0.7:
        key = chance.choice(sorted(metadata))
        try:
            description = json.loads(metadata[key])
        except ValueError:
            description = metadata[key]
        metadata[key] = json.dumps(_with_other_value(chance, description))
    else:
        header = _with_other_value(chance, header)
    text = json.dumps(header).encode("utf-8", "surrogatepass")
    return struct.pack("<Q", len(text)) + text + content[8 + length :]


def _with_other_value(chance: random.Random, tree: Any) -> Any:
    """The tree with something else, or nothing, in one place."""
    if isinstance(tree, dict) and tree and chance.random() < 0.9:
        key = chance.choice(sorted(tree))
        if chance.random() < 0.1:
            return {name: value for name, value in tree.items() if name != key}
        return {**tree, key: _with_other_value(chance, tree[key])}
    if isinstance(tree, list) and tree and chance.random() < 0.9:
        place = chance.randrange(len(tree))
        if chance.random() < 0.1:
            return tree * 100
        return [*tree[:place], _with_other_value(chance, tree[place]), *tree[place + 1 :]]
    return chance.choice((*NUMBERS, *TEXTS))
