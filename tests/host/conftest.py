"""Puts a real ComfyUI into this test process and loads the pack into it as ComfyUI itself does.

ComfyUI's folder comes from SUBJECT_DIFFUSION_COMFYUI (set by `dev.py test`) or COMFYUI_PATH;
without it, nothing in this folder is collected. These tests need a pytest process of their own.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
COMFYUI = os.environ.get("SUBJECT_DIFFUSION_COMFYUI") or os.environ.get("COMFYUI_PATH")
if COMFYUI is None:
    collect_ignore_glob = ["test_*.py"]


def enter_comfyui(folder: Path, base: Path) -> None:
    """Make `import nodes` mean ComfyUI's, on the CPU, with all its files below `base`."""
    # ComfyUI first: this repository has a folder called nodes, too.
    sys.path.insert(0, str(folder))
    if str(ROOT) not in sys.path:
        sys.path.append(str(ROOT))
    from comfy.cli_args import args

    args.cpu = True
    args.base_directory = str(base)
    args.disable_api_nodes = True
    # As main.py does, before ComfyUI's nodes.py puts its folder comfy on the path.
    import utils.extra_config  # noqa: F401

    # Now, as pytest puts this repository first if its folder's name cannot be a package's.
    import nodes  # noqa: F401


if COMFYUI is not None:
    BASE = Path(tempfile.mkdtemp(prefix="subject-diffusion-host-"))
    enter_comfyui(Path(COMFYUI).resolve(), BASE)
    from devtools.api_client import ComfyClient
    from devtools.server import LOOPBACK, PACK_NAME, ComfyServer, prepare_base, remove_tree

    prepare_base(BASE, ROOT)
    sys.path.append(str(ROOT / "tests"))
    from host_models import Host
    from live_server import running_server


def pytest_unconfigure() -> None:
    """Leave no temporary folder behind."""
    if COMFYUI is not None:
        remove_tree(BASE)


@pytest.fixture(scope="session")
def comfyui_folder() -> Path:
    """The folder with ComfyUI's main.py."""
    return Path(str(COMFYUI)).resolve()


@pytest.fixture(scope="session")
def server(comfyui_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyServer]:
    """One server for all tests: files and history of other tests may be there already."""
    with running_server(comfyui_folder, tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture
def client(server: ComfyServer) -> Iterator[ComfyClient]:
    with ComfyClient(LOOPBACK, server.port, server.is_running) as connected:
        yield connected


@pytest.fixture(scope="session")
def base_folder() -> Path:
    """ComfyUI's base folder in this process: models, input, output, custom_nodes with the pack."""
    return BASE


@pytest.fixture(scope="session")
def comfy_nodes() -> ModuleType:
    """ComfyUI's `nodes` module with its own extra nodes and the pack's nodes loaded."""
    import nodes

    asyncio.run(nodes.init_extra_nodes(init_custom_nodes=True, init_api_nodes=False))
    return nodes


@pytest.fixture(scope="session")
def pack(comfy_nodes: ModuleType) -> ModuleType:
    """The pack's root module as ComfyUI imported it; submodules are found below its `__name__`."""
    link = str(BASE / "custom_nodes" / PACK_NAME)
    for name in (link.replace(".", "_x_"), link):
        if name in sys.modules:
            return sys.modules[name]
    raise AssertionError(f"ComfyUI did not import the pack from {link}")


@pytest.fixture
def models_folder() -> Iterator[Path]:
    """The empty folder models/subject_diffusion of this process's ComfyUI; emptied afterwards."""
    folder = BASE / "models" / "subject_diffusion"
    folder.mkdir(parents=True, exist_ok=True)
    yield folder
    shutil.rmtree(folder)
    folder.mkdir()


@pytest.fixture(scope="session")
def host(pack: ModuleType) -> Host:
    """The pack's modules and random models inside ComfyUI."""
    return Host(pack)


@pytest.fixture(autouse=True)
def inference_mode() -> Iterator[None]:
    """ComfyUI runs nodes in inference mode."""
    with torch.inference_mode():
        yield
