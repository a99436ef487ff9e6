"""The layout editor in the real front end: by mouse, by keys, by touch; saved, copied, undone."""

from __future__ import annotations

import json

import pytest
from front_end import FrontEnd
from layout_page import EDITOR, NODE, LayoutPage, example, near, with_layout, without_boxes

CRAB, GUITAR = [0.04, 0.34, 0.48, 0.78], [0.52, 0.34, 0.96, 0.78]
HERE = '{"version": 1, "subjects": [\n  {"box": [0.1, 0.1, 0.4, 0.5]}\n]}'


@pytest.fixture
def editor(front_end: FrontEnd) -> LayoutPage:
    return LayoutPage(front_end)


def test_the_chain_of_subjects_is_shown(editor: LayoutPage) -> None:
    editor.load("two_subjects")
    assert editor.shown() == [CRAB, GUITAR]
    assert editor.sources() == ["subject", "subject"]
    assert editor.text() == ""
    for index, label in enumerate(("crab", "guitar")):
        assert label in (editor.box(index).get_attribute("aria-label") or "")
        assert editor.box(index).locator("img").evaluate("image => image.naturalWidth") > 20
        assert editor.box(index).locator("span").inner_text() == label
    frame = editor.frame.bounding_box()
    assert frame is not None and frame["width"] == pytest.approx(frame["height"], abs=1)


def test_the_frame_has_the_proportions_of_the_picture(editor: LayoutPage) -> None:
    editor.load("two_subjects")
    widget = f"{NODE}.widgets.find(one => one.name === 'height')"
    editor.page.evaluate(f"{widget}.value = 64")
    size = "document.querySelector('.sdl-frame').getBoundingClientRect()"
    editor.page.wait_for_function(f"{size}.width > 1.5 * {size}.height")
    editor.front_end.stand_still()
    frame = editor.frame.bounding_box()
    assert frame is not None
    assert frame["width"] / frame["height"] == pytest.approx(2, rel=0.02)


def test_boxes_by_mouse(editor: LayoutPage) -> None:
    editor.load("two_subjects")
    editor.drag((0.26, 0.56), (0.36, 0.42), held="Control")  # move, without snapping
    (crab,) = editor.entries()
    assert near(crab["box"], [0.14, 0.2, 0.58, 0.64])
    editor.drag((0.58, 0.64), (0.45, 0.5), held="Control")  # its lower right corner
    assert near(editor.entries()[0]["box"], [0.14, 0.2, 0.45, 0.5])
    editor.chip(1).click()
    editor.press(1, "Delete")
    assert editor.shown()[1] == GUITAR  # back to the box of its Subject node
    editor.drag((0.6, 0.05), (0.95, 0.3), held="Alt")  # drawn anew for the selected subject
    assert near(editor.entries()[1]["box"], [0.6, 0.05, 0.95, 0.3])
    editor.drag((0.95, 0.175), (0.99, 0.18))  # its right edge snaps to the picture's
    assert near(editor.entries()[1]["box"], [0.6, 0.05, 1, 0.3])
    assert editor.entries()[1]["box"][2] == 1


def test_boxes_by_keys(editor: LayoutPage) -> None:
    editor.load("two_subjects")
    nodes = editor.page.evaluate("window.app.graph.nodes.length")
    editor.press(0, "ArrowRight", "ArrowRight", "ArrowUp", "Shift+ArrowUp")
    assert editor.shown()[0] == pytest.approx([0.06, 0.23, 0.5, 0.67])
    editor.press(0, "Control+ArrowRight", "Control+Shift+ArrowDown")
    assert editor.shown()[0] == pytest.approx([0.06, 0.23, 0.51, 0.77])
    editor.press(0, "PageDown")  # the crab in the guitar's place, and the other way round
    assert editor.shown() == [GUITAR, pytest.approx([0.06, 0.23, 0.51, 0.77])]
    editor.press(1, "Control+d")
    size = [0.45, 0.54]
    first = editor.shown()[0]
    assert first and [first[2] - first[0], first[3] - first[1]] == pytest.approx(size)
    editor.press(0, "Delete")
    assert editor.shown()[0] == CRAB
    assert editor.page.evaluate("window.app.graph.nodes.length") == nodes


