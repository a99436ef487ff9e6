"""The real server: started, asked over HTTP and WebSocket, ended with nothing left behind."""

from __future__ import annotations

import io
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from live_server import ROOT, is_open, make_server
from PIL import Image

from devtools.api_client import ComfyClient, Graph, PromptError
from devtools.console import DevError
from devtools.host import Host
from devtools.patience import PATIENCE_SECONDS
from devtools.server import LOOPBACK, ComfyServer, free_port
from devtools.workflows import PACK_NODES, node

EMPTY_IMAGE = node("EmptyImage", width=8, height=8, batch_size=1, color=0)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """16 x 8, opaque on the left half, transparent on the right one."""
    pixels = np.full((8, 16, 4), 255, dtype=np.uint8)
    pixels[:, 8:, 3] = 0
    path = tmp_path / "subject with spaces.png"
    Image.fromarray(pixels, "RGBA").save(path)
    return path


def mask_graph(name: str) -> Graph:
    """Stock nodes that save the picture's mask, 1 = subject."""
    return {
        "image": node("LoadImage", image=name),
        "mask": node("InvertMask", mask=["image", 1]),
        "grey": node("MaskToImage", mask=["mask", 0]),
        "save": node("SaveImage", images=["grey", 0], filename_prefix="mask"),
    }


def test_the_pack_is_loaded(client: ComfyClient) -> None:
    assert [name for name in PACK_NODES if not client.node_exists(name)] == []
    assert not client.node_exists("SubjectDiffusionNoSuchNode")


def test_a_picture_goes_in_and_its_mask_comes_out(client: ComfyClient, picture: Path) -> None:
    images = client.run(mask_graph(client.upload_image(picture)))
    assert len(images) == 1
    mask = np.asarray(Image.open(io.BytesIO(client.fetch_image(images[0]))).convert("L"))
    assert mask.shape == (8, 16)
    assert (mask[:, :8] == 255).all()
    assert (mask[:, 8:] == 0).all()


def test_results_arrive_without_the_websocket(client: ComfyClient, picture: Path) -> None:
    client.close()
    assert client.run(mask_graph(client.upload_image(picture)))


def test_a_refused_graph_is_one_sentence(client: ComfyClient, picture: Path) -> None:
    graph = mask_graph("absent.png")
    with pytest.raises(PromptError, match=r"Invalid image file: absent\.png \(node LoadImage\)$"):
        client.run(graph)
    graph["mask"] = node("NoSuchNode")
    with pytest.raises(PromptError, match=r"NoSuchNode'? (does not exist|not found)"):
        client.run(graph)
    assert client.run(mask_graph(client.upload_image(picture)))


def test_a_graph_that_would_run_in_part_is_refused(client: ComfyClient, picture: Path) -> None:
    """ComfyUI drops outputs it cannot make; who asked for two pictures must not get one."""
    graph = mask_graph(client.upload_image(picture))
    graph["other"] = node("SaveImage", images=["absent_image", 0], filename_prefix="other")
    graph["absent_image"] = node("LoadImage", image="absent.png")
    with pytest.raises(PromptError, match=r"Invalid image file: absent\.png \(node LoadImage\)$"):
        client.run(graph)
    del graph["other"]
    assert len(client.run(graph)) == 1


def test_a_failing_node_is_one_sentence(client: ComfyClient, picture: Path) -> None:
    graph = mask_graph(client.upload_image(picture))
    graph["save"]["inputs"]["filename_prefix"] = "../../outside"
    with pytest.raises(PromptError, match=r"outside the output folder .* \(node SaveImage\)$") as e:
        client.run(graph)
    assert "\n" not in str(e.value)
    assert client.run(mask_graph(client.upload_image(picture)))


def test_a_server_does_not_outlive_its_parent(comfyui_folder: Path, tmp_path: Path) -> None:
    script = f"""
import sys, time
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from devtools.console import Progress
from devtools.host import Host
from devtools.patience import PATIENCE_SECONDS
from devtools.server import ComfyServer, prepare_base
base = Path({str(tmp_path)!r})
prepare_base(base, Path({str(ROOT)!r}))
server = ComfyServer(host=Host(Path({str(comfyui_folder)!r})), python=Path(sys.executable),
                     base=base, log=base / "server.log", progress=Progress(sys.stderr))
with server:
    print(server.port, flush=True)
    time.sleep({PATIENCE_SECONDS})
"""
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    port = int(parent.stdout.readline())
    assert is_open(port)
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + PATIENCE_SECONDS
    while is_open(port) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not is_open(port)


def test_a_host_that_does_not_start_shows_its_last_lines(tmp_path: Path) -> None:
    (tmp_path / "comfy").mkdir()
    (tmp_path / "comfy" / "cli_args.py").write_text("")
    (tmp_path / "main.py").write_text("raise SystemExit('no such luck')\n")
    running = make_server(Host(tmp_path), tmp_path, tmp_path / "server.log")
    with pytest.raises(DevError, match=r"ended while starting; its last lines:\n    no such luck"):
        running.__enter__()
    assert not running.is_running()


def test_a_client_of_no_server_says_so(server: ComfyServer) -> None:
    with pytest.raises(OSError):
        ComfyClient(LOOPBACK, free_port())
    with (
        ComfyClient(LOOPBACK, server.port, lambda: False) as client,
        pytest.raises(DevError, match="ComfyUI ended while it was working"),
    ):
        client.run({"save": node("PreviewImage", images=["image", 0]), "image": EMPTY_IMAGE})
