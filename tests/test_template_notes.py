"""The notes of the templates, and what locales/<language>/main.json has for their paragraphs."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
KEY = "subjectDiffusionNotes"  # as in web/note_texts.js
NOTES = ("MarkdownNote", "Note")
CODE = re.compile(r"`[^`]+`")
SIGNS = re.compile(r"[{}@$|]")  # of the page's message format


def note_paragraphs() -> dict[str, str]:
    """English paragraph -> a template that has it, in their order."""
    found: dict[str, str] = {}
    for path in sorted((ROOT / "example_workflows").glob("*.json")):
        for node in json.loads(path.read_text(encoding="utf-8"))["nodes"]:
            if node["type"] in NOTES:
                for paragraph in node["widgets_values"][0].rstrip().split("\n\n"):
                    found.setdefault(paragraph, path.stem)
    return found


@pytest.fixture(scope="module")
def chinese() -> dict[str, str]:
    text = (ROOT / "locales" / "zh" / "main.json").read_text(encoding="utf-8")
    return dict(json.loads(text)[KEY])


def test_every_paragraph_has_its_chinese_and_none_is_left_over(chinese: dict[str, str]) -> None:
    english = note_paragraphs()
    assert len(english) > 50
    assert [f"{english[one]}: {one}" for one in english if not chinese.get(one)] == []
    assert sorted(chinese.keys() - english.keys()) == []


def test_chinese_paragraphs_are_chinese_and_name_the_same_files_and_values(
    chinese: dict[str, str],
) -> None:
    for english, text in chinese.items():
        assert re.search("[\u4e00-\u9fff]", text), text
        assert set(CODE.findall(text)) == set(CODE.findall(english)), english


def test_the_pages_message_format_can_read_every_paragraph(chinese: dict[str, str]) -> None:
    for text in chinese.values():
        assert not SIGNS.search(re.sub(r"\{'[{}@$|]'\}", "", text)), text
