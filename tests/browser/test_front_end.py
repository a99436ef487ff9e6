"""What the other browser tests rely on: errors in the page are seen."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from front_end import FrontEnd

ROOT = Path(__file__).resolve().parents[2]


def test_console_errors_are_collected(front_end: FrontEnd) -> None:
    page = front_end.page
    page.evaluate("console.error('an error of ours')")
    with page.expect_event("pageerror"):
        page.evaluate("setTimeout(() => { throw new Error('nobody catches this') })")
    with page.expect_console_message(lambda message: "404" in message.text):
        page.evaluate("fetch('/extensions/subject-diffusion/absent.js')")
    first, *others = front_end.take_errors()
    assert first.startswith("an error of ours")
    assert any("nobody catches this" in error for error in others)
    assert any("404" in error and "absent.js" in error for error in others)


def test_an_error_of_a_node_is_an_assertion(front_end: FrontEnd) -> None:
    workflow = json.loads((ROOT / "example_workflows" / "one_subject.json").read_text("utf-8"))
    (subject,) = (node for node in workflow["nodes"] if node["type"] == "SubjectDiffusionSubject")
    subject["widgets_values"][1] = "nonsense"
    front_end.load(workflow)
    with pytest.raises(AssertionError, match="Subject 1's box: expected four numbers"):
        front_end.run()
    front_end.page.keyboard.press("Escape")
    front_end.take_errors()