def test_exact_numbers_strength_and_range(editor: LayoutPage) -> None:
    editor.load("two_subjects")
    editor.chip(0).click()
    for label, value in {"left": "0.111", "bottom": "0.9", "strength": "0.5", "end": "0.8"}.items():
        editor.page.locator(".sdl-numbers").get_by_label(label).fill(value)
        editor.page.keyboard.press("Tab")
    (crab,) = editor.entries()
    assert crab == {"box": [0.111, 0.34, 0.48, 0.9], "strength": 0.5, "end": 0.8}
    handle = editor.box(0).get_by_role("slider")
    handle.focus()
    editor.page.keyboard.press("ArrowRight")
    assert editor.entries()[0]["strength"] == pytest.approx(0.55)
    assert editor.entries()[0]["box"] == [0.111, 0.34, 0.48, 0.9]


def test_undo_and_redo(editor: LayoutPage) -> None:
    """Ctrl+Z in the editor takes back its own steps; elsewhere the front end does, as ever."""
    editor.load(with_layout("two_subjects", HERE))
    editor.press(0, "ArrowRight")
    editor.page.wait_for_timeout(1000)
    editor.press(0, "ArrowDown")
    editor.press(0, "Control+z")
    assert editor.shown()[0] == pytest.approx([0.11, 0.1, 0.41, 0.5])
    editor.button("Undo").click()
    assert editor.text() == HERE
    editor.press(0, "Control+Shift+Z")
    editor.wait_until_noted()
    editor.press(0, "Control+y")
    assert editor.shown()[0] == pytest.approx([0.11, 0.11, 0.41, 0.51])
    editor.wait_until_noted()
    before = editor.text()
    editor.page.evaluate("window.app.extensionManager.command.execute('Comfy.Undo')")
    text = f"{NODE}.widgets.find(one => one.name === 'layout').value"
    editor.page.wait_for_function(f"before => {text} !== before", arg=before)
    assert editor.shown()[0] == pytest.approx([0.11, 0.1, 0.41, 0.5])


def test_saved_and_loaded_again(editor: LayoutPage) -> None:
    editor.load("two_subjects")
    editor.drag((0.26, 0.56), (0.4, 0.3), held="Control")
    text, shown = editor.text(), editor.shown()
    saved = json.loads(editor.page.evaluate("JSON.stringify(window.app.graph.serialize())"))
    (node,) = (one for one in saved["nodes"] if one["type"] == "SubjectDiffusionLayout")
    assert node["widgets_values"][-1] == text
    editor.load("one_subject")
    assert editor.text() == ""
    editor.load(saved)
    assert (editor.text(), editor.shown()) == (text, shown)
    assert editor.front_end.export()["7"]["inputs"]["layout"] == text


def test_pictures_that_are_not_there(editor: LayoutPage) -> None:
    """Somebody else's workflow: labels take the place of the thumbnails."""
    workflow = with_layout("two_subjects", HERE)
    for node in workflow["nodes"]:
        if node["type"] == "LoadImage":
            node["widgets_values"][0] = "not-here.png"
    editor.front_end.allow_absent("not-here.png")
    editor.load(workflow)
    assert near(editor.shown()[0], [0.1, 0.1, 0.4, 0.5], 0)
    assert editor.box(0).locator("img").is_hidden()
    assert editor.box(0).locator("span").inner_text() == "crab"
    assert editor.labels() == ["crab", "guitar"]


