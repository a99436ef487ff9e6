"""Small pictures for the tests of the tools."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6
CHANNELS = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGBA: 4}


def chunk(kind: bytes, data: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(kind + data))
    return struct.pack(">I", len(data)) + kind + data + checksum


def png_bytes(colour_type: int = RGBA, size: int = 8, transparent_palette: bool = False) -> bytes:
    """A square PNG of zeros."""
    header = struct.pack(">IIBBBBB", size, size, 8, colour_type, 0, 0, 0)
    pixels = zlib.compress((b"\0" + bytes(size * CHANNELS[colour_type])) * size)
    palette = chunk(b"PLTE", bytes(3)) if colour_type == PALETTE else b""
    transparency = chunk(b"tRNS", bytes(1)) if transparent_palette else b""
    body = chunk(b"IHDR", header) + palette + transparency + chunk(b"IDAT", pixels)
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b"")


@pytest.fixture
def make_png(tmp_path: Path) -> Callable[..., Path]:
    """Writes a PNG of a colour type to a name in the test's folder."""

    def make(name: str = "subject.png", **options: int) -> Path:
        path = tmp_path / name
        path.write_bytes(png_bytes(**options))
        return path

    return make
