"""Draws a textured mesh from any direction on the CPU, by casting rays."""

from __future__ import annotations

import numpy as np
from embreex import rtcore_scene
from embreex.mesh_construction import TriangleMesh

from .mesh import Mesh

# Shapes: R rays, F triangles. Colours are in 0..1 and not linearised (as the catalogue's icons).

MAX_LAYERS = 5
AMBIENT = 0.5
LIGHT_IN_VIEW = np.array([-0.45, 0.65, 0.61])  # right, up, towards the camera
CAMERA_DISTANCE = 4.0  # in radii of the bounding sphere


def fit_mesh(
    mesh: Mesh,
    size_cm: tuple[float, float, float] | None,
    rotation: tuple[float, ...] | None,
) -> None:
    """Turns and scales `mesh` in place: catalogue proportions, centred, bounding radius 1."""
    if rotation is not None:
        turn = np.asarray(rotation, np.float32).reshape(3, 3)
        mesh.corners = mesh.corners @ turn.T
        mesh.normals = mesh.normals @ turn.T
    low, high = mesh.corners.min((0, 1)), mesh.corners.max((0, 1))
    extent = np.maximum(high - low, 1e-6)
    corners = mesh.corners - (low + high) / 2
    if size_cm is not None:
        scale = np.asarray(size_cm, np.float32) / extent
        corners = corners * scale
        mesh.normals = mesh.normals / scale
    mesh.corners = (corners / np.linalg.norm(corners, axis=-1).max()).astype(np.float32)


def view_direction(azimuth_deg: float, elevation_deg: float) -> np.ndarray:
    """Unit vector (3,) from the model to the camera; azimuth 0 is its front (+z), y is up."""
    azimuth, elevation = np.radians([azimuth_deg, elevation_deg])
    return np.array(
        [
            np.sin(azimuth) * np.cos(elevation),
            np.sin(elevation),
            np.cos(azimuth) * np.cos(elevation),
        ]
    )


def camera_axes(direction: np.ndarray) -> np.ndarray:
    """Rows right, up, towards-camera (3, 3) of a camera that looks along -direction."""
    right = np.cross([0.0, 1.0, 0.0], direction)
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(direction, right), direction])


class MeshRenderer:
    """Casts rays at one mesh; build it once per model, then draw as many views as wanted."""

    def __init__(self, mesh: Mesh) -> None:
        self.mesh = mesh
        self.scene = rtcore_scene.EmbreeScene()
        TriangleMesh(self.scene, np.ascontiguousarray(mesh.corners, np.float32))

    def draw(self, direction: np.ndarray, longest_side: int, supersampling: int = 2) -> np.ndarray:
        """Draws the model cropped to its outline.

        Args:
            direction: unit vector (3,) from the model to the camera.
            longest_side: pixels of the longer side of the result.
            supersampling: rays per pixel and axis.

        Returns:
            (h, w, 4) uint8, straight (not premultiplied) alpha.
        """
        axes = camera_axes(direction)
        origin = direction * CAMERA_DISTANCE
        seen = (self.mesh.corners.reshape(-1, 3) - origin) @ axes.T
        plane = seen[:, :2] / -seen[:, 2:]
        low, high = plane.min(0), plane.max(0)
        size = np.maximum((high - low) / (high - low).max() * longest_side, 4).round().astype(int)
        columns, rows = size * supersampling
        x = low[0] + (np.arange(columns) + 0.5) / columns * (high[0] - low[0])
        y = high[1] - (np.arange(rows) + 0.5) / rows * (high[1] - low[1])
        grid = np.stack(np.broadcast_arrays(x[None], y[:, None], -1.0), -1).reshape(-1, 3)
        rays = grid @ axes
        rays /= np.linalg.norm(rays, axis=1, keepdims=True)
        colour, alpha = self.trace(origin, rays, axes)
        blocks = (size[1], supersampling, size[0], supersampling)
        alpha = alpha.reshape(blocks).mean((1, 3))
        colour = colour.reshape(*blocks, 3).mean((1, 3)) / np.maximum(alpha, 1e-6)[..., None]
        return (np.dstack([colour, alpha]).clip(0, 1) * 255 + 0.5).astype(np.uint8)

    def trace(
        self, origin: np.ndarray, rays: np.ndarray, axes: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Premultiplied colour (R, 3) and alpha (R,) along rays (R, 3), front to back."""
        colour = np.zeros((len(rays), 3))
        through = np.ones(len(rays))
        starts = np.broadcast_to(origin, rays.shape).astype(np.float32)
        active = np.arange(len(rays))
        for _ in range(MAX_LAYERS):
            hits = self.scene.run(
                np.ascontiguousarray(starts, np.float32),
                np.ascontiguousarray(rays[active], np.float32),
                query="INTERSECT",
                output=True,
            )
            met = hits["primID"] >= 0
            if not met.any():
                break
            active, starts = active[met], starts[met]
            hits = {key: value[met] for key, value in hits.items()}
            surface, opacity = self.shade(hits, rays[active], axes)
            colour[active] += (through[active] * opacity)[:, None] * surface
            through[active] *= 1 - opacity
            starts = starts + rays[active] * (hits["tfar"][:, None] + 1e-4)
            further = through[active] > 0.02
            active, starts = active[further], starts[further]
            if not len(active):
                break
        return colour, 1 - through

    def shade(
        self, hits: dict[str, np.ndarray], rays: np.ndarray, axes: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Lit colour (R, 3) and opacity (R,) where rays met the mesh; both sides are lit."""
        triangle = hits["primID"]
        weights = np.stack([1 - hits["u"] - hits["v"], hits["u"], hits["v"]], 1)
        corners = self.mesh.corners[triangle]
        flat = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        normal = np.einsum("rc,rcx->rx", weights, self.mesh.normals[triangle])
        normal = np.where(np.abs(normal).sum(1, keepdims=True) > 1e-6, normal, flat)
        normal = normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-9)
        normal = normal * np.where((normal * rays).sum(1, keepdims=True) > 0, -1.0, 1.0)
        light = LIGHT_IN_VIEW / np.linalg.norm(LIGHT_IN_VIEW) @ axes
        brightness = AMBIENT + (1.08 - AMBIENT) * np.maximum(normal @ light, 0)
        uv = np.einsum("rc,rcx->rx", weights, self.mesh.uvs[triangle])
        surface, opacity = self.sample_materials(self.mesh.material_index[triangle], uv)
        return (surface * brightness[:, None]).clip(0, 1), opacity

    def sample_materials(
        self, material_index: np.ndarray, uv: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Unlit colour (R, 3) and opacity (R,) at texture coordinates uv (R, 2)."""
        surface = np.empty((len(uv), 3))
        opacity = np.empty(len(uv))
        for index in np.unique(material_index):
            material = self.mesh.materials[index]
            chosen = material_index == index
            surface[chosen], opacity[chosen] = material.colour, material.opacity
            if material.texture is not None:
                height, width = material.texture.shape[:2]
                column = np.floor((uv[chosen, 0] % 1) * width).astype(int) % width
                row = np.floor((1 - uv[chosen, 1] % 1) * height).astype(int) % height
                texel = material.texture[row, column] / 255.0
                surface[chosen] = texel[:, :3]
                opacity[chosen] = texel[:, 3] * material.opacity
        return surface, opacity
