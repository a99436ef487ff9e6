"""The board beyond single boxes: drawing over others, locks, sizes, copies, its own window."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from front_end import FrontEnd
from layout_page import EDITOR, LayoutPage, near, with_layout

HERE = '{"version": 1, "subjects": [{"box": [0.1, 0.1, 0.4, 0.5]}, {"box": [0.5, 0.4, 0.9, 0.9]}]}'
SEND = """([kind, text]) => {
    const clipboardData = new DataTransfer()
    if (text) clipboardData.setData('text/plain', text)
    const event = new ClipboardEvent(kind, { clipboardData, bubbles: true, cancelable: true })
    document.activeElement.dispatchEvent(event)
    return clipboardData.getData('text/plain')
}"""


@pytest.fixture
def editor(front_end: FrontEnd) -> Iterator[LayoutPage]:
    page = LayoutPage(front_end)
    page.load(with_layout("two_subjects", HERE))
    yield page
    front_end.page.evaluate("document.querySelector('dialog.sdl-window')?.close()")


def test_shift_draws_over_a_box(editor: LayoutPage) -> None:
    editor.chip(1).click()
    editor.drag((0.15, 0.15), (0.35, 0.45), held="Alt")  # moves what lies there
    assert not near(editor.shown()[0], [0.1, 0.1, 0.4, 0.5])
    editor.button("Undo").click()
    editor.chip(1).click()
    editor.page.keyboard.down("Shift")
    editor.drag((0.15, 0.15), (0.36, 0.46), held="Alt")
    editor.page.keyboard.up("Shift")
    assert near(editor.shown()[0], [0.1, 0.1, 0.4, 0.5])
    assert near(editor.shown()[1], [0.15, 0.15, 0.36, 0.46])


def test_a_locked_box_stays(editor: LayoutPage) -> None:
    editor.chip(0).click()
    editor.button("Hold this box").click()
    before = editor.text()
    editor.drag((0.2, 0.2), (0.6, 0.6))
    editor.press(0, "ArrowRight")
    assert editor.text() == before
    saved = editor.front_end.save()
    editor.front_end.load(saved)
    editor.look()
    editor.page.wait_for_function(f"{EDITOR}.items[0]?.isLocked")
    editor.press(0, "Control+l", "ArrowRight")
    assert near(editor.shown()[0], [0.11, 0.1, 0.41, 0.5])


def test_sizes_in_pixels(editor: LayoutPage) -> None:
    editor.chip(1).click()
    width, height = (
        editor.page.locator(".sdl-numbers label", has_text=name).locator("input")
        for name in ("width", "height")
    )
    assert width.input_value() == "51" and height.input_value() == "64"  # of 128
    width.fill("32")
    width.press("Enter")
    height.fill("96")
    height.press("Enter")
    assert near(editor.entries()[1]["box"], [0.5, 0.25, 0.75, 1.0], 0.001)


def test_copy_and_paste(editor: LayoutPage) -> None:
    editor.box(0).focus()
    assert json.loads(editor.page.evaluate(SEND, ["copy", ""])) == json.loads(HERE)
    other = '{"version": 1, "subjects": [{"box": [0, 0, 0.5, 1]}]}'
    editor.page.evaluate(SEND, ["paste", other])
    assert editor.entries() == [{"box": [0, 0, 0.5, 1]}]
    editor.page.evaluate(SEND, ["paste", '{"version": 1, "subjects": [{"box": [2, 0, 3, 1]}]}'])
    assert editor.status().startswith("Subject 1: box should be")
    assert editor.entries() == [{"box": [0, 0, 0.5, 1]}]
    editor.press(0, "Control+z")
    assert json.loads(editor.text()) == json.loads(HERE)


def test_a_window_of_its_own(editor: LayoutPage) -> None:
    small = editor.frame.bounding_box()
    editor.button("A window of its own").click()
    editor.page.locator("dialog.sdl-window[open]").wait_for()
    large = editor.frame.bounding_box()
    assert small is not None and large is not None and large["width"] > 1.3 * small["width"]
    editor.drag((0.2, 0.2), (0.3, 0.25), held="Alt")
    editor.front_end.photograph("layout in its own window")
    editor.press(0, "Delete")  # the box, not the node
    assert "box" not in editor.entries()[0]
    editor.press(1, "Control+z")
    assert near(editor.shown()[0], [0.2, 0.15, 0.5, 0.55])
    editor.page.keyboard.press("Escape")  # lets go of the box
    editor.page.keyboard.press("Escape")
    editor.page.locator("dialog.sdl-window").wait_for(state="detached")
    editor.look()
    again = editor.frame.bounding_box()
    assert again is not None and abs(again["width"] - small["width"]) < 2
    editor.front_end.run()
    assert near(editor.entries()[0]["box"], [0.2, 0.15, 0.5, 0.55])


def test_the_photo_lies_behind(editor: LayoutPage) -> None:
    editor.load("into_a_photo")
    photo = editor.page.locator(".sdl-photo")
    assert "park.png" in (photo.get_attribute("src") or "")
    editor.page.wait_for_function("document.querySelector('.sdl-photo').naturalWidth === 128")
    editor.shot("layout over the photo")
    editor.load("one_subject")
    assert photo.is_hidden()
