"""What was drawn stays: reload, files, copies, deleted nodes, subgraphs; on dense screens, too."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from front_end import MODES, FrontEnd
from layout_page import EDITOR, NODE, LayoutPage, near, with_layout

TWO = """{"version": 1, "subjects": [
  {"box": [0.1, 0.1, 0.4, 0.5]},
  {"box": [0.55, 0.2, 0.9, 0.9], "strength": 0.8}
]}"""
BOXES = [[0.1, 0.1, 0.4, 0.5], [0.55, 0.2, 0.9, 0.9]]
DENSITY = 2


@pytest.fixture
def editor(front_end: FrontEnd) -> LayoutPage:
    return LayoutPage(front_end)


@pytest.fixture(scope="module")
def open_second_page(open_front_end: FrontEnd) -> Iterator[FrontEnd]:
    """Somebody else's page, on a screen with more pixels."""
    second = open_front_end.another(DENSITY)
    second.open(MODES[open_front_end.mode])
    yield second
    second.close()


@pytest.fixture
def second_editor(open_second_page: FrontEnd) -> Iterator[LayoutPage]:
    yield LayoutPage(open_second_page)
    assert open_second_page.take_errors() == []


def test_the_page_is_reloaded(editor: LayoutPage) -> None:
    editor.load("two_subjects")
    editor.drag((0.26, 0.56), (0.37, 0.43), held="Control")  # where no other test's box is
    editor.wait_until_noted()
    editor.wait_until_stored()
    text, shown, exported = editor.text(), editor.shown(), editor.front_end.export()
    assert near(shown[0], [0.15, 0.21, 0.59, 0.65])
    editor.front_end.reload()
    editor.look()
    assert (editor.text(), editor.shown(), editor.labels()) == (text, shown, ["crab", "guitar"])
    assert editor.front_end.export() == exported


def test_a_file_in_somebody_elses_page(
    editor: LayoutPage, second_editor: LayoutPage, tmp_path: Path
) -> None:
    editor.load(with_layout("two_subjects", TWO))
    editor.drag((0.25, 0.3), (0.35, 0.5), held="Control")
    text, shown, exported = editor.text(), editor.shown(), editor.front_end.export()
    assert near(shown[0], [0.2, 0.3, 0.5, 0.7])
    second_editor.front_end.open_file(editor.front_end.save_file(tmp_path / "layout.json"))
    second_editor.look()
    assert second_editor.text() == text
    assert second_editor.shown() == shown
    assert second_editor.labels() == ["crab", "guitar"]
    assert second_editor.front_end.export() == exported


@pytest.mark.parametrize("scale", [0.7, 1.4])
def test_a_screen_of_high_density(second_editor: LayoutPage, scale: float) -> None:
    second_editor.load("two_subjects", scale)
    assert second_editor.page.evaluate("devicePixelRatio") == DENSITY
    second_editor.drag((0.26, 0.56), (0.36, 0.42), held="Control")
    assert near(second_editor.shown()[0], [0.14, 0.2, 0.58, 0.64])
    second_editor.drag((0.58, 0.64), (0.45, 0.5), held="Control")  # a corner, 10 pixels wide
    assert near(second_editor.shown()[0], [0.14, 0.2, 0.45, 0.5])


def test_copied_and_pasted(editor: LayoutPage) -> None:
    """By the keys, with links; then each of the two has boxes of its own."""
    editor.load(with_layout("two_subjects", TWO))
    page = editor.page
    page.evaluate(f"window.app.canvas.selectNode({NODE})")
    page.locator("#graph-canvas").focus()
    page.keyboard.press("Control+c")
    page.keyboard.press("Control+Shift+v")
    layouts = "window.app.graph.nodes.filter(node => node.type === 'SubjectDiffusionLayout')"
    page.wait_for_function(f"{layouts}.length === 2")
    both = f"{layouts}.map(node => node.subjectDiffusionLayout)"
    page.evaluate(f"{both}.forEach(one => one.refresh())")
    boxes = f"{both}.map(one => one.items.map(item => item.box))"
    assert page.evaluate(f"{both}.map(one => one.text)") == [TWO, TWO]
    assert page.evaluate(boxes) == [BOXES, BOXES]
    page.evaluate(f"{both}[1].place(0, [0, 0, 0.2, 0.2], 'move')")
    changed = [[0, 0, 0.2, 0.2], BOXES[1]]
    assert page.evaluate(boxes) == [BOXES, changed]
    page.evaluate(f"{both}[0].place(1, [0.5, 0.5, 1, 1], 'move')")
    assert page.evaluate(boxes) == [[BOXES[0], [0.5, 0.5, 1, 1]], changed]


