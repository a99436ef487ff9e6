"""The layout editor gets pictures as Load Image reads them, and no other files."""

from __future__ import annotations

import io
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from devtools.server import LOOPBACK, ComfyServer

ORIENTATION = 0x0112


@pytest.fixture(scope="module")
def input_folder(server: ComfyServer) -> Path:
    folder = server.base / "input"
    pixels = np.zeros((24, 40, 4), np.uint8)
    pixels[:8, :8, 0] = 255  # one red corner
    pixels[..., 3] = 255
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        whole = Image.fromarray(pixels[..., :3])
        whole.save(folder / f"turned{orientation}.jpg", exif=exif, quality=95)
    pixels[:, 20:, 3] = 0
    Image.fromarray(pixels).save(folder / "half.webp", lossless=True)
    (folder / "words.jpg").write_text("no picture")
    return folder


def fetched(server: ComfyServer, **query: str) -> np.ndarray:
    address = f"http://{LOOPBACK}:{server.port}/subject_diffusion/picture"
    with urllib.request.urlopen(f"{address}?{urllib.parse.urlencode(query)}") as answer:
        return np.asarray(Image.open(io.BytesIO(answer.read())))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_pictures_are_those_of_load_image(
    server: ComfyServer, input_folder: Path, comfy_nodes: Any, base_folder: Path, orientation: int
) -> None:
    name = f"turned{orientation}.jpg"
    own = base_folder / "input" / name
    own.parent.mkdir(exist_ok=True)
    own.write_bytes((input_folder / name).read_bytes())
    loader = comfy_nodes.NODE_CLASS_MAPPINGS["LoadImage"]
    image = getattr(loader(), loader.FUNCTION)(image=name)[0][0]
    wanted = (image * 255).round().byte().numpy()
    assert np.array_equal(fetched(server, filename=name, subfolder="", type="input"), wanted)


def test_alpha(server: ComfyServer, input_folder: Path) -> None:
    whole = fetched(server, filename="half.webp", subfolder="", type="input")
    assert (whole[:, :20, 3] == 255).all() and (whole[:, 20:, 3] == 0).all()
    colours = fetched(server, filename="half.webp", subfolder="", type="input", channel="rgb")
    assert np.array_equal(colours, whole[..., :3])


@pytest.mark.parametrize(
    "query",
    [
        {"filename": "../../main.py"},
        {"filename": "comfyui.db", "subfolder": "../user"},
        {"filename": "turned1.jpg", "subfolder": "/"},
        {"filename": "turned1.jpg", "type": "models"},
        {"filename": "words.jpg"},
        {"filename": "absent.jpg"},
        {"filename": "a\0b.jpg"},
        {},
    ],
    ids=str,
)
def test_other_files_are_not_given(
    server: ComfyServer, input_folder: Path, query: dict[str, str]
) -> None:
    with pytest.raises(urllib.error.HTTPError) as error:
        fetched(server, **query)
    assert error.value.code == 404
