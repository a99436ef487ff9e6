"""From a list of pictures to shards, with what VAE and image encoder give computed once.

# Shapes: S entities, V variants, P patch tokens, c latent channels, R resolution.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor, nn

from ..bases.base_model import Autoencoder
from ..bases.encoders import encode_latents, weights_mark
from ..bases.vision import VisionEncoder
from ..recipes.configuration import TrainingRecipe
from ..runs import write_json
from .bad_sample import BadSample
from .framing import frame
from .layout import FEATURES, Entity, decode_picture
from .pictures_list import ListedPicture, load_picture
from .references import Augmentation, cut_out, reference_picture
from .shard_file import described, encode_picture, note_path, read_note, write_shard

JPEG_QUALITY = 95
SHARD_VERSION = 1
_SHARD_SETTINGS = ("resolution", "seed", "flip", "rotation", "perspective")


@dataclass(frozen=True, kw_only=True)
class FeatureMaker:
    """What is computed per sample: latents with ``vae``, tokens with ``vision``; None = not."""

    recipe: TrainingRecipe
    vae: Autoencoder | None
    vision: VisionEncoder | None
    variants: int
    device: torch.device

    def marks(self) -> dict[str, str]:
        """Which networks the features come from: kind -> hash of their weights."""
        networks: dict[str, nn.Module | None] = {"latents": self.vae, "tokens": self.vision}
        return {kind: weights_mark(n) for kind, n in networks.items() if n is not None}

    @torch.no_grad()
    def features(self, image: np.ndarray, entities: tuple[Entity, ...], seed: int) -> bytes:
        """latents (c, h, w), patch_embeds (S, V, P, C), image_embeds (S, V, E) as fp16."""
        tensors: dict[str, Tensor] = {}
        if self.vae is not None:
            pixels = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].to(self.device)
            tensors["latents"] = encode_latents(self.vae, pixels.float().div(127.5).sub(1))[0]
        if self.vision is not None:
            size = self.vision.shape.reference_size
            pictures = self.references(image, entities, seed, size).to(self.device)
            patches, embeds = self.vision(pictures)
            shape = (len(entities), self.variants)
            tensors["patch_embeds"] = patches.unflatten(0, shape)
            tensors["image_embeds"] = embeds.unflatten(0, shape)
        return save({k: v.to("cpu", torch.float16).contiguous() for k, v in tensors.items()})

    def references(
        self, image: np.ndarray, entities: tuple[Entity, ...], seed: int, size: int
    ) -> Tensor:
        """(S * V, 3, size, size): of each entity first the plain reference, then augmented ones."""
        recipe = self.recipe
        options = Augmentation(
            flip=recipe.flip, rotation=recipe.rotation, perspective=recipe.perspective
        )
        pictures = []
        for number, entity in enumerate(entities):
            for variant in range(self.variants):
                rng = np.random.default_rng((recipe.seed, seed, number, variant))
                turned = rng if variant else None
                cut = cut_out(image, entity.mask)
                pictures.append(reference_picture(cut, size, turned, options))
        return torch.stack(pictures)


def write_shards(
    pictures: list[ListedPicture], folder: Path, maker: FeatureMaker, samples_per_shard: int
) -> tuple[int, Counter[str]]:
    """Write shards of ``pictures``: the number of samples in them, and of pictures left out, by
    reason. Shards that hold just what they would hold now stay; others are made again, and what is
    beyond the last is removed."""
    folder.mkdir(parents=True, exist_ok=True)
    marks = maker.marks()
    samples, all_skipped, names = 0, Counter[str](), set()
    for shard, first in enumerate(range(0, len(pictures), samples_per_shard)):
        path = folder / f"{shard:05d}.tar"
        names.add(path.name)
        part = pictures[first : first + samples_per_shard]
        fingerprint = shard_fingerprint(part, maker, marks)
        note = read_note(path)
        if note.get("fingerprint") == fingerprint and path.exists():
            print(f"{path.name}: there already, {note['samples']} samples")
        else:
            skipped: Counter[str] = Counter()
            write_shard(path, usable_members(part, maker, marks, skipped))
            count = len(part) - skipped.total()
            note = {"fingerprint": fingerprint, "samples": count, "skipped": dict(skipped)}
            write_json(note_path(path), note)
            print(f"{path.name}: {count} samples", flush=True)
        samples += note["samples"]
        all_skipped.update(note["skipped"])
    for path in folder.glob("*.tar"):
        if path.name not in names:
            print(f"{path.name}: removed, the list is shorter now")
            path.unlink()
            note_path(path).unlink(missing_ok=True)
    return samples, all_skipped


def shard_fingerprint(part: list[ListedPicture], maker: FeatureMaker, marks: dict[str, str]) -> str:
    """Hash of all that a shard depends on: lines, files (size and time), settings, networks."""
    recipe = maker.recipe
    settings = [getattr(recipe, name) for name in _SHARD_SETTINGS]
    listed = [[repr(picture), *(file_state(path) for path in picture.files())] for picture in part]
    text = json.dumps([SHARD_VERSION, settings, maker.variants, marks, listed])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def file_state(path: Path) -> list[int]:
    """Size and time of a file; [] where there is none."""
    try:
        return [path.stat().st_size, path.stat().st_mtime_ns]
    except OSError:
        return []


def usable_members(
    pictures: list[ListedPicture],
    maker: FeatureMaker,
    marks: dict[str, str],
    skipped: Counter[str],
) -> Iterator[tuple[str, bytes]]:
    """(file name, content) of all samples; the others are named and counted in ``skipped``."""
    for listed in pictures:
        key = f"{listed.number:08d}"
        try:
            image, entities = frame(*load_picture(listed), maker.recipe.resolution)
            stored = encode_picture(image, "JPEG", quality=JPEG_QUALITY)
            image = decode_picture(stored, "RGB")  # features are those of the picture as stored
            features = maker.features(image, entities, listed.number) if marks else b""
        except BadSample as reason:
            skipped[str(reason)] += 1
            print(f"skipped line {listed.number} ({listed.picture.name}): {reason}")
            continue
        yield f"{key}.jpg", stored
        yield from described(key, listed.caption, entities, features=marks)
        if marks:
            yield f"{key}.{FEATURES}", features
