"""What the page shows beside the graph: Chinese texts, warnings on nodes, the blueprint."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from front_end import MERGE_TEXTS, PACK_IS_THERE, PATIENCE, STANDS_STILL, FrontEnd
from playwright.sync_api import Page, TimeoutError

from devtools.patience import PATIENCE_SECONDS

ROOT = Path(__file__).resolve().parents[2]
# Where a node is looked for: up to about 1.44, and later.
SEARCH_FIELDS = ".comfy-vue-node-search-container input, input[aria-controls=results-list]"
WARNING = "subject_diffusion_sentences"


def read_json(*parts: str) -> Any:
    return json.loads(ROOT.joinpath(*parts).read_text(encoding="utf-8"))


def node_of(front_end: FrontEnd, kind: str, expression: str) -> Any:
    """A JavaScript expression about the only `node` of a kind."""
    return front_end.page.evaluate(
        f"kind => {{ const node = window.app.graph.nodes.find(n => n.type === kind);"
        f" return {expression} }}",
        kind,
    )


def warning_on(front_end: FrontEnd, kind: str) -> str | None:
    widget = f"node.widgets.find(({{ name }}) => name === '{WARNING}')?.element.textContent ?? null"
    value: str | None = node_of(front_end, kind, widget)
    return value


HIDDEN_LINES = f"""(() => {{
    const {{ element }} = node.widgets.find(({{ name }}) => name === '{WARNING}')
    return element.scrollHeight - element.clientHeight
}})()"""


def test_a_warning_comes_stays_and_goes(front_end: FrontEnd) -> None:
    """All of it can be read, also when its job is over and after a job that leaves the node out, as
    nothing has changed for it."""
    front_end.load(read_json("example_workflows", "one_subject.json"))
    encode = "SubjectDiffusionEncode"
    set_prompt = "node.widgets.find(w => w.name === 'prompt').value = "
    good = node_of(front_end, encode, "node.widgets.find(w => w.name === 'prompt').value")
    node_of(front_end, encode, set_prompt + "'a picture'")
    front_end.run()
    warning = warning_on(front_end, encode)
    assert warning is not None and "its label 'crab' is not in the prompt" in warning
    front_end.screenshot("warning")
    assert node_of(front_end, encode, HIDDEN_LINES) <= 1
    node_of(front_end, "RandomNoise", "node.widgets[0].value = 5")
    front_end.run()
    assert warning_on(front_end, encode) == warning
    node_of(front_end, encode, set_prompt + json.dumps(good))
    front_end.run()
    assert warning_on(front_end, encode) is None


def test_nodes_speak_chinese(front_end: FrontEnd, screenshots: Path) -> None:
    """In a browser whose language is Chinese; the page has a setting for it, too."""
    browser = front_end.page.context.browser
    assert browser is not None
    context = browser.new_context(locale="zh-CN", viewport={"width": 1600, "height": 1000})
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    page.goto(front_end.page.url)
    page.wait_for_function(f"() => Boolean({PACK_IS_THERE})")
    page.evaluate(MERGE_TEXTS)
    page.evaluate(
        "workflow => window.app.loadGraphData(workflow)",
        read_json("example_workflows", "two_subjects.json"),
    )
    kind = "SubjectDiffusionGuider"
    texts = read_json("locales", "zh", "nodeDefs.json")[kind]
    title, widgets, inputs = page.evaluate(
        """kind => {
            const node = window.app.graph.nodes.find(each => each.type === kind)
            const inputs = node.inputs.map(slot => slot.localized_name)
            const labels = node.widgets.map(widget => widget.label)
            return [node.constructor.title, labels, inputs]
        }""",
        kind,
    )
    page.evaluate(STANDS_STILL)
    page.screenshot(path=screenshots / f"chinese ({front_end.mode}).png")
    context.close()
    names = [each["name"] for each in texts["inputs"].values()]
    assert title == texts["display_name"]
    assert inputs == names
    assert widgets == names[-4:]


def open_node_search(page: Page) -> None:
    """By a double-click. The front end takes one that a busy machine draws out for two clicks, so
    it is tried until the field is there."""
    field = page.locator(f":is({SEARCH_FIELDS}):focus")
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not field.is_visible():
        assert time.monotonic() < deadline, "no double-click opened the node search"
        page.mouse.dblclick(800, 500)
        with suppress(TimeoutError):
            field.wait_for(timeout=5000)


def put_blueprint(front_end: FrontEnd, name: str) -> None:
    """Alone on the canvas, from the node search."""
    page = front_end.page
    page.evaluate("() => window.app.graph.clear()")
    # in Nodes 2.0 a node is drawn for a moment longer, and would take the double-click
    page.wait_for_function("() => document.querySelector('[data-node-id]') === null")
    front_end.stand_still()
    open_node_search(page)
    page.keyboard.type(name)
    page.locator(".p-autocomplete-option, [role=option]", has_text=name).first.click()
    page.wait_for_function("() => window.app.graph.nodes.length === 1")
    # newer ones let the node hang on the pointer until the next click
    if page.evaluate("(window.app.canvas.state?.ghostNodeId ?? null) !== null"):
        page.mouse.click(800, 500)


def test_the_blueprint_makes_a_picture(front_end: FrontEnd) -> None:
    """Personalise with a Load Image and a Save Image around it."""
    page = front_end.page
    put_blueprint(front_end, "Personalise")
    save = page.evaluate(
        """() => {
            const graph = window.app.graph
            const [personalise] = graph.nodes
            const add = (type, x) => {
                const node = window.LiteGraph.createNode(type)
                node.pos = [x, 0]
                graph.add(node)
                return node
            }
            const load = add('LoadImage', -400), save = add('SaveImage', 700)
            load.widgets.find(w => w.name === 'image').value = 'owl.png'
            load.connect(0, personalise, 0)
            load.connect(1, personalise, 1)
            personalise.connect(0, save, 0)
            const set = (name, value) => {
                personalise.widgets.find(w => w.name === name).value = value
            }
            set('label', 'owl')
            set('prompt', 'an owl in a forest')
            return save.id
        }"""
    )
    exported = front_end.export()
    kinds = [node["class_type"] for node in exported.values()]
    assert kinds.count("SubjectDiffusionSubject") == 1 and "SubjectDiffusionGuider" in kinds
    (encode,) = [n for n in exported.values() if n["class_type"] == "SubjectDiffusionEncode"]
    assert encode["inputs"]["prompt"] == "an owl in a forest"
    front_end.run()
    assert len(front_end.images_of(save)) == 1
    front_end.screenshot("blueprint")
    personalise = page.evaluate("window.app.graph.nodes.find(node => node.subgraph).type")
    assert warning_on(front_end, personalise) is None
    node_of(front_end, personalise, "node.widgets.find(w => w.name === 'prompt').value = 'a place'")
    front_end.run()
    assert "its label 'owl' is not in the prompt" in (warning_on(front_end, personalise) or "")
    assert node_of(front_end, personalise, HIDDEN_LINES) <= 1
    front_end.screenshot("blueprint with a warning")


def test_the_blueprint_for_checkpoints_makes_a_picture(front_end: FrontEnd) -> None:
    """Look at a Subject, with the small model in the place of a checkpoint."""
    put_blueprint(front_end, "Look at a Subject")
    save = front_end.page.evaluate(
        """() => {
            const graph = window.app.graph
            const [look] = graph.nodes
            const add = (type, x) => {
                const node = window.LiteGraph.createNode(type)
                node.pos = [x, 0]
                graph.add(node)
                return node
            }
            const model = add('SubjectDiffusionTinyLoader', -800)
            const load = add('LoadImage', -400), save = add('SaveImage', 700)
            load.widgets.find(w => w.name === 'image').value = 'owl.png'
            for (const slot of [0, 1, 2]) model.connect(slot, look, slot)
            load.connect(0, look, 3)
            load.connect(1, look, 4)
            look.connect(0, save, 0)
            const values = {
                label: 'owl', prompt: 'an owl in a forest', omega_ref: 2.5, width: 64, height: 72,
            }
            for (const [name, value] of Object.entries(values)) {
                look.widgets.find(w => w.name === name).value = value
            }
            return save.id
        }"""
    )
    exported = {node["class_type"]: node["inputs"] for node in front_end.export().values()}
    seeing = exported["SubjectDiffusionSelfSubjectAttention"]
    assert (seeing["omega_ref"], seeing["layers"], seeing["reuse_mb"]) == (2.5, "all", 0)
    assert exported["SubjectDiffusionSubject"]["label"] == "owl"
    assert (exported["EmptyLatentImage"]["width"], exported["EmptyLatentImage"]["height"]) == (
        64,
        72,
    )
    front_end.run()
    assert len(front_end.images_of(save)) == 1
    front_end.screenshot("blueprint look at a subject")
