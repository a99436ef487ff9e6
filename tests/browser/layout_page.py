"""The layout editor as the tests use it: the node in the middle of the window, boxes by mouse."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from front_end import PATIENCE, FrontEnd
from playwright.sync_api import Locator

ROOT = Path(__file__).resolve().parents[2]
NODE = "window.app.graph.nodes.find(node => node.type === 'SubjectDiffusionLayout')"
EDITOR = f"{NODE}.subjectDiffusionLayout"


def example(name: str) -> dict[str, Any]:
    path = ROOT / "example_workflows" / f"{name}.json"
    workflow: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return workflow


def with_room(workflow: dict[str, Any]) -> dict[str, Any]:
    """The workflow with its Layout node apart from the others."""
    workflow = copy.deepcopy(workflow)
    for node in workflow["nodes"]:
        if node["type"] == "SubjectDiffusionLayout":
            node["pos"], node["size"] = [0, -1600], [380, 640]
    return workflow


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


class LayoutPage:
    """The editor of the only Layout node of a workflow."""

    def __init__(self, front_end: FrontEnd) -> None:
        self.front_end = front_end
        self.page = front_end.page
        self.frame = self.page.locator(".sdl-frame")

    def load(self, workflow: dict[str, Any] | str, scale: float = 1.0) -> None:
        """Show a workflow, with the Layout node in view, all thumbnails and places there."""
        workflow = with_room(example(workflow) if isinstance(workflow, str) else workflow)
        self.front_end.load(workflow)
        self.look(scale)
        self.page.wait_for_function(f"{EDITOR}?.shown?.pictures.every(picture => picture !== null)")
        self.page.evaluate(f"async () => {{ await {EDITOR}.places.answer }}")

    def look(self, scale: float = 1.0) -> None:
        """Put the node into the window, with the canvas at a scale."""
        self.page.evaluate(
            f"""scale => {{
                const view = window.app.canvas.ds
                const [x, y] = {NODE}.pos
                view.scale = scale
                view.offset[0] = 500 / scale - x
                view.offset[1] = 110 / scale - y
                window.app.canvas.setDirty(true, true)
            }}""",
            scale,
        )
        self.frame.wait_for()
        self.front_end.stand_still()

    def wait_until_noted(self) -> None:
        """Until the front end's own undo knows the layout."""
        kept = (
            "window.app.extensionManager.workflow.activeWorkflow.changeTracker.activeState"
            ".nodes.find(node => node.type === 'SubjectDiffusionLayout').widgets_values.at(-1)"
        )
        text = f"{NODE}.widgets.find(one => one.name === 'layout').value"
        self.page.wait_for_function(f"{kept} === {text}")

    def wait_until_stored(self) -> None:
        """Until a draft of the front end's own in the browser has this layout: some write it later,
        and drafts of other workflows may be there. It is JSON within JSON, once or twice."""
        self.page.wait_for_function(
            r"""text => {
                const within = value => JSON.stringify(value).slice(1, -1)
                const forms = [within(text), within(within(text)), within(within(within(text)))]
                return [...Object.values(localStorage), ...Object.values(sessionStorage)]
                    .some(value => forms.some(form => value.includes(form)))
            }""",
            arg=self.text(),
        )

    def box(self, index: int) -> Locator:
        return self.page.locator(f'.sdl-box[data-subject="{index}"]')

    def chip(self, index: int) -> Locator:
        return self.page.locator(".sdl-chip").nth(index)

    def button(self, title: str) -> Locator:
        return self.page.locator(f'.sdl button[title^="{title}"]')

    def text(self) -> str:
        """The layout as it would be saved."""
        return str(self.page.evaluate(f"{NODE}.widgets.find(one => one.name === 'layout').value"))

    def entries(self) -> list[dict[str, Any]]:
        entries: list[dict[str, Any]] = json.loads(self.text())["subjects"]
        return entries

    def shown(self) -> list[list[float] | None]:
        """The boxes as they are drawn, in fractions of the frame."""
        boxes: list[list[float] | None] = self.page.evaluate(
            f"{EDITOR}.items.map(item => item.box)"
        )
        return boxes

    def sources(self) -> list[str]:
        sources: list[str] = self.page.evaluate(f"{EDITOR}.items.map(item => item.source)")
        return sources

    def labels(self) -> list[str]:
        labels: list[str] = self.page.evaluate(f"{EDITOR}.items.map(item => item.label)")
        return labels

    def status(self) -> str:
        return self.page.locator(".sdl-status").inner_text()

    def point(self, x: float, y: float) -> tuple[float, float]:
        """A point of the frame, in pixels of the window."""
        frame = self.frame.bounding_box()
        assert frame is not None
        return frame["x"] + x * frame["width"], frame["y"] + y * frame["height"]

    def drag(self, start: tuple[float, float], end: tuple[float, float], *, held: str = "") -> None:
        """With the mouse, between two points of the frame, a key held all the while."""
        self.page.mouse.move(*self.point(*start))
        self.page.mouse.down()
        if held:
            self.page.keyboard.down(held)
        self.page.mouse.move(*self.point(*end), steps=5)
        self.page.mouse.up()
        if held:
            self.page.keyboard.up(held)
        self.front_end.settle()

    def press(self, index: int, *keys: str) -> None:
        """Keys with a subject's box in focus."""
        self.box(index).focus()
        for key in keys:
            self.page.keyboard.press(key)
        self.front_end.settle()

    def shot(self, name: str) -> None:
        """A screenshot with the node at its own size."""
        path = self.front_end.screenshot(name)
        self.look()
        self.page.screenshot(path=path)

    def saved_image(self) -> bytes:
        """What Save Image saved last, as soon as the page has heard of it."""
        images = "window.app.nodeOutputs[window.app.graph.nodes.find(is_save).id]?.images"
        is_save = "const is_save = node => node.type === 'SaveImage'"
        self.page.wait_for_function(f"() => {{ {is_save}; return {images}?.length }}")
        address = self.page.evaluate(
            f"""() => {{
                {is_save}
                const address = window.app.api.apiURL('/view?' + new URLSearchParams({images}[0]))
                return new URL(address, location.href).href
            }}"""
        )
        return self.page.request.get(address, timeout=PATIENCE).body()
