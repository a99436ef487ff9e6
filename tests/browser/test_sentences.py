"""What nodes say while they run, on the node and in the page's language: warnings and errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from front_end import MODES, WARNING_ALERT, FrontEnd

ROOT = Path(__file__).resolve().parents[2]
ENCODE, SUBJECT = "SubjectDiffusionEncode", "SubjectDiffusionSubject"
CHINESE = json.loads((ROOT / "locales" / "zh" / "main.json").read_text(encoding="utf-8"))
TEXTS = CHINESE["subjectDiffusionSentences"]
SUBJECT_1 = TEXTS["Subject {0}"].format(1)
NOT_NAMED = TEXTS[
    "{0}: its label '{1}' is not in the prompt; name it there for a better picture."
].format(SUBJECT_1, "crab")
NO_LABEL = TEXTS[
    "{0} has no label: expected one or a few words such as 'dog', got an empty text. "
    "Write in `label` what the picture shows."
].format(SUBJECT_1)
ENGLISH_NO_LABEL = (
    "Subject 1 has no label: expected one or a few words such as 'dog', got an empty text. "
    "Write in `label` what the picture shows."
)
TOLD = """kind => {
    const node = window.app.graph.nodes.find(each => each.type === kind)
    const widget = node.widgets?.find(({ name }) => name === 'subject_diffusion_sentences')
    return widget?.element.textContent ?? null
}"""


def load_example(front_end: FrontEnd) -> None:
    path = ROOT / "example_workflows" / "one_subject.json"
    front_end.load(json.loads(path.read_text(encoding="utf-8")))


def set_value(front_end: FrontEnd, kind: str, name: str, value: str) -> None:
    front_end.page.evaluate(
        """([kind, name, value]) => {
            const node = window.app.graph.nodes.find(each => each.type === kind)
            node.widgets.find(each => each.name === name).value = value
        }""",
        [kind, name, value],
    )


def told(front_end: FrontEnd, kind: str) -> Any:
    return front_end.page.evaluate(TOLD, kind)


def wait_until_told(front_end: FrontEnd, kind: str, sentence: str | None) -> None:
    front_end.page.wait_for_function(
        f"([kind, sentence]) => ({TOLD})(kind) === sentence", arg=[kind, sentence]
    )


def note_changes(front_end: FrontEnd, text: str) -> None:
    """Wait until the front end's own draft, from which it reloads, has the text."""
    front_end.page.evaluate(
        """() => {
            const tracker = window.app.extensionManager.workflow.activeWorkflow.changeTracker
            if (tracker.captureCanvasState) tracker.captureCanvasState()
            else tracker.checkState()
        }"""
    )
    front_end.page.wait_for_function(
        """text => [...Object.values(localStorage), ...Object.values(sessionStorage)]
            .some(value => value.includes(text))""",
        arg=text,
    )


def see(front_end: FrontEnd, sentence: str, name: str) -> None:
    """The sentence can be read on the node; in Nodes 2.0 of 1.32, after a value was changed, in a
    message of the page."""
    front_end.fit_view()
    places = f".sdl-sentences, {WARNING_ALERT}"
    front_end.page.locator(places, has_text=sentence).first.wait_for()
    front_end.screenshot(name)


def test_a_warning_in_chinese(chinese: FrontEnd) -> None:
    load_example(chinese)
    set_value(chinese, ENCODE, "prompt", "a picture")
    chinese.run()
    wait_until_told(chinese, ENCODE, NOT_NAMED)
    see(chinese, NOT_NAMED, "warning in Chinese")


def test_an_error_in_chinese_stays_until_the_node_runs(chinese: FrontEnd) -> None:
    """ComfyUI's own dialog keeps the English sentence, which searches find."""
    load_example(chinese)
    set_value(chinese, SUBJECT, "label", " ")
    with pytest.raises(AssertionError, match="Subject 1 has no label"):
        chinese.run()
    wait_until_told(chinese, SUBJECT, NO_LABEL)
    chinese.photograph("error in Chinese, with the dialog")
    chinese.page.keyboard.press("Escape")
    see(chinese, NO_LABEL, "error in Chinese")
    set_value(chinese, SUBJECT, "label", "crab")
    chinese.run()
    wait_until_told(chinese, SUBJECT, None)


def test_what_a_node_said_is_there_again_after_a_reload(chinese: FrontEnd) -> None:
    """It goes when the node runs, and is not shown on a node that is set otherwise by then."""
    load_example(chinese)
    set_value(chinese, ENCODE, "prompt", "a hill at dawn")
    note_changes(chinese, "a hill at dawn")
    chinese.run()
    wait_until_told(chinese, ENCODE, NOT_NAMED)
    chinese.reload()
    wait_until_told(chinese, ENCODE, NOT_NAMED)
    see(chinese, NOT_NAMED, "warning in Chinese, after a reload")
    set_value(chinese, ENCODE, "prompt", "a hill at noon")
    chinese.load(chinese.save())
    assert told(chinese, ENCODE) is None
    chinese.run()
    wait_until_told(chinese, ENCODE, NOT_NAMED)
    chinese.load(chinese.save())
    wait_until_told(chinese, ENCODE, NOT_NAMED)
    set_value(chinese, ENCODE, "prompt", "a crab on a hill at dawn")
    chinese.run()
    wait_until_told(chinese, ENCODE, None)


def test_an_error_in_english(open_front_end: FrontEnd) -> None:
    """The same without a catalogue; errors of other nodes stay where ComfyUI shows them."""
    front_end = open_front_end.another()
    front_end.open(MODES[open_front_end.mode])
    load_example(front_end)
    set_value(front_end, SUBJECT, "label", " ")
    with pytest.raises(AssertionError, match="Subject 1 has no label"):
        front_end.run()
    wait_until_told(front_end, SUBJECT, ENGLISH_NO_LABEL)
    front_end.close()
