"""Every node has a help page with a picture that exists, and all pictures together stay small."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from devtools.locale_texts import chinese_pages

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "web" / "docs"
NODES = sorted(json.loads((ROOT / "locales" / "en" / "nodeDefs.json").read_text(encoding="utf-8")))
PICTURE = re.compile(r"!\[([^\]]+)\]\(([^)]+)\)")
MOST_BYTES = 1_000_000


@pytest.mark.parametrize("name", NODES)
def test_page_with_a_picture(name: str) -> None:
    page = (DOCS / f"{name}.md").read_text(encoding="utf-8")
    pictures = PICTURE.findall(page)
    assert pictures
    for _, address in pictures:
        assert (DOCS / address).read_bytes()[:3] in (b"\xff\xd8\xff", b"\x89PN"), address


@pytest.mark.parametrize("name", NODES)
def test_page_speaks_of_every_input_and_output(name: str) -> None:
    page = (DOCS / f"{name}.md").read_text(encoding="utf-8")
    texts = json.loads((ROOT / "locales" / "en" / "nodeDefs.json").read_text(encoding="utf-8"))
    named = [*texts[name]["inputs"], *(slot["name"] for slot in texts[name]["outputs"].values())]
    assert [word for word in named if not re.search(rf"\b{word}\b", page)] == []


def test_no_page_or_picture_is_left_over() -> None:
    assert sorted(path.stem for path in DOCS.glob("*.md")) == NODES
    text = "".join(path.read_text(encoding="utf-8") for path in DOCS.glob("*.md"))
    pictures = [path for path in DOCS.rglob("*") if path.suffix in (".jpg", ".png")]
    assert [path.name for path in pictures if path.name not in text] == []
    assert sum(path.stat().st_size for path in pictures) < MOST_BYTES


def test_chinese_pages_say_what_the_chinese_texts_do() -> None:
    """`python dev.py docs NODE_ID` writes them; the front end asks for them first."""
    pages = chinese_pages(ROOT)
    assert sorted(path.parent.name for path in pages) == NODES
    assert {path: path.read_text(encoding="utf-8") for path in pages} == pages
    assert sorted(DOCS.glob("*/*.md")) == sorted(pages)
    for text in pages.values():
        assert all((DOCS / address).is_file() for _, address in PICTURE.findall(text))
