"""Every text of every node: tooltips in the schemas, English and Chinese files beside them."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from devtools.locale_texts import english_texts

ROOT = Path(__file__).resolve().parents[2]
LANGUAGES = ("en", "zh")


@pytest.fixture(scope="module")
def english(comfy_nodes: ModuleType, pack: ModuleType) -> dict[str, Any]:
    """What the schemas say, in the form of a locale file."""
    classes = comfy_nodes.NODE_CLASS_MAPPINGS.items()
    return english_texts(
        {name: each.GET_NODE_INFO_V1() for name, each in classes if name.startswith("SubjectD")}
    )


def read_locale(language: str) -> dict[str, Any]:
    path = ROOT / "locales" / language / "nodeDefs.json"
    return json.loads(path.read_text(encoding="utf-8"))


def leaves(texts: Any, path: str = "") -> dict[str, str]:
    """Path of every text -> the text."""
    if isinstance(texts, str):
        return {path: texts}
    found: dict[str, str] = {}
    for key, value in texts.items():
        found |= leaves(value, f"{path}/{key}")
    return found


def test_every_node_input_and_output_has_a_tooltip(english: dict[str, Any]) -> None:
    assert len(english) >= 24
    assert [path for path, text in leaves(english).items() if not text.strip()] == []


def test_the_english_file_is_what_the_schemas_say(english: dict[str, Any]) -> None:
    """`python dev.py docs` writes it."""
    assert read_locale("en") == english


def test_the_chinese_file_has_every_text(english: dict[str, Any]) -> None:
    chinese, wanted = leaves(read_locale("zh")), leaves(english)
    assert chinese.keys() == wanted.keys()
    assert [path for path, text in chinese.items() if not text.strip()] == []
    sentences = [path for path in chinese if path.endswith(("tooltip", "description"))]
    untranslated = [p for p in sentences if not any("一" <= c <= "鿿" for c in chinese[p])]
    assert untranslated == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_messages_have_no_bare_placeholders(language: str) -> None:
    """The page would take braces, @, $ and | for its message format's own signs."""
    for path, text in leaves(read_locale(language)).items():
        rest = text
        for sign in "{}@$|":
            rest = rest.replace("{'" + sign + "'}", "")
        assert not set(rest) & set("{}@$|"), path


@pytest.mark.parametrize("language", LANGUAGES)
def test_comfyui_serves_the_texts(pack: ModuleType, language: str) -> None:
    from app.custom_node_manager import CustomNodeManager

    served = CustomNodeManager().build_translations()
    assert served[language]["nodeDefs"].items() >= read_locale(language).items()


def test_comfyui_serves_the_editors_texts(pack: ModuleType) -> None:
    """Where web/layout/texts.js looks for them; English ones are in the scripts."""
    from app.custom_node_manager import CustomNodeManager

    path = ROOT / "locales" / "zh" / "main.json"
    texts = json.loads(path.read_text(encoding="utf-8"))["subjectDiffusionLayout"]
    assert CustomNodeManager().build_translations()["zh"]["subjectDiffusionLayout"] == texts
