"""Files that people have among their pictures, each with what must become of it."""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib
from typing import Any

import numpy as np
from PIL import ExifTags, Image

WIDTH, HEIGHT = 48, 32


def scene(mode: str = "RGB") -> Image.Image:
    """A picture whose four corners differ: 48 x 32, red ramp to the right, green ramp down."""
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    pixels[..., 0] = np.linspace(0, 255, WIDTH)[None]
    pixels[..., 1] = np.linspace(0, 255, HEIGHT)[:, None]
    pixels[..., 2] = np.random.default_rng(0).integers(0, 99, (HEIGHT, WIDTH))
    return Image.fromarray(pixels).convert(mode)


def encoded(kind: str, picture: Image.Image | None = None, **options: Any) -> bytes:
    buffer = io.BytesIO()
    (picture or scene()).save(buffer, kind, **options)
    return buffer.getvalue()


def exif(orientation: int) -> Image.Exif:
    found = Image.Exif()
    found[ExifTags.Base.Orientation] = orientation
    return found


def chunk(name: bytes, content: bytes) -> bytes:
    """A chunk of a PNG file."""
    whole = name + content
    return struct.pack(">I", len(content)) + whole + struct.pack(">I", zlib.crc32(whole))


def png_of(width: int, height: int, data: bytes = b"", depth: int = 8, colour: int = 2) -> bytes:
    """A PNG file with this head and whatever data."""
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def edited(content: bytes, old: bytes, new: bytes) -> bytes:
    assert old in content and len(old) == len(new)
    return content.replace(old, new, 1)


def cut(content: bytes, share: float) -> bytes:
    return content[: int(len(content) * share)]


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.txt", "a")
    return buffer.getvalue()


def sixteen_bit_rgb() -> bytes:
    """A PNG of 16 bits a colour, which Pillow does not write."""
    rows = b"".join(
        b"\0" + np.linspace(0, 65535, WIDTH * 3).astype(">u2").tobytes() for _ in range(HEIGHT)
    )
    return png_of(WIDTH, HEIGHT, rows, depth=16)


