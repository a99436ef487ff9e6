"""Perspective crops of photographic panoramas, with captions written by hand."""

from __future__ import annotations

import base64
import hashlib
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import OpenEXR
from PIL import Image
from scipy import ndimage

from ...runs import save_array, write_json
from .pictures import SIDE
from .split import HELDOUT_SCENES

CROPS_PER_SCENE = 200
SUPERSAMPLING = 2
MAX_GRADIENT_RATIO = 6.0


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A panorama: unique name, package ("panoramas" or "blender"), file stem and caption."""

    name: str
    package: str
    file: str
    caption: str

    @property
    def split(self) -> str:
        """ "heldout" or "train"."""
        return "heldout" if self.name in HELDOUT_SCENES else "train"


def _scene(name: str, package: str, file: str, caption: str) -> Scene:
    return Scene(name=name, package=package, file=file, caption=caption)


SCENES = (
    _scene("apartment", "panoramas", "apartment", "in an empty room with a wooden floor"),
    _scene("bridge", "panoramas", "bridge", "in a glass walkway"),
    _scene("square", "panoramas", "city", "in a city square"),
    _scene("desert", "panoramas", "dawn", "in a rocky desert at dusk"),
    _scene("mall", "panoramas", "esplanade", "in a shopping hall"),
    _scene("forest", "panoramas", "forest", "in a forest"),
    _scene("ballroom", "panoramas", "hall", "in a ballroom with a tiled floor"),
    _scene("lab", "panoramas", "lab", "in a green control room"),
    _scene("lobby", "panoramas", "lobby", "in a lobby with red benches"),
    _scene("savanna", "panoramas", "night", "in a dry savanna"),
    _scene("park", "panoramas", "park", "on a green lawn in a park"),
    _scene("sea", "panoramas", "sky", "over calm water under a cloudy sky"),
    _scene("studio", "panoramas", "studio", "in a photo studio"),
    _scene("meadow", "panoramas", "sunrise", "on a misty meadow"),
    _scene("venice", "panoramas", "sunset", "on a square in venice"),
    _scene("waterfront", "panoramas", "venice", "on a waterfront at dusk"),
    _scene("warehouse", "panoramas", "warehouse", "in an empty warehouse"),
    _scene("workshop", "panoramas", "workshop", "in a factory workshop"),
    _scene("carpark", "blender", "city", "in a car park between towers"),
    _scene("courtyard", "blender", "courtyard", "in a sunny courtyard"),
    _scene("garden", "blender", "forest", "on a garden path"),
    _scene("hotel", "blender", "interior", "in a hotel room"),
    _scene("field", "blender", "night", "on a grass field at dusk"),
    _scene("quay", "blender", "sunset", "on a quay at sunset"),
)


def read_exr(content: bytes) -> np.ndarray:
    """Linear radiance (H, W, 3) float32 of an EXR file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "panorama.exr"
        path.write_bytes(content)
        channels = OpenEXR.File(str(path)).channels()
        if "RGB" in channels:
            return np.asarray(channels["RGB"].pixels[..., :3], np.float32)
        return np.stack([channels[c].pixels for c in "RGB"], -1).astype(np.float32)


def read_panorama(scene: Scene, folders: dict[str, Path]) -> np.ndarray:
    """Linear radiance (H, W, 3) of a scene's panorama."""
    if scene.package == "blender":
        folder = folders["blender"] / "usr/share/blender/datafiles/studiolights/world"
        return read_exr((folder / f"{scene.file}.exr").read_bytes())
    text = (folders["panoramas"] / f"package/hdri/{scene.file}.exr.js").read_text()
    match = re.search(r"base64,([A-Za-z0-9+/=]+)", text)
    if match is None:
        raise ValueError(f"{scene.file}.exr.js: expected base64 data, got none.")
    return read_exr(base64.b64decode(match[1]))


