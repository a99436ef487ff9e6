"""The notes of the templates in a Chinese page; what is saved has them as they are delivered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from front_end import FrontEnd

ROOT = Path(__file__).resolve().parents[2]
CHINESE = json.loads((ROOT / "locales" / "zh" / "main.json").read_text(encoding="utf-8"))
PARAGRAPHS = CHINESE["subjectDiffusionNotes"]
NOTE = "window.app.graph.nodes.find(node => node.type === 'MarkdownNote')"
NAMES = sorted(path.stem for path in (ROOT / "example_workflows").glob("*.json"))
# in LiteGraph, in Nodes 2.0
DRAWN = ".comfy-markdown, .comfy-markdown-content"
WRITTEN = "## 我的笔记"


def template(name: str) -> dict[str, Any]:
    text = (ROOT / "example_workflows" / f"{name}.json").read_text(encoding="utf-8")
    return dict(json.loads(text))


def note_in(workflow: dict[str, Any]) -> str:
    (note,) = (node for node in workflow["nodes"] if node["type"] == "MarkdownNote")
    return str(note["widgets_values"][0])


def in_chinese(note: str) -> str:
    return "\n\n".join(PARAGRAPHS[one] for one in note.rstrip().split("\n\n"))


def shown(front_end: FrontEnd) -> str:
    return str(front_end.page.evaluate(f"{NOTE}.widgets[0].value"))


def wait_until_shown(front_end: FrontEnd, note: str) -> None:
    front_end.page.wait_for_function(f"note => {NOTE}?.widgets[0].value === note", arg=note)


def write(front_end: FrontEnd, note: str) -> None:
    front_end.page.evaluate(f"note => {{ {NOTE}.widgets[0].value = note }}", note)


def read_on_the_canvas(front_end: FrontEnd, title: str) -> str:
    """The note as it is drawn, from its title on."""
    drawn = front_end.page.locator(DRAWN, has_text=title).first
    drawn.wait_for()
    return drawn.inner_text()


def test_notes_are_chinese_and_saved_as_they_came(chinese: FrontEnd) -> None:
    for name in NAMES:
        workflow = template(name)
        english = note_in(workflow)
        chinese.load(workflow)
        wait_until_shown(chinese, in_chinese(english))
        title = in_chinese(english).split("\n\n")[0].removeprefix("## ")
        assert "**" not in read_on_the_canvas(chinese, title), name
        chinese.stand_still()
        chinese.photograph(f"{name} in Chinese")
        assert note_in(chinese.save()) == english, name
        embedded = chinese.page.evaluate("async () => (await window.app.graphToPrompt()).workflow")
        assert note_in(embedded) == english, name
    chinese.load(chinese.save())
    wait_until_shown(chinese, in_chinese(english))


def test_what_somebody_wrote_stays(chinese: FrontEnd) -> None:
    """Into the Chinese note, or into the English one before."""
    workflow = template("one_subject")
    chinese.load(workflow)
    wait_until_shown(chinese, in_chinese(note_in(workflow)))
    write(chinese, WRITTEN)
    assert note_in(chinese.save()) == WRITTEN
    own = note_in(workflow).replace("One subject", "My crab")
    (note,) = (node for node in workflow["nodes"] if node["type"] == "MarkdownNote")
    note["widgets_values"] = [own]
    chinese.load(workflow)
    chinese.settle()
    assert shown(chinese) == own and note_in(chinese.save()) == own


def test_the_note_follows_the_language(chinese: FrontEnd) -> None:
    """The page loads the workflow anew when its language is changed; nothing counts as edited."""
    workflow = template("one_subject")
    english = note_in(workflow)
    chinese.load(workflow)
    wait_until_shown(chinese, in_chinese(english))
    chinese.set_setting("Comfy.Locale", "en")
    wait_until_shown(chinese, english)
    chinese.set_setting("Comfy.Locale", "zh")
    wait_until_shown(chinese, in_chinese(english))