@pytest.mark.parametrize("subject", [5, 6], ids=["first", "last"])
def test_a_deleted_subject_comes_back(editor: LayoutPage, subject: int) -> None:
    """Its box goes with it, and one undo brings both back."""
    editor.load(with_layout("two_subjects", TWO))
    exported = editor.front_end.export()
    page = editor.page
    page.evaluate(f"window.app.canvas.selectNode(window.app.graph.getNodeById({subject}))")
    page.locator("#graph-canvas").focus()
    page.keyboard.press("Delete")
    page.wait_for_function(f"{EDITOR}.items.length === 1")
    editor.wait_until_noted()
    assert editor.shown() == [BOXES[1 if subject == 5 else 0]]
    page.keyboard.press("Control+z")
    page.wait_for_function("window.app.graph.getNodeById(5) && window.app.graph.getNodeById(6)")
    page.wait_for_function(f"{EDITOR}.items.length === 2")
    assert editor.text() == TWO
    assert (editor.shown(), editor.labels()) == (BOXES, ["crab", "guitar"])
    assert editor.front_end.export() == exported


def test_a_box_that_is_typed_afterwards_takes_over(editor: LayoutPage) -> None:
    """Only that subject's box goes from the board, and one undo there brings it back."""
    editor.load(with_layout("two_subjects", TWO))
    page = editor.page
    widget = "window.app.graph.getNodeById(6).widgets.find(one => one.name === 'box')"
    for text in ("0.2,0.3,", "0.2,0.3,0.6,0.8"):  # unfinished, it says nothing
        page.evaluate(f"{widget}.value = '{text}'")
        page.wait_for_function(f"{EDITOR}.scene.subjects[1].typed === '{text}'")
    page.wait_for_function(f"{EDITOR}.entries[1].box === null")
    assert editor.shown() == [BOXES[0], [0.2, 0.3, 0.6, 0.8]]
    assert editor.entries()[1] == {"strength": 0.8}
    assert editor.sources()[0] != editor.sources()[1]
    editor.press(0, "Control+z")
    assert editor.text() == TWO


def test_a_subgraph_is_saved_and_opened(editor: LayoutPage) -> None:
    """The editor knows the subjects outside, and what is drawn inside is kept."""
    editor.load(with_layout("two_subjects", TWO))
    page = editor.page
    page.evaluate(f"() => {{ window.app.canvas.graph.convertToSubgraph(new Set([{NODE}])) }}")
    editor.front_end.load(editor.front_end.save())
    page.evaluate(
        """() => {
            const container = window.app.graph.nodes.find(node => node.subgraph)
            window.app.canvas.openSubgraph(container.subgraph, container)
        }"""
    )
    inside = f"{NODE.replace('app.graph', 'app.canvas.graph')}?.subjectDiffusionLayout"
    page.wait_for_function(f"{inside}?.items.filter(item => item.thumbnail).length === 2")
    assert page.evaluate(f"{inside}.items.map(item => item.label)") == ["crab", "guitar"]
    assert page.evaluate(f"{inside}.items.map(item => item.box)") == BOXES
    editor.front_end.screenshot("layout in a subgraph")
    editor.frame.wait_for()
    editor.drag((0.25, 0.3), (0.35, 0.5), held="Control")
    assert near(page.evaluate(f"{inside}.items[0].box"), [0.2, 0.3, 0.5, 0.7])
    exported = editor.front_end.export().values()
    (layout,) = (one for one in exported if one["class_type"] == "SubjectDiffusionLayout")
    assert layout["inputs"]["layout"] == page.evaluate(f"{inside}.text")
    assert near(json.loads(layout["inputs"]["layout"])["subjects"][0]["box"], [0.2, 0.3, 0.5, 0.7])