def repair(radiance: np.ndarray) -> np.ndarray:
    """Replaces what compression broke: non-positive pixels and the dark rings beside lamps.

    A ring pixel is far darker than both its closing (max, then min over 5x5) and positive; it
    takes the closing's value. Works on (H, W, 3) and wraps around horizontally.
    """
    fixed = np.nan_to_num(radiance, nan=0.0, posinf=0.0, neginf=0.0)
    broken = (fixed <= 1e-5).any(-1)
    if broken.any() and not broken.all():
        nearest = ndimage.distance_transform_edt(broken, return_indices=True)[1]
        fixed = fixed[nearest[0], nearest[1]]
    size = (5, 5, 1)
    closed = ndimage.grey_closing(fixed, size=size, mode=("nearest", "wrap", "nearest"))
    lamp = ndimage.maximum_filter(fixed.max(-1), size=15, mode="wrap") > 20 * np.median(fixed)
    ring = lamp[..., None] & (closed > MAX_GRADIENT_RATIO * fixed)
    repaired: np.ndarray = np.where(ring, closed, fixed)
    return repaired


def tone_map(radiance: np.ndarray) -> np.ndarray:
    """Linear radiance -> display colour in 0..1: exposure by the log mean, soft shoulder, sRGB."""
    luminance = radiance @ np.array([0.2126, 0.7152, 0.0722])
    exposure = 0.22 / np.exp(np.log(luminance + 1e-4).mean())
    exposed = radiance * min(exposure, 0.75 / np.percentile(luminance, 70))
    shoulder = exposed * (1 + exposed / 16) / (1 + exposed)
    shoulder = shoulder / 0.62
    low = 12.92 * shoulder
    high = 1.055 * np.maximum(shoulder, 1e-6) ** (1 / 2.4) - 0.055
    display: np.ndarray = np.where(shoulder < 0.0031308, low, high)
    return display.clip(0, 1)


def perspective_crop(
    panorama: np.ndarray, yaw_deg: float, pitch_deg: float, fov_deg: float, side: int = SIDE
) -> np.ndarray:
    """A pinhole view into an equirectangular panorama.

    Args:
        panorama: (H, W, 3) in 0..1.
        yaw_deg: direction along the horizon.
        pitch_deg: up is positive.
        fov_deg: horizontal and vertical field of view.
        side: pixels of the square result.

    Returns:
        (side, side, 3) uint8.
    """
    count = side * SUPERSAMPLING
    reach = np.tan(np.radians(fov_deg) / 2)
    ticks = ((np.arange(count) + 0.5) / count * 2 - 1) * reach
    x, y = np.meshgrid(ticks, -ticks)
    pitch = np.radians(pitch_deg)
    up = y * np.cos(pitch) + np.sin(pitch)
    forward = np.cos(pitch) - y * np.sin(pitch)
    longitude = np.arctan2(x, forward) + np.radians(yaw_deg)
    latitude = np.arctan2(up, np.hypot(x, forward))
    height, width = panorama.shape[:2]
    column = (longitude / (2 * np.pi) % 1) * width - 0.5
    row = ((0.5 - latitude / np.pi) * height - 0.5).clip(0, height - 1)
    sampled = np.stack(
        [
            ndimage.map_coordinates(panorama[..., c], [row, column], order=1, mode="grid-wrap")
            for c in range(3)
        ],
        -1,
    )
    image = (sampled.clip(0, 1) * 255 + 0.5).astype(np.uint8)
    return np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BOX))


def scene_crops(scene: Scene, panorama: np.ndarray, count: int) -> np.ndarray:
    """`count` random crops (count, 128, 128, 3) uint8 of a tone-mapped panorama; fixed seed."""
    seed = int(hashlib.sha256(scene.name.encode()).hexdigest()[:8], 16)
    rng = np.random.default_rng(seed)
    return np.stack(
        [
            perspective_crop(
                panorama, rng.uniform(0, 360), rng.uniform(-28, 10), rng.uniform(55, 90)
            )
            for _ in range(count)
        ]
    )


def build_backgrounds(
    work: Path, folders: dict[str, Path], crops_per_scene: int = CROPS_PER_SCENE
) -> None:
    """Writes `backgrounds.npy` (n, 128, 128, 3) uint8 and `backgrounds.json` below `work`."""
    if (work / "backgrounds.json").exists():
        return
    crops, records = [], []
    for scene in SCENES:
        panorama = tone_map(repair(read_panorama(scene, folders)))
        crops.append(scene_crops(scene, panorama, crops_per_scene))
        record = {"scene": scene.name, "caption": scene.caption, "split": scene.split}
        records += [record] * crops_per_scene
    save_array(work / "backgrounds.npy", np.concatenate(crops))
    write_json(work / "backgrounds.json", records)
