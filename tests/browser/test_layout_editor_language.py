"""The layout editor in Chinese: the front end's language as set by hand, in both of its modes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from front_end import MERGE_TEXTS, MODES, FrontEnd
from layout_page import EDITOR, ROOT, LayoutPage, example, near, with_layout, without_boxes
from playwright.sync_api import Route

from devtools.server import ComfyServer

CHINESE = json.loads((ROOT / "locales" / "zh" / "main.json").read_text(encoding="utf-8"))
TEXTS = CHINESE["subjectDiffusionLayout"]
# Not to be translated: the labels in the example, the format's and the keys' own names.
NAMES = re.compile(r"\b(crab|guitar|JSON|Ctrl|Page|Up|Down|Delete|Esc|x\d)\b")
# The front end asks for the nodes' texts again and says so.
UPDATES = re.compile("Update requested|Node definitions updated|已请求更新|节点定义已更新")
# Everything that the editor shows or reads out.
ALL_TEXTS = """() => [...document.querySelectorAll('.sdl, .sdl *')].flatMap(one => [
    one.title, one.ariaLabel, one.children.length ? '' : one.textContent]).filter(Boolean)"""
# Our texts by way of the front end's own translator, which reads its message format.
TRANSLATED = """() => {
    const vue = document.querySelector('#vue-app').__vue_app__
    const i18n = vue._context.provides[vue.__VUE_I18N_SYMBOL__].global
    const texts = Object.entries(i18n.tm('subjectDiffusionLayout'))
    return Object.fromEntries(texts.map(([sentence, text]) => [sentence, i18n.rt(text)]))
}"""
SOURCE = f"{EDITOR}.stage.boxes[0].title"


@pytest.fixture
def editor(open_front_end: FrontEnd, server: ComfyServer) -> Iterator[LayoutPage]:
    """A page of its own, as the server keeps the setting; it forgets it afterwards."""
    settings = server.base / "user" / "default" / "comfy.settings.json"
    before = settings.read_bytes()
    front_end = open_front_end.another()
    front_end.open(MODES[open_front_end.mode])
    yield LayoutPage(front_end)
    errors = [error for error in front_end.take_errors() if not UPDATES.search(error)]
    front_end.close()
    settings.write_bytes(before)
    assert errors == []


def english(editor: LayoutPage) -> list[str]:
    """What the editor says in Latin letters, names apart."""
    texts: list[str] = editor.page.evaluate(ALL_TEXTS)
    assert len(texts) > 40
    return [text for text in texts if re.search("[A-Za-z]{2}", NAMES.sub("", text))]


def speak(editor: LayoutPage, language: str) -> None:
    """Set the language; the front end then loads the open workflow anew."""
    editor.page.evaluate(f"{EDITOR}.isFromBefore = true")
    editor.front_end.set_setting("Comfy.Locale", language)
    editor.page.wait_for_function(f"{EDITOR} && !{EDITOR}.isFromBefore")


def test_the_editor_speaks_chinese(editor: LayoutPage) -> None:
    """As soon as the language is set, from the start when the page is loaded again; and back."""
    editor.load("two_subjects")
    editor.chip(0).click()
    assert editor.page.evaluate(SOURCE) == "box of its Subject node"
    assert english(editor) != []
    speak(editor, "zh")
    editor.button(TEXTS["Undo (Ctrl+Z)"]).wait_for()
    editor.front_end.reload()
    editor.look()
    editor.button(TEXTS["Undo (Ctrl+Z)"]).wait_for()
    editor.chip(0).click()
    assert english(editor) == []
    assert editor.page.evaluate(SOURCE) == TEXTS["box of its Subject node"]
    slider = editor.box(0).get_by_role("slider")
    assert slider.get_attribute("aria-label") == TEXTS["Strength of {label}"].format(label="crab")
    editor.shot("layout in Chinese")
    editor.press(0, "ArrowRight")
    editor.button(TEXTS["Undo (Ctrl+Z)"]).click()
    assert editor.text() == ""
    speak(editor, "en")
    editor.button("Undo (Ctrl+Z)").wait_for()
    assert editor.labels() == ["crab", "guitar"]


def test_texts_that_come_late(editor: LayoutPage) -> None:
    """What is said in English already is said again: buttons, and the sentence about bad text."""
    editor.load(with_layout("two_subjects", '{"version": 1, "subjects": [{"box": [0, 0]}]}'))
    held: list[Route] = []
    editor.page.route("**/i18n", lambda route: held.append(route))
    speak(editor, "zh")
    editor.button("Undo (Ctrl+Z)").wait_for()
    sentence = "{name}: box should be [x1, y1, x2, y2] in 0..1, x1 < x2, y1 < y2."
    assert editor.status().startswith(sentence.format(name="Subject 1"))
    while not held:
        editor.page.wait_for_timeout(100)
    for route in held:
        route.continue_()
    editor.button(TEXTS["Undo (Ctrl+Z)"]).wait_for()
    name = TEXTS["Subject {number}"].format(number=1)
    assert editor.status().startswith(TEXTS[sentence].format(name=name))
    editor.shot("layout with a bad text, in Chinese")
    area = editor.page.get_by_label(TEXTS["The layout as JSON"])
    area.fill("")
    editor.page.keyboard.press("Tab")
    assert editor.status() == ""
    editor.drag((0.26, 0.56), (0.36, 0.42), held="Control")
    assert near(editor.entries()[0]["box"], [0.14, 0.2, 0.58, 0.64])


def test_advice_in_chinese(editor: LayoutPage) -> None:
    editor.load("two_subjects")
    speak(editor, "zh")
    editor.load(without_boxes(example("two_subjects")))
    editor.button(TEXTS["Undo (Ctrl+Z)"]).wait_for()
    who = {"name": TEXTS["Subject {number}"].format(number=1), "label": "crab"}
    sentence = TEXTS["{name} ({label}) has no place yet: draw it here."]
    assert editor.status() == sentence.format(**who)


def test_the_front_end_can_read_the_texts(editor: LayoutPage) -> None:
    """It merges them into its own, though the editor does without that."""
    editor.load("two_subjects")
    speak(editor, "zh")
    editor.page.evaluate(MERGE_TEXTS)
    translated = editor.page.evaluate(TRANSLATED)
    assert translated.keys() == TEXTS.keys()
    plain = {sentence: text for sentence, text in TEXTS.items() if "{" not in text}
    assert translated.items() >= plain.items()
