"""Photographs Segment's nodes in the real front end.

Executed with the environment's Python (it needs playwright): `python help_screenshot.py URL
CHROMIUM OUT`, with a server at URL that has the sample pictures in its input folder.
"""

from __future__ import annotations

import sys

from playwright.sync_api import FloatRect, sync_playwright

MILLISECONDS = 180_000
READY = (
    "() => window.app?.graph && window.LiteGraph?.registered_node_types?.SubjectDiffusionSegment"
)
BUILD = """() => {
    const graph = window.app.graph
    graph.clear()
    const add = (type, x, y, width, height) => {
        const node = window.LiteGraph.createNode(type)
        node.pos = [x, y]
        graph.add(node)
        node.setSize([width, height])
        return node
    }
    const picture = add('LoadImage', 0, 150, 240, 300)
    const loader = add('SubjectDiffusionSegmentLoader', 0, 0, 300, 60)
    const segment = add('SubjectDiffusionSegment', 350, 0, 320, 180)
    const subject = add('SubjectDiffusionSubject', 720, 0, 320, 260)
    picture.widgets.find(widget => widget.name === 'image').value = 'crab.png'
    picture.widgets.find(widget => widget.name === 'image').callback?.('crab.png')
    loader.widgets[0].value = 'sam_vit_b_01ec64.pth'
    segment.widgets.find(widget => widget.name === 'points').value = '0.5,0.6'
    subject.widgets.find(widget => widget.name === 'label').value = 'crab'
    picture.connect(0, segment, 0)
    loader.connect(0, segment, 1)
    picture.connect(0, subject, 0)
    segment.connect(0, subject, subject.findInputSlot('mask'))
    const view = window.app.canvas.ds
    view.scale = 0.78
    window.app.canvas.show_info = false
    view.offset = [110, 260]
    window.app.canvas.setDirty(true, true)
}"""


def main(url: str, chromium: str, out: str) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1000, "height": 640})
        page.set_default_timeout(MILLISECONDS)
        page.goto(url)
        page.wait_for_function(READY)
        page.evaluate(BUILD)
        page.wait_for_timeout(3000)
        clip: FloatRect = {"x": 75, "y": 150, "width": 900, "height": 420}
        page.screenshot(path=out, type="jpeg", quality=80, clip=clip)
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:4])
