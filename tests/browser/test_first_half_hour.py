"""A newcomer's way, counted: every line pasted, click, file dropped and text written is an action.

Three come before the page: README's lines in a terminal, ComfyUI's restart, its address.
"""

from __future__ import annotations

import base64
import io
from pathlib import Path

import pytest
from front_end import FrontEnd
from layout_page import NODE, LayoutPage
from PIL import Image
from playwright.sync_api import Locator
from test_layout_editor_runs import DROP

ASSETS = Path(__file__).resolve().parents[2] / "assets" / "subjects"
BEFORE_THE_PAGE = 3
WRITE = """([id, name, value]) => {
    const widget = window.app.graph.getNodeById(id).widgets.find(one => one.name === name)
    widget.value = value
    widget.callback?.(value)
}"""


class Newcomer:
    """What a user does in the page, and how much of it."""

    def __init__(self, front_end: FrontEnd) -> None:
        self.front_end, self.page = front_end, front_end.page
        self.actions = BEFORE_THE_PAGE
        self.page.evaluate("window.app.graph.clear()")

    def click(self, target: Locator) -> None:
        target.click()
        self.actions += 1

    def open_template(self, name: str) -> None:
        self.click(self.page.get_by_role("button", name="Templates").first)
        templates = self.page.locator(".p-dialog")
        self.click(templates.get_by_text("subject-diffusion", exact=True).first)
        self.click(templates.get_by_text(name, exact=True).first)
        self.page.wait_for_function(f"{NODE} !== undefined")

    def drop(self, picture: str, title: str) -> None:
        """A picture from the desktop onto the Load Image node of this title."""
        content = base64.b64encode((ASSETS / picture).read_bytes()).decode("ascii")
        node = self.node_called(title)
        self.page.evaluate(DROP, [node, f"own-{picture}", content])
        self.page.wait_for_function(
            f"window.app.graph.getNodeById({node}).widgets[0].value.startsWith('own-')"
        )
        self.actions += 1

    def write(self, title: str, widget: str, text: str) -> None:
        self.page.evaluate(WRITE, [self.node_called(title), widget, text])
        self.actions += 1

    def node_called(self, title: str) -> int:
        return int(
            self.page.evaluate(
                "title => window.app.graph.nodes.find(node => node.title === title).id", title
            )
        )

    def run(self) -> bytes:
        self.front_end.set_steps()  # saves time, not actions
        self.click(self.page.get_by_test_id("queue-button").first)
        return LayoutPage(self.front_end).saved_image()


@pytest.mark.parametrize("palette", ["dark", "light"])
def test_from_readme_to_the_first_picture(front_end: FrontEnd, palette: str) -> None:
    front_end.set_setting("Comfy.ColorPalette", palette)
    newcomer = Newcomer(front_end)
    newcomer.open_template("one_subject")
    front_end.stand_still()
    front_end.photograph(f"first template, {palette}")
    picture = newcomer.run()
    front_end.photograph(f"first picture, {palette}")
    front_end.set_setting("Comfy.ColorPalette", "dark")
    assert Image.open(io.BytesIO(picture)).size == (128, 128)
    assert newcomer.actions <= 7


def test_from_readme_to_two_pictures_of_ones_own(front_end: FrontEnd) -> None:
    newcomer = Newcomer(front_end)
    newcomer.open_template("two_subjects")
    newcomer.drop("owl.png", "Picture: crab")
    newcomer.drop("hamburger.png", "Picture: guitar")
    newcomer.write("Subject: crab", "label", "owl")
    newcomer.write("Subject: guitar", "label", "hamburger")
    newcomer.write("Encode", "prompt", "a photo of an owl and a hamburger in a forest")
    titles = front_end.page.evaluate("window.app.graph.nodes.map(node => node.title)")
    assert {"Subject: owl", "Picture: owl", "Picture: hamburger"} <= set(titles)  # they follow
    picture = newcomer.run()
    front_end.stand_still()
    front_end.photograph("two pictures of one's own")
    assert Image.open(io.BytesIO(picture)).size == (128, 128)
    assert newcomer.actions <= 12
    assert front_end.page.locator(".sdl-sentences").count() == 0
