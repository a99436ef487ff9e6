"""The layout editor through whole runs; how quick, how legible, and how few actions it takes."""

from __future__ import annotations

import base64

import pytest
from front_end import FrontEnd
from layout_page import (
    EDITOR,
    NODE,
    ROOT,
    LayoutPage,
    example,
    near,
    with_layout,
    without_boxes,
)
from playwright.sync_api import Locator

ASSETS = ROOT / "assets" / "subjects"
HERE = '{"version": 1, "subjects": [{"box": [0.1, 0.1, 0.4, 0.5]}]}'


@pytest.fixture
def editor(front_end: FrontEnd) -> LayoutPage:
    return LayoutPage(front_end)


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
    (noise,) = (one for one in example("one_subject")["nodes"] if one["type"] == "RandomNoise")
    fixed = f"window.app.graph.getNodeById({noise['id']}).widgets[1].value = 'fixed'"
    editor.page.evaluate(fixed)
    editor.front_end.run()
    before = editor.saved_image()
    editor.drag((0.5, 0.55), (0.3, 0.35), held="Control")
    editor.press(0, "ArrowLeft")
    editor.front_end.run()
    after = editor.saved_image()
    assert after != before
    editor.shot("layout after a run")


def test_subjects_that_only_the_server_knows(editor: LayoutPage) -> None:
    """Pictures of other nodes: the thumbnail and the place come with the run."""
    editor.load(without_boxes(example("one_subject"), "random"))
    editor.page.evaluate(
        """() => {
            const graph = window.app.graph
            const subject = graph.nodes.find(one => one.type === 'SubjectDiffusionSubject')
            const scale = window.LiteGraph.createNode('ImageScaleBy')
            graph.add(scale)
            const link = graph.getLink(subject.inputs.find(one => one.name === 'image').link)
            graph.getNodeById(link.origin_id).connect(link.origin_slot, scale, 0)
            scale.connect(0, subject, 'image')
            subject.disconnectInput(subject.inputs.findIndex(one => one.name === 'mask'))
        }"""
    )
    editor.page.wait_for_function(f"{EDITOR}.items.length === 1 && {EDITOR}.items[0].box === null")
    assert editor.shown() == [None]
    editor.page.locator(".sdl-status", has_text="gets its place when this runs").wait_for()
    editor.front_end.run()
    editor.page.wait_for_function(f"{EDITOR}.items[0].box !== null")
    assert editor.sources() == ["last run"]
    assert editor.box(0).locator("img").evaluate("image => image.naturalWidth") > 20


def test_moves_are_quick_with_eight_subjects(editor: LayoutPage) -> None:
    """One pointer move, with the layout of the page that follows from it."""
    editor.load("four_subjects")
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
    median, places = editor.page.evaluate(
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
            const places = new Set()
            for (let i = 0; i < 200; i++) {
                const start = performance.now()
                send('pointermove', 40 * Math.sin(i / 9), 40 * Math.cos(i / 7))
                places.add(box.getBoundingClientRect().left)
                times.push(performance.now() - start)
                if (i % 10 === 0) await new Promise(requestAnimationFrame)
            }
            send('pointerup', 0, 0)
            delete frame.setPointerCapture
            return [times.sort((a, b) => a - b)[100], places.size]
        }"""
    )
    print(f"median pointer move with eight subjects: {median:.2f} ms")
    assert places > 5  # whole pixels, many of them snapped
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


def test_two_subjects_from_an_empty_canvas_in_eight_actions(front_end: FrontEnd) -> None:
    """Counted: every click, every file chosen. The label and the prompt are the template's."""
    page, actions = front_end.page, 0
    page.evaluate("window.app.graph.clear()")

    def click(target: Locator) -> None:
        nonlocal actions
        target.click()
        actions += 1

    def choose(picture: str, load_image: int) -> None:
        """Drop a picture from the desktop onto a Load Image node: one action."""
        nonlocal actions
        content = base64.b64encode((ASSETS / picture).read_bytes()).decode("ascii")
        page.evaluate(DROP, [load_image, f"new-{picture}", content])
        page.wait_for_function(
            f"window.app.graph.getNodeById({load_image}).widgets[0].value.startsWith('new-')"
        )
        actions += 1

    click(page.get_by_role("button", name="Templates").first)
    templates = page.locator(".p-dialog")
    click(templates.get_by_text("subject-diffusion", exact=True).first)
    click(templates.get_by_text("two_subjects", exact=True).first)
    page.wait_for_function(f"{NODE} !== undefined")
    choose("crab.png", 1)
    choose("guitar.png", 3)
    editor = LayoutPage(front_end)
    editor.look()
    editor.drag((0.26, 0.56), (0.26, 0.4), held="Control")
    actions += 1
    front_end.set_steps()  # saves time, not actions
    click(page.get_by_test_id("queue-button").first)
    actions_until_run = actions
    assert editor.saved_image().startswith(b"\x89PNG")
    assert editor.entries()[0]["box"][1] < 0.3
    assert actions_until_run <= 8


# A file dropped onto a node, as the desktop hands it over.
DROP = """async ([id, name, content]) => {
    const bytes = Uint8Array.from(atob(content), one => one.charCodeAt(0))
    const event = { dataTransfer: { files: [new File([bytes], name, { type: 'image/png' })] } }
    await window.app.graph.getNodeById(id).onDragDrop(event)
}"""

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
