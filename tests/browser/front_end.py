"""ComfyUI's page as the tests use it: workflows in, API graphs, images and screenshots out."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright
from playwright.sync_api import Error as PageError

from devtools.patience import PATIENCE_SECONDS

# Name of a mode -> its setting `Comfy.VueNodes.Enabled`.
MODES = {"LiteGraph": False, "Nodes 2.0": True}
Rectangle = tuple[float, float, float, float]
PATIENCE = 1000 * PATIENCE_SECONDS  # Playwright counts milliseconds
# As root there is no sandbox; the rest keeps the browser from calling its makers.
CHROMIUM_OPTIONS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
# Files that the front end asks for and that need not exist: (end of the address, start of the text)
OPTIONAL_FILES = (
    "/favicon.ico",
    "/user.css",
    "/api/userdata/user.css",
    "/api/userdata/comfy.templates.json",
    "/api/userdata?dir=workflows&recurse=true&split=false&full_info=true",
    "/api/userdata?dir=subgraphs%2F&recurse=true&split=false&full_info=true",
)
# The front end asks its makers about packs; ComfyUI's own headers forbid it (--disable-api-nodes).
BLOCKED_CALL = re.compile(r"^Connecting to 'https://api\.comfy\.org/[^']*' violates .*connect-src")
# The front end 1.32 stores a setting (useRenderModeSetting) before its settings are registered.
EARLY_SETTING = re.compile(
    r"^TypeError: Cannot read properties of undefined \(reading 'id'\)\n"
    r" +at onChange \(\S+/assets/index-\S+\)\n +at Proxy\.set \(\S+/assets/index-\S+\)"
)
# Its minimap says so when a subgraph is opened or left, whatever is in it.
SUBGRAPH_OPENED = "Attempted to cleanup event listeners for graph that was never set up"
# How the page shows a warning that stands on no node.
WARNING_ALERT = ".p-toast-message-warn"
# Addresses of the pack's scripts, its routes and its help pages.
PACK_FILES = "subject-diffusion"
# Several frames in a row in which nothing moves.
STANDS_STILL = """async () => {
    const places = () => {
        const { scale, offset } = window.app.canvas.ds
        const frame = document.querySelector('.sdl-frame')?.getBoundingClientRect()
        return JSON.stringify([scale, ...offset, frame])
    }
    for (let last, frames = 0; frames < 6; ) {
        await new Promise(requestAnimationFrame)
        const now = places()
        frames = now === last ? frames + 1 : 0
        last = now
    }
}"""
# Enough where nobody looks at the picture.
FEW_STEPS = 2
SET_STEPS = """steps => {
    const set = ({ nodes }) => nodes.forEach(({ widgets, subgraph }) => {
        for (const widget of widgets ?? []) if (widget.name === 'steps') widget.value = steps
        if (subgraph) set(subgraph)
    })
    set(window.app.graph)
}"""
PACK_IS_THERE = (
    "window.app?.graph && window.LiteGraph?.registered_node_types?.SubjectDiffusionSubject"
)
# ComfyUI 0.3.75's front end loses the packs' Chinese texts as its own come; later ones keep them.
MERGE_TEXTS = """async () => {
    const vue = document.querySelector('#vue-app').__vue_app__
    const i18n = vue._context.provides[vue.__VUE_I18N_SYMBOL__].global
    for (let frame = 0; !i18n.getLocaleMessage('zh').g && frame < 3600; frame++)
        await new Promise(requestAnimationFrame)
    const texts = await window.app.api.getCustomNodesI18n()
    for (const [locale, messages] of Object.entries(texts))
        i18n.mergeLocaleMessage(locale, messages)
    await window.app.registerNodes()
}"""


@contextmanager
def launched_chromium(executable: Path) -> Iterator[Browser]:
    """The system's Chromium, headless."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=executable, args=list(CHROMIUM_OPTIONS), timeout=PATIENCE
        )
        yield browser
        browser.close()


