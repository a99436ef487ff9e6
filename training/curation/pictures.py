"""The bytes of a picture and its pixels as it is shown, or one of a fixed list of reasons."""

from __future__ import annotations

import io
import tarfile
import warnings
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from .record import PictureSource

# What people keep photos in. Formats that start other programs or hold drawings stay shut.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
SUFFIXES = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"), "MPO": (".jpg", ".jpeg", ".mpo"),
    "PNG": (".png", ".apng"), "WEBP": (".webp",), "GIF": (".gif",), "BMP": (".bmp",),
    "TIFF": (".tif", ".tiff"),
}  # fmt: skip
BEGINNINGS = (b"\xff\xd8", b"\x89PNG", b"GIF8", b"RIFF", b"II*\x00", b"MM\x00*")
MAX_BYTES = 256 * 2**20
MAX_PIXELS = 89_478_485  # Pillow's own limit for a picture that is no bomb
MIN_SIDE = 8
ORIENTATION = 0x0112
# EXIF orientation -> what brings the stored pixels to what is shown.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
LFS_POINTER = b"version https://git-lfs.github.com/spec/"

# Why a picture is quarantined, and what is said of it.
REASONS = {
    "missing": "nothing is at the path",
    "unreadable": "the file or its archive cannot be read",
    "empty": "zero bytes",
    "too many bytes": f"more than {MAX_BYTES // 2**20} MiB",
    "pointer": "a Git LFS pointer in place of the picture",
    "not a picture": "no JPEG, PNG, WebP, GIF, BMP or TIFF",
    "too many pixels": f"more than {MAX_PIXELS} pixels",
    "too small": f"a side of fewer than {MIN_SIDE} pixels",
    "damaged": "it begins as a picture and does not go on as one",
    "unsupported pixels": "numbers that are no brightness or colour of 8 or 16 bits",
    "annotations": "its boxes or masks do not fit it",
    "listed twice": "another entry of the source has the same key",
}


class BadPicture(ValueError):
    """A picture that cannot be used: a reason of REASONS, and a detail."""

    def __init__(self, reason: str, detail: str = "") -> None:
        assert reason in REASONS
        super().__init__(reason)
        self.reason, self.detail = reason, detail


def read_bytes(source: PictureSource) -> bytes:
    """The picture's bytes; raises BadPicture."""
    try:
        content = _member(source) if source.member else _file(Path(source.path))
    except FileNotFoundError as error:
        raise BadPicture("missing", source.path) from error
    except (OSError, tarfile.TarError, EOFError) as error:
        raise BadPicture("unreadable", f"{type(error).__name__}: {error}") from error
    if not content:
        raise BadPicture("empty")
    if content.startswith(LFS_POINTER):
        raise BadPicture("pointer")
    return content


def _file(path: Path) -> bytes:
    if path.is_dir():
        raise BadPicture("unreadable", "a folder")
    _require_bytes(path.stat().st_size)
    return path.read_bytes()


def _member(source: PictureSource) -> bytes:
    places, _ = tar_members(source.path, Path(source.path).stat().st_mtime_ns)
    offset, size = places.get(source.member, (-1, 0))
    if offset < 0:
        raise BadPicture("missing", f"{source.member} in {source.path}")
    _require_bytes(size)
    with open(source.path, "rb") as file:
        file.seek(offset)
        content = file.read(size)
    if len(content) < size:
        raise BadPicture("unreadable", "the archive is cut short")
    return content


@lru_cache(maxsize=4)
def tar_members(archive: str, changed_ns: int) -> tuple[dict[str, tuple[int, int]], str]:
    """Offset and size of every file in a .tar file, in its order; and what is wrong with it, ""
    for nothing: the members before the damage are whole.

    Args:
        changed_ns: the file's time, so that a new one is read anew.
    """
    places = {}
    try:
        with tarfile.open(archive, "r:") as tar:
            for member in tar:
                if member.isfile():
                    places[member.name] = (member.offset_data, member.size)
    except (tarfile.TarError, EOFError) as error:
        return places, f"{type(error).__name__}: {error}"
    return places, ""


def _require_bytes(size: int) -> None:
    if size > MAX_BYTES:
        raise BadPicture("too many bytes", f"{size} bytes")


def open_picture(content: bytes) -> Image.Image:
    """The picture with its header read and no pixels yet; raises BadPicture."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            picture = Image.open(io.BytesIO(content), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise BadPicture("too many pixels", str(error)) from error
    except UnidentifiedImageError as error:
        reason = "damaged" if content.startswith(BEGINNINGS) else "not a picture"
        raise BadPicture(reason, f"begins {content[:16].hex(' ')}") from error
    except Exception as error:  # a decoder's own faults on broken headers are of any kind
        raise BadPicture("damaged", f"{type(error).__name__}: {error}") from error
    width, height = picture.size
    if width * height > MAX_PIXELS:
        raise BadPicture("too many pixels", f"{width} x {height}")
    if min(width, height) < MIN_SIDE:
        raise BadPicture("too small", f"{width} x {height}")
    if picture.format == "PNG":
        _require_checksums(content)
    return picture


def _require_checksums(content: bytes) -> None:
    """Those of a PNG's chunks, which decoding its pixels does not look at."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            Image.open(io.BytesIO(content), formats=("PNG",)).verify()
    except Exception as error:  # a decoder's own faults on broken files are of any kind
        raise BadPicture("damaged", f"{type(error).__name__}: {error}") from error


def orientation(picture: Image.Image) -> int | None:
    """1 to 8 as the camera says, 1 where it says nothing; None where what it says is broken."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = picture.getexif().get(ORIENTATION, 1)
    except Exception:  # broken EXIF raises struct.error, SyntaxError, ValueError, TypeError, ...
        return None
    return found if found in (1, *TURNS) else None


def decode(picture: Image.Image) -> Image.Image:
    """RGB as it is shown: turned, transparent parts on white, 16 bits as 8; raises BadPicture."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            picture.load()
            turn = TURNS.get(orientation(picture) or 1)  # loading a TIFF turns it already
            colours = _to_rgb(picture)
    except BadPicture:
        raise
    except Exception as error:  # a decoder's own faults on broken files are of any kind
        raise BadPicture("damaged", f"{type(error).__name__}: {error}") from error
    return colours if turn is None else colours.transpose(turn)


def is_transparent(picture: Image.Image) -> bool:
    """Whether a loaded picture has pixels that are not opaque."""
    if not picture.has_transparency_data:
        return False
    return bool(np.asarray(picture.convert("RGBA").getchannel("A")).min() < 255)


def _to_rgb(picture: Image.Image) -> Image.Image:
    if picture.mode == "RGB" and not picture.has_transparency_data:
        return picture
    if picture.mode.startswith("I;16"):
        return picture.point(lambda value: value * (1 / 256)).convert("L").convert("RGB")
    if picture.mode in ("I", "F"):
        raise BadPicture("unsupported pixels", picture.mode)
    if is_transparent(picture):
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, picture).convert("RGB")
    return picture.convert("RGB")


def load(source: PictureSource) -> Image.Image:
    """RGB as it is shown; raises BadPicture."""
    return decode(open_picture(read_bytes(source)))
