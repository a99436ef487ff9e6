"""The pack as the registry hands it out: `.comfyignore` leaves what runs."""

from __future__ import annotations

import io
import json
import shutil
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from live_server import ROOT, running_server
from PIL import Image
from test_import import NODE_IDS

from devtools.api_client import ComfyClient
from devtools.archive import archive_size, archived_files, copy_archived
from devtools.console import DevError
from devtools.server import LOOPBACK, PACK_NAME, ComfyServer


@pytest.fixture(scope="module")
def archived(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of exactly the archived files."""
    folder = tmp_path_factory.mktemp("archive") / PACK_NAME
    copy_archived(ROOT, folder)
    return folder


@pytest.fixture(scope="module")
def archive_server(
    archived: Path, comfyui_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ComfyServer]:
    with running_server(comfyui_folder, tmp_path_factory.mktemp("run"), pack=archived) as running:
        yield running


def test_it_loads_with_all_nodes(archive_server: ComfyServer) -> None:
    with ComfyClient(LOOPBACK, archive_server.port, archive_server.is_running) as client:
        infos = client.node_infos()
    assert [name for name in infos if name.startswith("SubjectDiffusion")] == NODE_IDS
    assert "IMPORT FAILED" not in archive_server.log_tail(1000)


def pixels(server: ComfyServer) -> np.ndarray:
    graph = json.loads((ROOT / "tests" / "golden" / "one_subject.json").read_text("utf-8"))
    (scheduler,) = (one for one in graph.values() if one["class_type"] == "BasicScheduler")
    scheduler["inputs"]["steps"] = 2
    with ComfyClient(LOOPBACK, server.port, server.is_running) as client:
        images = [image for image in client.run(graph) if image.type == "output"]
        return np.asarray(Image.open(io.BytesIO(client.fetch_image(images[0]))))


def test_an_example_gives_the_same_picture(
    archive_server: ComfyServer, archived: Path, server: ComfyServer
) -> None:
    """Its subject's picture comes out of the archive, too, as the example's note tells people."""
    for folder, running in ((archived, archive_server), (ROOT, server)):
        shutil.copy(folder / "assets" / "subjects" / "crab.png", running.base / "input")
    assert np.array_equal(pixels(archive_server), pixels(server))


def get(server: ComfyServer, address: str) -> bytes:
    with urllib.request.urlopen(f"{server.url}{urllib.parse.quote(address)}") as response:
        content: bytes = response.read()
    return content


def test_the_page_gets_the_same_files(archive_server: ComfyServer, server: ComfyServer) -> None:
    """Scripts, help pages with their pictures, texts, examples."""
    web = [path for path in (ROOT / "web").rglob("*") if path.is_file()]
    examples = [path for path in (ROOT / "example_workflows").iterdir() if path.is_file()]
    addresses = [
        *(f"/extensions/{PACK_NAME}/{path.relative_to(ROOT / 'web').as_posix()}" for path in web),
        *(f"/api/workflow_templates/{PACK_NAME}/{path.name}" for path in examples),
    ]
    for address in addresses:
        assert get(archive_server, address) == get(server, address), address
    for address in ("/i18n", "/workflow_templates", "/extensions"):
        assert json.loads(get(archive_server, address)) == json.loads(get(server, address)), address


def test_the_page_gets_the_same_blueprints(
    archive_server: ComfyServer, server: ComfyServer
) -> None:
    pytest.importorskip("app.subgraph_manager", reason="this ComfyUI has no blueprints")
    blueprints = [json.loads(get(each, "/global_subgraphs")) for each in (archive_server, server)]
    names = [sorted(entry["name"] for entry in found.values()) for found in blueprints]
    assert names[0] == names[1] and "Personalise" in names[0]


def test_what_it_holds() -> None:
    files = {path.as_posix() for path in archived_files(ROOT)}
    for name in ("__init__.py", "pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        assert name in files
    for folder in ("tests", "training", "benchmarks", "devtools", "docs"):
        assert not [name for name in files if name.startswith(f"{folder}/")]
    weights = sum(path.stat().st_size for path in (ROOT / "weights").iterdir())
    assert archive_size(ROOT) < weights + 2.5e6


def test_another_form_of_the_list_is_refused(tmp_path: Path) -> None:
    for lines in ("tests/\n", "/*\n!/nodes/host\n", "/*\nweb\n", "/*\n!/*.py\n"):
        (tmp_path / ".comfyignore").write_text(lines)
        with pytest.raises(DevError, match=r"\.comfyignore: expected /\* and then lines such as"):
            archived_files(tmp_path)