def frames(count: int = 3) -> list[Image.Image]:
    return [scene().point(lambda v, n=n: v // (n + 1)) for n in range(1, count + 1)]


def jpeg_of_size(width: int, height: int) -> bytes:
    """A JPEG whose head claims this size."""
    content = encoded("JPEG")
    place = content.index(b"\xff\xc0") + 5
    return content[:place] + struct.pack(">HH", height, width) + content[place + 4 :]


def transparent(mode: str = "RGBA") -> Image.Image:
    picture = scene("RGBA")
    picture.putalpha(Image.linear_gradient("L").resize(picture.size))
    return picture.convert(mode)


def palette_with_transparency() -> bytes:
    return encoded("PNG", scene().quantize(16), transparency=3)


# EXIF with one entry, the orientation as text: "6".
WORDS = b"Exif\0\0MM\0*\0\0\0\x08\0\1\x01\x12\0\2\0\0\0\2\x36\0\0\0\0\0\0\0"
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12345\n"
HTML = b"<!DOCTYPE html><html><body>404 Not Found</body></html>"
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"></svg>'
POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 48 32\nshowpage\n"
PSD = b"8BPS\0\1" + b"\0" * 6 + struct.pack(">HIIHH", 3, 32, 48, 8, 3) + b"\0" * 20
MP4 = b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + b"\0" * 100

# kind: (file name, content, reason of the quarantine)
UNUSABLE: dict[str, tuple[str, bytes, str]] = {
    "zero bytes": ("a.jpg", b"", "empty"),
    "one byte": ("a.jpg", b"\xff", "not a picture"),
    "text": ("a.jpg", b"to be done\n", "not a picture"),
    "text in UTF-16": ("a.png", "to be done".encode("utf-16"), "not a picture"),
    "an error page": ("a.jpg", HTML, "not a picture"),
    "a Git LFS pointer": ("a.png", LFS, "pointer"),
    "an answer in JSON": ("a.webp", json.dumps({"error": 403}).encode(), "not a picture"),
    "noise": ("a.jpg", np.random.default_rng(1).bytes(5000), "not a picture"),
    "zeros": ("a.jpg", bytes(4096), "not a picture"),
    "PDF": ("a.jpg", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n<<>>\nendobj\n", "not a picture"),
    "PostScript": ("a.png", POSTSCRIPT, "not a picture"),
    "SVG": ("a.png", SVG, "not a picture"),
    "Photoshop": ("a.tif", PSD, "not a picture"),
    "a zip archive": ("a.png", zipped(), "not a picture"),
    "a film": ("a.webp", MP4, "not a picture"),
    "an icon": ("a.png", encoded("ICO", sizes=[(32, 32)]), "not a picture"),
    "portable pixmap": ("a.bmp", encoded("PPM"), "not a picture"),
    "JPEG after a line of text": ("a.jpg", b"Content: jpg\n\n" + encoded("JPEG"), "not a picture"),
    "half a JPEG": ("a.jpg", cut(encoded("JPEG"), 0.7), "damaged"),
    "half a progressive JPEG": ("a.jpg", cut(encoded("JPEG", progressive=True), 0.6), "damaged"),
    "a JPEG's first bytes": ("a.jpg", encoded("JPEG")[:20], "damaged"),
    "a JPEG of no width": ("a.jpg", jpeg_of_size(0, 32), "damaged"),
    "a JPEG without its tables": (
        "a.jpg", edited(encoded("JPEG"), b"\xff\xdb\x00", b"\xff\xe5\x00"), "damaged"),
    "half a PNG": ("a.png", cut(encoded("PNG"), 0.5), "damaged"),
    "a PNG's signature": ("a.png", b"\x89PNG\r\n\x1a\n", "damaged"),
    "a PNG with a flipped bit": (
        "a.png", encoded("PNG")[:200] + bytes([encoded("PNG")[200] ^ 4]) + encoded("PNG")[201:],
        "damaged"),
    "a PNG of no height": ("a.png", png_of(48, 0), "damaged"),
    "a PNG of unknown colours": ("a.png", png_of(48, 32, bytes(9999), colour=5), "damaged"),
    "a PNG without pixels": ("a.png", png_of(48, 32), "damaged"),
    "half a WebP": ("a.webp", cut(encoded("WEBP"), 0.5), "damaged"),
    "half a GIF": ("a.gif", cut(encoded("GIF"), 0.6), "damaged"),
    "half a TIFF": ("a.tif", cut(encoded("TIFF", compression="tiff_lzw"), 0.4), "damaged"),
    "half a BMP": ("a.bmp", cut(encoded("BMP"), 0.5), "damaged"),
    "a PNG bomb": ("a.png", png_of(30_000, 30_000, bytes(1000)), "too many pixels"),
    "a PNG of all sizes": ("a.png", png_of(2**31 - 1, 2**31 - 1), "too many pixels"),
    "a JPEG bomb": ("a.jpg", jpeg_of_size(65_500, 65_500), "too many pixels"),
    "a huge picture": ("a.png", png_of(9_500, 9_500), "too many pixels"),
    "one pixel": ("a.png", encoded("PNG", Image.new("RGB", (1, 1))), "too small"),
    "a line": ("a.png", encoded("PNG", Image.new("RGB", (500, 1))), "too small"),
    "whole numbers of 32 bits": ("a.tif", encoded("TIFF", scene("L").convert("I")),
                                 "unsupported pixels"),
    "floating point": ("a.tif", encoded("TIFF", scene("L").convert("F")), "unsupported pixels"),
}  # fmt: skip

# kind: (file name, content, what is said of it); these are used.
MENDED: dict[str, tuple[str, bytes, tuple[str, ...]]] = {
    **{f"EXIF orientation {n}": ("a.jpg", encoded("JPEG", exif=exif(n), quality=95),
                                 (f"turned from orientation {n}",)) for n in range(2, 9)},
    "EXIF orientation 1": ("a.jpg", encoded("JPEG", exif=exif(1)), ()),
    "EXIF orientation 6 in PNG": ("a.png", encoded("PNG", exif=exif(6)),
                                  ("turned from orientation 6",)),
    "EXIF orientation 6 in WebP": ("a.webp", encoded("WEBP", exif=exif(6)),
                                   ("turned from orientation 6",)),
    "orientation 6 in TIFF": ("a.tif", encoded("TIFF", exif=exif(6)),
                              ("turned from orientation 6",)),
    "EXIF orientation 9": ("a.jpg", encoded("JPEG", exif=exif(9)), ("broken orientation ignored",)),
    "EXIF of noise": ("a.jpg", encoded("JPEG", exif=b"Exif\0\0" + bytes(range(7, 60))), ()),
    "EXIF cut short": ("a.jpg", encoded("JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\xff"), ()),
    "an orientation in words": ("a.jpg", encoded("JPEG", exif=WORDS),
                                ("broken orientation ignored",)),
    "CMYK": ("a.jpg", encoded("JPEG", scene("CMYK")), ("CMYK to RGB",)),
    "CMYK in TIFF": ("a.tif", encoded("TIFF", scene("CMYK")), ("CMYK to RGB",)),
    "LAB": ("a.tif", encoded("TIFF", scene("LAB")), ("LAB to RGB",)),
    "grey of 16 bits": ("a.png", encoded("PNG", scene("L").convert("I").point(lambda v: v * 257)
                                         .convert("I;16")), ("16 bits to 8",)),
    "colours of 16 bits": ("a.png", sixteen_bit_rgb(), ()),
    "one bit": ("a.png", encoded("PNG", scene("1")), ()),
    "grey": ("a.jpg", encoded("JPEG", scene("L")), ()),
    "transparent": ("a.png", encoded("PNG", transparent()), ("transparent parts on white",)),
    "transparent grey": ("a.png", encoded("PNG", transparent("LA")),
                         ("transparent parts on white",)),
    "transparent palette": ("a.png", palette_with_transparency(), ("transparent parts on white",)),
    "an animated GIF": ("a.gif", encoded("GIF", save_all=True, append_images=frames()),
                        ("first of several frames",)),
    "an animated WebP": ("a.webp", encoded("WEBP", save_all=True, append_images=frames()),
                         ("first of several frames",)),
    "an animated PNG": ("a.png", encoded("PNG", save_all=True, append_images=frames()),
                        ("first of several frames",)),
    "a TIFF of pages": ("a.tif", encoded("TIFF", save_all=True, append_images=frames()),
                        ("first of several frames",)),
    "PNG as .jpg": ("a.jpg", encoded("PNG"), ("PNG under another suffix",)),
    "JPEG as .png": ("a.png", encoded("JPEG"), ("JPEG under another suffix",)),
    "WebP as .jpg": ("a.jpg", encoded("WEBP"), ("WEBP under another suffix",)),
    "a broken colour profile": ("a.jpg", encoded("JPEG", icc_profile=b"no profile"), ()),
    "bytes after the picture": ("a.jpg", encoded("JPEG") + b"ad" * 999, ()),
    "a name of other letters": ("猫 🐈 & co.jpg", encoded("JPEG"), ()),
    "a suffix in capitals": ("A.JPG", encoded("JPEG"), ()),
}  # fmt: skip
