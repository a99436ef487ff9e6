"""Reads textured OBJ models straight out of a furniture library (a zip archive)."""

from __future__ import annotations

import io
import posixpath
import zipfile
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

# Shapes: V positions, T texture coordinates, N normals, F triangles.

MIN_OPACITY = 0.35  # glass must stay visible, or its subject has no mask
MAX_TEXTURE_SIDE = 512


class MeshError(ValueError):
    """A model holds nothing that can be drawn."""


@dataclass
class Material:
    """Colour (3,) in 0..1, opacity in 0..1 and, where given, a texture (H, W, 4) uint8."""

    colour: np.ndarray = field(default_factory=lambda: np.full(3, 0.8))
    opacity: float = 1.0
    texture: np.ndarray | None = None


@dataclass
class Mesh:
    """Triangles with their own corners: no vertex is shared.

    corners (F, 3, 3) positions; normals (F, 3, 3), zero where the file has none; uvs (F, 3, 2);
    material_index (F,) into `materials`.
    """

    corners: np.ndarray
    normals: np.ndarray
    uvs: np.ndarray
    material_index: np.ndarray
    materials: list[Material]


def read_texture(archive: zipfile.ZipFile, path: str) -> np.ndarray | None:
    """Texture as (H, W, 4) uint8, at most 512 pixels a side; None where it cannot be read."""
    try:
        image = Image.open(io.BytesIO(archive.read(path))).convert("RGBA")
    except (KeyError, OSError):
        return None
    image.thumbnail((MAX_TEXTURE_SIDE, MAX_TEXTURE_SIDE))
    return np.asarray(image)


def read_materials(archive: zipfile.ZipFile, path: str) -> dict[str, Material]:
    """Materials of an MTL file by name; a texture replaces the material's colour."""
    materials: dict[str, Material] = {}
    current = Material()
    for line in archive.read(path).decode("latin-1").splitlines():
        key, _, rest = line.strip().partition(" ")
        rest = rest.strip()
        if key == "newmtl":
            current = materials[rest] = Material()
        elif key == "Kd":
            current.colour = np.clip([float(v) for v in rest.split()[:3]], 0.03, 1.0)
        elif key == "d" and rest:
            current.opacity = max(float(rest.split()[-1]), MIN_OPACITY)
        elif key == "map_Kd":
            folder = posixpath.dirname(path)
            current.texture = read_texture(archive, posixpath.join(folder, rest.split("/")[-1]))
    return materials


def parse_face(words: list[str], counts: tuple[int, int, int]) -> list[tuple[int, int, int]]:
    """Corners of one OBJ face as (position, uv, normal) indices from 0; -1 where not given."""
    corners = []
    for word in words:
        parts = word.split("/")
        corner = [-1, -1, -1]
        for slot, part in enumerate(parts[:3]):
            if part:
                index = int(part)
                corner[slot] = index - 1 if index > 0 else counts[slot] + index
        corners.append((corner[0], corner[1], corner[2]))
    return corners


def gather(values: list[list[float]], index: np.ndarray, width: int) -> np.ndarray:
    """Rows of `values` by `index` (F, 3); rows of index -1 are zero. Gives (F, 3, width)."""
    table = np.zeros((len(values) + 1, width), np.float32)
    if values:
        table[:-1] = np.asarray(values, np.float32)
    return table[np.where(index < len(values), index, -1)]


def read_mesh(archive: zipfile.ZipFile, path: str) -> Mesh:
    """Reads the OBJ file `path` of `archive` with its materials and textures."""
    positions: list[list[float]] = []
    uvs: list[list[float]] = []
    normals: list[list[float]] = []
    triangles: list[tuple[tuple[int, int, int], ...]] = []
    owners: list[int] = []
    library: dict[str, Material] = {}
    names: dict[str, int] = {"": 0}
    owner = 0
    for line in archive.read(path).decode("latin-1").splitlines():
        words = line.split()
        key = words[0] if words else ""
        if key == "v":
            positions.append([float(v) for v in words[1:4]])
        elif key == "vt":
            uvs.append([float(v) for v in words[1:3]])
        elif key == "vn":
            normals.append([float(v) for v in words[1:4]])
        elif key == "f":
            ring = parse_face(words[1:], (len(positions), len(uvs), len(normals)))
            triangles += [(ring[0], ring[i], ring[i + 1]) for i in range(1, len(ring) - 1)]
            owners += [owner] * (len(ring) - 2)
        elif key == "usemtl":
            owner = names.setdefault(" ".join(words[1:]), len(names))
        elif key == "mtllib":
            file = posixpath.join(posixpath.dirname(path), line.strip().split(" ", 1)[1].strip())
            library |= read_materials(archive, file)
    if not triangles:
        raise MeshError(f"{path}: expected triangles, got none.")
    index = np.asarray(triangles)
    return Mesh(
        corners=gather(positions, index[..., 0], 3),
        uvs=gather(uvs, index[..., 1], 2),
        normals=gather(normals, index[..., 2], 3),
        material_index=np.asarray(owners),
        materials=[library.get(name, Material()) for name in names],
    )