class FrontEnd:
    """One page with ComfyUI in it.

    `page` is Playwright's, for what has no method here. Console errors are collected from the
    start; `take_errors` hands over those that are not known to be harmless. A front end of another
    age than its server complains of much that is none of the pack's: `only_errors_of_the_pack`.
    """

    def __init__(
        self,
        browser: Browser,
        url: str,
        screenshots: Path,
        pixel_density: float = 1,
        only_errors_of_the_pack: bool = False,
    ) -> None:
        self._browser = browser
        self._url = url
        self._screenshots = screenshots
        self._context = browser.new_context(
            viewport={"width": 1600, "height": 1000}, device_scale_factor=pixel_density
        )
        self._errors: list[str] = []
        self._absent_files: set[str] = set()
        self._only_errors_of_the_pack = only_errors_of_the_pack
        self.mode = ""
        self._is_starting = True
        self._context.set_default_timeout(PATIENCE)
        self.page: Page = self._context.new_page()
        self.page.on("console", self._on_console)
        self.page.on("pageerror", self._on_uncaught)

    def another(self, pixel_density: float = 1) -> FrontEnd:
        """A page of its own in the same browser, not open yet."""
        common = (self._browser, self._url, self._screenshots)
        return FrontEnd(*common, pixel_density, self._only_errors_of_the_pack)

    def open(self, vue_nodes: bool) -> None:
        """Load the page in one of the front end's two modes and wait for the pack's nodes."""
        self._is_starting = True
        self.mode = next(name for name, value in MODES.items() if value == vue_nodes)
        self.page.goto(self._url)
        self._wait_for(PACK_IS_THERE)
        if self.page.evaluate("Boolean(window.LiteGraph.vueNodesMode)") != vue_nodes:
            self.set_setting("Comfy.VueNodes.Enabled", vue_nodes)
            self.page.reload()
            self._wait_for(PACK_IS_THERE)
        self._wait_for(f"Boolean(window.LiteGraph.vueNodesMode) === {json.dumps(vue_nodes)}")
        self._is_starting = False

    def reload(self) -> None:
        """As by F5: the front end shows again what it kept of the open workflow."""
        self._is_starting = True
        self.page.reload()
        self._wait_for(f"{PACK_IS_THERE} && window.app.graph.nodes.length")
        self.settle()
        self._is_starting = False

    def close(self) -> None:
        self._context.close()

    def set_setting(self, name: str, value: Any) -> None:
        """A setting as the settings dialog stores it."""
        self.page.evaluate(
            "([name, value]) => window.app.extensionManager.setting.set(name, value)", [name, value]
        )

    def load(self, workflow: dict[str, Any]) -> None:
        """Show a workflow as if its file had been dropped onto the canvas."""
        self.page.evaluate("workflow => window.app.loadGraphData(workflow)", workflow)
        count = len(workflow["nodes"])
        self._wait_for(f"window.app.graph.nodes.length === {count}")
        self.settle()

    def settle(self) -> None:
        """Wait until what was changed is drawn."""
        self.page.evaluate(
            "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
        )

    def stand_still(self) -> None:
        """Wait until the view, and the layout editor in it, no longer move."""
        self.page.evaluate(STANDS_STILL)

    def save(self) -> dict[str, Any]:
        """The workflow as "Save" writes it to a file."""
        saved = self.page.evaluate("() => JSON.stringify(window.app.graph.serialize())")
        return dict(json.loads(saved))

    def save_file(self, path: Path) -> Path:
        """The workflow as the menu's "Export" downloads it."""
        self.set_setting("Comfy.PromptFilename", False)
        with self.page.expect_download() as download:
            self.execute("Comfy.ExportWorkflow")
        download.value.save_as(path)
        return path

    def open_file(self, path: Path) -> None:
        """The menu's "Open"."""
        with self.page.expect_file_chooser() as chooser:
            self.execute("Comfy.OpenWorkflow")
        chooser.value.set_files(path)
        count = len(json.loads(path.read_text(encoding="utf-8"))["nodes"])
        self._wait_for(f"window.app.graph.nodes.length === {count}")
        self.settle()

    def execute(self, command: str) -> None:
        """What a menu entry or a key does; not waited for."""
        self.page.evaluate(
            "command => void window.app.extensionManager.command.execute(command)", command
        )

    def export(self) -> dict[str, dict[str, Any]]:
        """The graph as "Export (API)" saves it."""
        graph = self.page.evaluate("async () => (await window.app.graphToPrompt()).output")
        return dict(graph)

    def run(self, steps: int | None = FEW_STEPS) -> None:
        """Press Run and wait for the end; an error of the server is an AssertionError.

        `steps`: of the sampling, written into the nodes; None: as they stand there.
        """
        if steps is not None:
            self.set_steps(steps)
        self.page.evaluate(
            """() => {
                window.runEnd = null
                for (const kind of ['execution_success', 'execution_error'])
                    window.app.api.addEventListener(
                        kind,
                        event => { window.runEnd ??= { kind, detail: event.detail } },
                        { once: true })
            }"""
        )
        self.page.get_by_test_id("queue-button").first.click()
        self._wait_for("window.runEnd !== null")
        end = self.page.evaluate("window.runEnd")
        if end["kind"] != "execution_success":
            raise AssertionError(end["detail"]["exception_message"])

    def set_steps(self, steps: int = FEW_STEPS) -> None:
        """Into all nodes, also those of subgraphs."""
        self.page.evaluate(SET_STEPS, steps)

    def images_of(self, node_id: int) -> list[bytes]:
        """The images that a node shows, once the page has got them: those of drawn nodes."""
        self.fit_view()
        images = f"""(window.LiteGraph.vueNodesMode
            ? [...document.querySelectorAll('[data-node-id="{node_id}"] img')]
            : window.app.graph.getNodeById({node_id}).imgs ?? [])"""
        loaded = f"{images}.length && {images}.every(image => image.naturalWidth > 0)"
        self._wait_for(loaded)
        sources = self.page.evaluate(f"{images}.map(image => image.src)")
        return [self.page.request.get(source, timeout=PATIENCE).body() for source in sources]

    def fit_view(self) -> None:
        """Bring the whole workflow into the window, not what is selected alone. At once: a view
        that still glided there would move the next workflow's."""
        self.page.evaluate("window.app.canvas.deselectAll()")
        self.page.evaluate("window.app.canvas.fitViewToSelectionAnimated({ duration: 1 })")
        self.settle()

    def rectangles(self) -> dict[str, Rectangle]:
        """Left, top, right and bottom of every node as drawn, with its title bar; in Nodes 2.0 of
        its element, which may be larger than what LiteGraph knows. All nodes come into view."""
        self.fit_view()
        self.stand_still()
        found = self.page.evaluate(
            """() => window.app.graph.nodes.map(node => {
                const name = `${node.id} ${node.type}`
                const element = document.querySelector(`[data-node-id="${node.id}"]`)
                if (window.LiteGraph.vueNodesMode && element) {
                    const { scale, offset } = window.app.canvas.ds
                    const { left, top, right, bottom } = element.getBoundingClientRect()
                    const edges = [left, top, right, bottom]
                    return [name, edges.map((edge, i) => edge / scale - offset[i % 2])]
                }
                const [x, y, width, height] = node.boundingRect
                return [name, [x, y, x + width, y + height]]
            })"""
        )
        return {name: tuple(edges) for name, edges in found}

    def groups(self) -> dict[str, Rectangle]:
        """Left, top, right and bottom of every group."""
        found = self.page.evaluate(
            """() => window.app.graph.groups.map(({ title, pos, size }) =>
                [title, [pos[0], pos[1], pos[0] + size[0], pos[1] + size[1]]])"""
        )
        return {title: tuple(edges) for title, edges in found}

    def in_window(self, rectangle: Rectangle) -> Rectangle:
        """Where a part of the canvas is in the window now, in pixels."""
        scale, x, y = self.page.evaluate(
            "() => [window.app.canvas.ds.scale, ...window.app.canvas.ds.offset]"
        )
        left, top, right, bottom = rectangle
        return (scale * (left + x), scale * (top + y), scale * (right + x), scale * (bottom + y))

    def screenshot(self, name: str) -> Path:
        """The whole workflow, fitted into the window."""
        self.fit_view()
        self.stand_still()
        return self.photograph(name)

    def photograph(self, name: str) -> Path:
        """The window as it is."""
        path = self._screenshots / f"{name} ({self.mode}).png"
        self.page.screenshot(path=path)
        return path

    def allow_absent(self, file_name: str) -> None:
        """From now on it is no error that the page asks for this file, whenever it does: a
        browser asks for the pictures of a workflow once more when it likes."""
        self._absent_files.add(file_name)

    def take_errors(self) -> list[str]:
        """Console errors and alerts since the last call, without those known to be harmless and
        without warnings, which may be the pack's."""
        alerts = self.page.locator(f".p-toast-message:not({WARNING_ALERT})").all_inner_texts()
        errors, self._errors = self._errors + [f"alert: {text[:500]}" for text in alerts], []
        return errors

    def _wait_for(self, condition: str) -> None:
        self.page.wait_for_function(f"() => Boolean({condition})")

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type == "error" and not self._is_harmless(message):
            self._errors.append(f"{message.text} ({message.location.get('url', '')})")

    def _on_uncaught(self, error: PageError) -> None:
        if not self._only_errors_of_the_pack or PACK_FILES in str(error.stack):
            self._errors.append(f"uncaught: {error}")

    def _is_harmless(self, message: ConsoleMessage) -> bool:
        address = str(message.location.get("url", ""))
        if self._only_errors_of_the_pack and PACK_FILES not in message.text + address:
            return True
        if message.text.startswith(
            "Failed to load resource: the server responded with a status of 404"
        ):
            if any(f"filename={name}&" in address for name in self._absent_files):
                return True
            return address.removeprefix(self._url) in OPTIONAL_FILES
        if BLOCKED_CALL.match(message.text) or message.text == SUBGRAPH_OPENED:
            return True
        return self._is_starting and EARLY_SETTING.match(message.text) is not None
