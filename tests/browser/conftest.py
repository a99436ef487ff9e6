"""The real front end in the system's Chromium, on a real server.

ComfyUI's folder comes from SUBJECT_DIFFUSION_COMFYUI (set by `dev.py test`) or COMFYUI_PATH;
without it nothing here is collected. These tests need a pytest process of their own. Without a
Chromium every one is skipped.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COMFYUI = os.environ.get("SUBJECT_DIFFUSION_COMFYUI") or os.environ.get("COMFYUI_PATH")
if COMFYUI is None:
    collect_ignore_glob = ["test_*.py"]
else:
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    from front_end import MERGE_TEXTS, MODES, FrontEnd, launched_chromium
    from live_server import running_server

    from devtools.browser import find_browser
    from devtools.server import ComfyServer, put_sample_pictures

# A user who has been here before: no tour, no template browser at the start.
SETTINGS = {"Comfy.TutorialCompleted": True, "Comfy.InstalledVersion": "1.0.0"}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-examples",
        action="store_true",
        help="write the example workflows and their golden graphs as the front end saves them",
    )
    parser.addoption(
        "--front-end",
        metavar="FOLDER",
        help="another front end than the host's: the folder `static` of a comfyui-frontend-package",
    )


@pytest.fixture(scope="session")
def server(
    pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ComfyServer]:
    """One server for all tests, with the sample pictures in its input folder."""
    assert COMFYUI is not None
    folder = tmp_path_factory.mktemp("server")
    front_end = pytestconfig.getoption("--front-end")
    options = ["--front-end-root", str(Path(front_end).resolve())] if front_end else []
    with running_server(Path(COMFYUI).resolve(), folder, options) as running:
        put_sample_pictures(running.base, ROOT)
        user = running.base / "user" / "default"
        user.mkdir(parents=True, exist_ok=True)
        (user / "comfy.settings.json").write_text(json.dumps(SETTINGS), encoding="utf-8")
        yield running


@pytest.fixture(scope="session")
def screenshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where screenshots go: SUBJECT_DIFFUSION_SCREENSHOTS, else a temporary folder."""
    given = os.environ.get("SUBJECT_DIFFUSION_SCREENSHOTS")
    folder = Path(given) if given else tmp_path_factory.mktemp("screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session", params=["LiteGraph", "Nodes 2.0"])
def open_front_end(
    request: pytest.FixtureRequest, server: ComfyServer, screenshots: Path
) -> Iterator[FrontEnd]:
    """The page in one mode of the front end, open for all tests of that mode."""
    browser_path = find_browser()
    if browser_path is None:
        pytest.skip("there is no Chromium")
    is_foreign = request.config.getoption("--front-end") is not None
    with launched_chromium(browser_path) as browser:
        front_end = FrontEnd(browser, server.url, screenshots, only_errors_of_the_pack=is_foreign)
        front_end.open(MODES[request.param])
        yield front_end
        front_end.close()


@pytest.fixture
def front_end(open_front_end: FrontEnd) -> Iterator[FrontEnd]:
    """The page; whatever the test does, its console must stay free of errors."""
    yield open_front_end
    assert open_front_end.take_errors() == []


@pytest.fixture
def chinese(open_front_end: FrontEnd, server: ComfyServer) -> Iterator[FrontEnd]:
    """A page of its own in Chinese; the server, which keeps the setting, forgets it afterwards."""
    settings = server.base / "user" / "default" / "comfy.settings.json"
    before = settings.read_bytes()
    settings.write_text(
        json.dumps(json.loads(before) | {"Comfy.Locale": "zh"}, indent=4), encoding="utf-8"
    )
    front_end = open_front_end.another()
    front_end.open(MODES[open_front_end.mode])
    front_end.page.evaluate(MERGE_TEXTS)
    yield front_end
    front_end.close()
    settings.write_bytes(before)
