"""What reading a training sample costs at Stable Diffusion 2's sizes, beside plain webdataset.

    python -m benchmarks.reader [--write docs/reader.md]

Makes shards of latents and ViT-H tokens in a temporary folder (about 1.3 GB) and reads them in one
process, from the system's cache, in turns; the least processor time of each counts. Plain
webdataset goes through a shard from its beginning and has a sample as soon as its latents and one
variant of each subject's tokens are tensors; ours reads the same by position, with prompt, places
and masks on top. Needs `pip install webdataset`.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load, save

from training.bases.base_model import BaseModel
from training.bases.loading import random_base
from training.bases.vision import VIT_H, clip_shape
from training.dataset.catalogue import Catalogue, open_catalogue
from training.dataset.members import Members
from training.dataset.samples import SubjectDataset
from training.recipes import recipe_named

SUBJECTS, VARIANTS, SIDE, LATENT = 2, 4, 512, 64
FEW, MANY, PER_SHARD = 8, 72, 3
ROUNDS = 5
SHAPE = clip_shape(VIT_H)


def sample_members() -> dict[str, bytes]:
    """The files of one sample, by suffix."""
    tokens = torch.randn(SUBJECTS, VARIANTS, SHAPE.num_patches, SHAPE.patch_dim)
    embeds = torch.randn(SUBJECTS, VARIANTS, SHAPE.image_embed_dim)
    features = {"latents": torch.randn(4, LATENT, LATENT)}
    features |= {"patch_embeds": tokens, "image_embeds": embeds}
    entities: list[dict[str, Any]] = [
        {"label": label, "box": [0.1 + x, 0.2, 0.4 + x, 0.9], "mask": f"mask{n}.png"}
        for n, (label, x) in enumerate((("dog", 0.0), ("cat", 0.5)))
    ]
    metadata: dict[str, Any] = {"caption": "a dog and a cat", "entities": entities}
    metadata["features"] = {"latents": "0" * 16, "tokens": "0" * 16}
    members = {"jpg": picture(np.random.default_rng(0).integers(256, size=(SIDE, SIDE, 3)), "JPEG")}
    for number, entity in enumerate(entities):
        mask = np.zeros((SIDE, SIDE))
        left, top, right, bottom = (round(edge * SIDE) for edge in entity["box"])
        mask[top:bottom, left:right] = 255
        members[f"mask{number}.png"] = picture(mask, "PNG")
    members["json"] = json.dumps(metadata).encode()
    members["features.safetensors"] = save({k: v.half() for k, v in features.items()})
    return members


def picture(pixels: np.ndarray, kind: str) -> bytes:
    """A picture file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(buffer, kind)
    return buffer.getvalue()


def write_shards(folder: Path, members: dict[str, bytes], first: int, count: int) -> None:
    """Shards number ``first`` and on, all of the same sample."""
    folder.mkdir(exist_ok=True)
    for shard in range(first, first + count):
        with tarfile.open(folder / f"{shard:05d}.tar", "w") as archive:
            for number in range(PER_SHARD):
                for suffix, content in members.items():
                    member = tarfile.TarInfo(f"{shard:05d}{number:03d}.{suffix}")
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))


def plain_samples(folder: Path) -> Iterator[object]:
    """What webdataset gives, as tensors."""
    import webdataset

    urls = [str(path) for path in sorted(folder.glob("*.tar"))]
    for sample in webdataset.WebDataset(urls, shardshuffle=False):
        features = load(sample["features.safetensors"])
        chosen = [features[name][:, 0].float() for name in ("patch_embeds", "image_embeds")]
        yield json.loads(sample["json"]), features["latents"].float(), chosen


def seconds_a_sample(samples: Iterator[object]) -> float:
    """Mean time of this process's processor for all that comes."""
    begun = time.process_time()
    count = sum(1 for _ in samples)
    return (time.process_time() - begun) / count