def test_copied_and_in_a_subgraph(editor: LayoutPage) -> None:
    editor.load(with_layout("two_subjects", HERE))
    copied = editor.page.evaluate(
        f"(() => {{ const copy = {NODE}.clone(); return copy.widgets.at(-1).value }})()"
    )
    assert copied == HERE
    inner = editor.page.evaluate(
        f"""() => {{
            const graph = window.app.canvas.graph
            const {{ node }} = graph.convertToSubgraph(new Set([{NODE}]))
            const inner = node.subgraph.nodes.find(one => one.type === 'SubjectDiffusionLayout')
            inner.subjectDiffusionLayout.refresh()
            const {{ text, items }} = inner.subjectDiffusionLayout
            return {{ text, labels: items.map(item => item.label) }}
        }}"""
    )
    assert inner == {"text": HERE, "labels": ["crab", "guitar"]}
    exported = editor.front_end.export().values()
    (layout,) = (one for one in exported if one["class_type"] == "SubjectDiffusionLayout")
    assert layout["inputs"]["layout"] == HERE


def test_newcomers_get_a_place(editor: LayoutPage) -> None:
    workflow = without_boxes(example("two_subjects"))
    editor.load(workflow)
    assert editor.shown() == [None, None]  # opening a workflow changes nothing
    assert editor.text() == ""
    assert "Subject 1 (crab) has no place yet" in editor.status()
    connect = f"window.app.graph.getNodeById(6).connect(0, {NODE}, 'subjects')"
    editor.page.evaluate(f"{NODE}.disconnectInput(0)")
    editor.page.wait_for_function(f"{EDITOR}.items.length === 0")
    editor.page.evaluate(connect)
    editor.page.wait_for_function(f"{EDITOR}.items.length === 2 && {EDITOR}.text !== ''")
    crab, guitar = (entry["box"] for entry in editor.entries())
    assert 0 <= crab[0] < crab[2] <= guitar[0] < guitar[2] <= 1
    text = editor.text()
    editor.page.evaluate(f"{NODE}.disconnectInput(0)")
    editor.page.wait_for_function(f"{EDITOR}.items.length === 0")
    assert editor.text() == ""
    editor.page.evaluate(connect)
    editor.page.wait_for_function(f"{EDITOR}.items.length === 2 && {EDITOR}.text !== ''")
    assert editor.text() == text  # the same subjects come back to their places


def test_bad_text_gets_a_sentence(editor: LayoutPage) -> None:
    editor.load(with_layout("two_subjects", '{"version": 1, "subjects": [{"box": [0, 0]}]}'))
    assert "Subject 1: box should be [x1, y1, x2, y2]" in editor.status()
    editor.press(0, "ArrowRight")
    assert "[0, 0]" in editor.text()  # it stays until it is corrected
    area = editor.page.get_by_label("The layout as JSON")
    area.fill(HERE)
    editor.page.keyboard.press("Tab")
    assert editor.text() == HERE
    assert near(editor.shown()[0], [0.1, 0.1, 0.4, 0.5], 0)


@pytest.mark.parametrize("scale", [0.8, 1.6])
def test_a_zoomed_canvas(editor: LayoutPage, scale: float) -> None:
    editor.load("two_subjects", scale)
    editor.drag((0.26, 0.56), (0.36, 0.42), held="Control")
    assert near(editor.entries()[0]["box"], [0.14, 0.2, 0.58, 0.64])


def test_by_touch(editor: LayoutPage) -> None:
    editor.load("two_subjects")
    session = editor.page.context.new_cdp_session(editor.page)
    (x1, y1), (x2, y2) = editor.point(0.26, 0.56), editor.point(0.36, 0.22)
    points = [(x1, y1), ((x1 + x2) / 2, (y1 + y2) / 2), (x2, y2)]
    for kind, at in zip(("touchStart", "touchMove", "touchMove"), points, strict=True):
        session.send(
            "Input.dispatchTouchEvent",
            {"type": kind, "touchPoints": [{"x": at[0], "y": at[1], "id": 1}]},
        )
    session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    editor.front_end.settle()
    box = editor.entries()[0]["box"]
    assert near(box, [0.14, 0.0, 0.58, 0.44], 0.03)  # may snap to the edge
