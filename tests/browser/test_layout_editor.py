"""The layout editor in the real front end: by mouse, by keys, by touch, and through a whole run."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from front_end import FrontEnd
from layout_page import EDITOR, NODE, LayoutPage, example

CRAB, GUITAR = [0.04, 0.34, 0.48, 0.78], [0.52, 0.34, 0.96, 0.78]
HERE = '{"version": 1, "subjects": [\n  {"box": [0.1, 0.1, 0.4, 0.5]}\n]}'


@pytest.fixture
def editor(front_end: FrontEnd) -> LayoutPage:
    return LayoutPage(front_end)


def without_boxes(workflow: dict[str, Any], mode: str = "given") -> dict[str, Any]:
    """The workflow with nothing written in its Subject nodes."""
    workflow = copy.deepcopy(workflow)
    for node in workflow["nodes"]:
        if node["type"] == "SubjectDiffusionSubject":
            node["widgets_values"][1] = ""
        if node["type"] == "SubjectDiffusionLayout":
            node["widgets_values"][2] = mode
    return workflow


def with_layout(name: str, text: str) -> dict[str, Any]:
    workflow = example(name)
    (node,) = (one for one in workflow["nodes"] if one["type"] == "SubjectDiffusionLayout")
    node["widgets_values"] = [*node["widgets_values"][:4], text]
    return workflow


def near(box: list[float] | None, wanted: list[float] | None, tolerance: float = 0.012) -> bool:
    assert box is not None and wanted is not None
    return all(abs(a - b) <= tolerance for a, b in zip(box, wanted, strict=True))


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
    editor.page.wait_for_timeout(600)
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
    editor.press(0, "Control+Shift+Z", "Control+y")
    assert editor.shown()[0] == pytest.approx([0.11, 0.11, 0.41, 0.51])
    editor.page.wait_for_timeout(600)
    editor.page.evaluate("window.app.extensionManager.command.execute('Comfy.Undo')")
    editor.page.wait_for_timeout(600)
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
    editor.load(workflow)
    assert near(editor.shown()[0], [0.1, 0.1, 0.4, 0.5], 0)
    assert editor.box(0).locator("img").is_hidden()
    assert editor.box(0).locator("span").inner_text() == "crab"
    editor.front_end.take_errors()  # the page asked for the files, of course


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
    editor.page.wait_for_timeout(600)
    editor.page.evaluate(connect)
    editor.page.wait_for_timeout(300)
    crab, guitar = (entry["box"] for entry in editor.entries())
    assert 0 <= crab[0] < crab[2] <= guitar[0] < guitar[2] <= 1
    text = editor.text()
    editor.page.evaluate(f"{NODE}.disconnectInput(0)")
    editor.page.wait_for_timeout(300)
    assert editor.text() == ""
    editor.page.evaluate(connect)
    editor.page.wait_for_timeout(300)
    assert editor.text() == text  # the same subjects come back to their places


def test_modes_show_what_they_will_do(editor: LayoutPage) -> None:
    """Places at random and from the pictures are those that the server then uses."""
    for mode in ("random", "reference"):
        editor.load(without_boxes(example("two_subjects"), mode))
        assert editor.sources() == [mode, mode]
        shown = editor.shown()
        editor.front_end.run()
        editor.page.wait_for_function(f"{EDITOR}.lastRun !== null")
        boxes = f"{EDITOR}.lastRun.subjects.map(subject => subject.box)"
        assert editor.page.evaluate(boxes) == shown
        assert editor.text() == ""
    editor.button("Keep").click()
    kept = [entry["box"] for entry in editor.entries()]
    assert all(near(*boxes, 1e-4) for boxes in zip(kept, shown, strict=True))


def test_the_image_follows_the_box(editor: LayoutPage) -> None:
    editor.load("one_subject")
    (save,) = (one["id"] for one in example("one_subject")["nodes"] if one["type"] == "SaveImage")
    (noise,) = (one for one in example("one_subject")["nodes"] if one["type"] == "RandomNoise")
    fixed = f"window.app.graph.getNodeById({noise['id']}).widgets[1].value = 'fixed'"
    editor.page.evaluate(fixed)
    editor.front_end.run()
    (before,) = editor.front_end.images_of(save)
    editor.drag((0.5, 0.55), (0.3, 0.35), held="Control")
    editor.press(0, "ArrowLeft")
    editor.front_end.run()
    (after,) = editor.front_end.images_of(save)
    assert after != before
    editor.shot("layout after a run")


def test_bad_text_gets_a_sentence(editor: LayoutPage) -> None:
    editor.load(with_layout("two_subjects", '{"version": 1, "subjects": [{"box": [0, 0]}]}'))
    assert "Subject 1: box should be [x1, y1, x2, y2]" in editor.status()
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


def test_moves_are_quick_with_eight_subjects(editor: LayoutPage) -> None:
    """The work of one pointer move, without what the browser then draws."""
    workflow = example("four_subjects")
    editor.load(workflow)
    editor.page.evaluate(
        f"""() => {{
            const graph = window.app.graph
            for (let i = 0; i < 4; i++) {{
                const last = graph.getNodeById(graph.getLink({NODE}.inputs[0].link).origin_id)
                const more = last.clone()
                graph.add(more)
                const source = graph.getLink(last.inputs[0].link)
                graph.getNodeById(source.origin_id).connect(source.origin_slot, more, 'image')
                last.connect(0, more, 'previous')
                more.connect(0, {NODE}, 'subjects')
            }}
        }}"""
    )
    editor.page.wait_for_function(f"{EDITOR}.items.length === 8")
    median = editor.page.evaluate(
        """async () => {
            const frame = document.querySelector('.sdl-frame')
            const box = frame.querySelector('.sdl-box[data-subject="3"]')
            const { left, top, width, height } = box.getBoundingClientRect()
            const send = (type, x, y) => box.dispatchEvent(new PointerEvent(type, {
                bubbles: true, pointerId: 1, isPrimary: true, button: 0, buttons: 1,
                clientX: left + width / 2 + x, clientY: top + height / 2 + y }))
            frame.setPointerCapture = () => {}
            send('pointerdown', 0, 0)
            const times = []
            for (let i = 0; i < 200; i++) {
                const start = performance.now()
                send('pointermove', 40 * Math.sin(i / 9), 40 * Math.cos(i / 7))
                times.push(performance.now() - start)
                if (i % 10 === 0) await new Promise(requestAnimationFrame)
            }
            send('pointerup', 0, 0)
            delete frame.setPointerCapture
            return times.sort((a, b) => a - b)[100]
        }"""
    )
    print(f"median pointer move with eight subjects: {median:.2f} ms")
    assert median <= 4


@pytest.mark.parametrize("palette", ["dark", "light"])
def test_legible_in_both_themes(editor: LayoutPage, palette: str) -> None:
    """Text against its background: the contrast that WCAG AA asks for."""
    editor.front_end.set_setting("Comfy.ColorPalette", palette)
    editor.load(with_layout("two_subjects", HERE))
    editor.chip(0).click()
    ratios = editor.page.evaluate(CONTRASTS)
    editor.shot(f"layout {palette}")
    editor.front_end.set_setting("Comfy.ColorPalette", "dark")
    assert len(ratios) >= 10
    assert {name: ratio for name, ratio in ratios.items() if ratio < 4.5} == {}


# Contrast of each piece of text with the nearest background that is not transparent.
CONTRASTS = """() => {
    const colour = text => {
        const canvas = document.createElement('canvas').getContext('2d')
        canvas.fillStyle = text
        canvas.fillRect(0, 0, 1, 1)
        return [...canvas.getImageData(0, 0, 1, 1).data]
    }
    const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
        .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
        .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0)
    const behind = element => {
        for (let one = element; one; one = one.parentElement) {
            const found = colour(getComputedStyle(one).backgroundColor)
            if (found[3] > 180) return found
        }
        return colour(window.LiteGraph.NODE_DEFAULT_BGCOLOR)
    }
    const pieces = document.querySelectorAll(
        '.sdl button:enabled, .sdl input[type=number], .sdl-numbers span, .sdl span')
    return Object.fromEntries([...pieces].map((one, i) => {
        const [a, b] = [light(colour(getComputedStyle(one).color)), light(behind(one))]
        const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)
        return [`${i} ${one.tagName} ${one.textContent}`, ratio]
    }))
}"""