class CountedMembers:
    """Counts what is read of shards while it is open."""

    def __enter__(self) -> CountedMembers:
        self.size, self._part = 0, Members.part
        part = self._part

        def counted(members: Members, suffix: str, offset: int, size: int) -> bytes:
            content = part(members, suffix, offset, size)
            self.size += len(content)
            return content

        Members.part = counted  # type: ignore[method-assign, assignment]
        return self

    def __exit__(self, *_: object) -> None:
        Members.part = self._part  # type: ignore[method-assign]


def dataset(catalogue: Catalogue, base: BaseModel) -> SubjectDataset:
    """The loop's reader."""
    return SubjectDataset(catalogue, recipe_named("paper_sd2"), SHAPE, base)


def measure(folder: Path) -> dict[str, float]:
    """Ratios and sizes."""
    few, many = folder / "few", folder / "many"
    members = sample_members()
    write_shards(few, members, 0, FEW)
    write_shards(many, members, 0, MANY)
    base = random_base(recipe_named("debug_cpu"))
    readers = {
        name: dataset(open_catalogue(place, folder / f"{name}-index"), base)
        for name, place in (("few", few), ("many", many))
    }
    times: dict[str, list[float]] = {"few": [], "many": [], "plain": []}
    for _ in range(ROUNDS):
        for name, reader in readers.items():
            count = sum(reader.catalogue.counts)
            times[name].append(seconds_a_sample(reader[i] for i in range(count)))
        times["plain"].append(seconds_a_sample(plain_samples(few)))
    with CountedMembers() as counted:
        number = sum(readers["few"].catalogue.counts)
        for position in range(number):
            readers["few"][position]
    before = {path: path.stat().st_mtime_ns for path in (folder / "many-index").iterdir()}
    write_shards(many, members, MANY, 1)
    open_catalogue(many, folder / "many-index")
    after = {path: path.stat().st_mtime_ns for path in (folder / "many-index").iterdir()}
    own = {name: min(values) for name, values in times.items()}
    return {
        "plain_ms": 1e3 * own["plain"],
        "own_ms": 1e3 * own["few"],
        "time_to_plain": own["few"] / own["plain"],
        "many_to_few": own["many"] / own["few"],
        "mb_a_sample": counted.size / number / 1e6,
        "mb_in_the_shard": sum(map(len, members.values())) / 1e6,
        "indices_written": len(after.items() - before.items()),
    }


def report(found: dict[str, float]) -> str:
    """The figures, as a page."""
    rows = (
        ("time of a sample, in that of plain webdataset", f"{found['time_to_plain']:.2f}"),
        (f"the same with {MANY} shards, in that with {FEW}", f"{found['many_to_few']:.2f}"),
        ("read of a sample", f"{found['mb_a_sample']:.2f} MB of {found['mb_in_the_shard']:.1f} MB"),
        (f"shards indexed again after one more than {MANY}", f"{found['indices_written']:.0f}"),
    )
    return "\n".join([
        "# What reading a training sample costs", "",
        f"Stable Diffusion 2's sizes: latents, and {SUBJECTS} subjects with {VARIANTS} variants of "
        "ViT-H tokens each, of which training takes one.",
        "Plain webdataset reads whole shards from their beginning; the loop's reader takes any "
        "sample and reads what it uses,",
        "prompt, places and masks included. `python -m benchmarks.reader --write docs/reader.md` "
        "made this page.", "",
        "| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows), "",
    ])  # fmt: skip


def main() -> int:
    """Measure, print, and write where asked."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.reader",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--write", type=Path, help="also write the page")
    arguments = parser.parse_args()
    try:
        import webdataset  # noqa: F401
    except ImportError:
        print("error: expected the package webdataset, got none. Install it.", file=sys.stderr)
        return 1
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory(prefix="subject-diffusion-reader-") as folder:
        found = measure(Path(folder))
    print(json.dumps(found, indent=1))
    if arguments.write:
        arguments.write.write_text(report(found), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
