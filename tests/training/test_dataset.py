"""Shards: order, damage, references, dropping; a function of seed and position."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from own_pictures import write_pictures
from PIL import Image

from training.__main__ import main
from training.bases.encoders import FrozenEncoders
from training.bases.loading import random_base
from training.bases.vision import load_vision, vision_shape
from training.dataset.bad_sample import BadSample
from training.dataset.batches import stack
from training.dataset.catalogue import Catalogue, open_catalogue
from training.dataset.features import Features
from training.dataset.framing import frame, mask_box
from training.dataset.layout import FEATURES, Entity
from training.dataset.order import SampleOrder
from training.dataset.references import Augmentation, augment, cut_out, reference_picture
from training.dataset.samples import SubjectDataset
from training.dataset.shard_index import ShardIndex, open_index
from training.recipes import TrainingRecipe, recipe_named

COUNT = 10


def precompute(folder: Path, *more: str) -> Path:
    listed = write_pictures(folder / "pictures", count=COUNT)
    arguments = ["--jsonl", str(listed), "--out", str(folder / "shards"), "--recipe", "debug_cpu"]
    main(["precompute", *arguments, "--samples-per-shard", "4", "--variants", "2", *more])
    return folder / "shards" / "train"


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return precompute(tmp_path_factory.mktemp("features"))


@pytest.fixture(scope="module")
def plain_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return precompute(tmp_path_factory.mktemp("plain"), "--features", "none")


def dataset(folder: Path, index: Path, recipe: TrainingRecipe | None = None) -> SubjectDataset:
    recipe = recipe or recipe_named("debug_cpu")
    base = random_base(recipe)
    catalogue = open_catalogue(folder, index)
    return SubjectDataset(catalogue, recipe, vision_shape(recipe, base), base)


def test_order_takes_every_sample_once_an_epoch() -> None:
    order = SampleOrder([3, 0, 4, 5], group=2, seed=1)
    epochs = [[order[i + 12 * epoch] for i in range(12)] for epoch in range(2)]
    assert all(len(set(epoch)) == 12 for epoch in epochs) and epochs[0] != epochs[1]
    assert [order[i] for i in range(12)] == epochs[0]


def test_samples_are_a_function_of_seed_and_position(shards: Path, tmp_path: Path) -> None:
    one, two = (dataset(shards, tmp_path / name) for name in ("one", "two"))
    for position in (7, 0, 23):
        a, b = one[position].tensors, two[position].tensors
        assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_shapes_with_and_without_features(shards: Path, plain_shards: Path, tmp_path: Path) -> None:
    tensors = dataset(shards, tmp_path / "a")[0].tensors
    assert tensors["latents"].shape == (4, 8, 8)
    assert tensors["patch_embeds"].shape == (2, 16, 32) and tensors["image_embeds"].shape == (2, 16)
    assert tensors["subject_segmaps"].shape == (2, 8, 8) and tensors["token_ids"].shape == (77,)
    pictures = dataset(plain_shards, tmp_path / "b")[0].tensors
    assert pictures["pixels"].shape == (3, 64, 64) and pictures["pixels"].min() >= -1
    assert pictures["references"].shape == (2, 3, 224, 224)
    assert "latents" not in pictures and "patch_embeds" not in pictures


def test_conditions_are_dropped_as_often_as_the_recipe_says(shards: Path, tmp_path: Path) -> None:
    recipe = replace(recipe_named("debug_cpu"), drop_text=0.2, drop_image=0.3, drop_both=0.1)
    data = dataset(shards, tmp_path / "i", recipe)
    kept = (data.draw_kept(np.random.default_rng((0, p))) for p in range(4000))
    cases = Counter((case.text, case.image) for case in kept)
    shares = {case: count / 4000 for case, count in cases.items()}
    assert shares[False, True] == pytest.approx(0.2, abs=0.03)
    assert shares[True, False] == pytest.approx(0.3, abs=0.03)
    assert shares[False, False] == pytest.approx(0.1, abs=0.03)


def test_dropping_the_picture_drops_tokens_mask_and_template(shards: Path, tmp_path: Path) -> None:
    base = recipe_named("debug_cpu")
    kept = dataset(shards, tmp_path / "i", replace(base, drop_text=0, drop_image=0, drop_both=0))
    gone = dataset(shards, tmp_path / "i", replace(base, drop_text=0, drop_image=1, drop_both=0))
    full, dropped = kept[0].tensors, gone[0].tensors
    assert full["subject_valid"].any() and full["location_mask"].any() and full["text_valid"].any()
    for name in ("subject_valid", "location_mask", "text_valid", "map_valid"):
        assert not dropped[name].any(), name
    assert (dropped["placeholder_positions"] == -1).all()


def test_kinds_of_the_location_mask(shards: Path, tmp_path: Path) -> None:
    keep = {"drop_text": 0.0, "drop_image": 0.0, "drop_both": 0.0}
    recipe = replace(recipe_named("debug_cpu"), **keep)
    box = dataset(shards, tmp_path / "i", recipe)[0].tensors["location_mask"]
    shape = dataset(shards, tmp_path / "i", replace(recipe, mask_kind="segmentation"))
    assert 0 < shape[0].tensors["location_mask"].sum() < box.sum()


def test_reference_comes_from_another_picture_of_the_subject(shards: Path, tmp_path: Path) -> None:
    keep = {"drop_text": 0.0, "drop_image": 0.0, "drop_both": 0.0}
    other = dataset(shards, tmp_path / "i", replace(recipe_named("debug_cpu"), **keep))
    same = dataset(
        shards, tmp_path / "i", replace(recipe_named("debug_cpu"), **keep, same_view=1.0)
    )
    for position in range(COUNT):
        place = other.order[position]
        own = other.read(*place, with_picture=False)
        number = len(own.entities)
        stored = own.features.tensor("patch_embeds")
        candidates = {v.sum().item() for entity in stored[:number] for v in entity}
        shown = [t.sum().half().item() for t in same[position].tensors["patch_embeds"][:number]]
        assert all(min(abs(s - c) for c in candidates) < 0.5 for s in shown)
        several = [e.identity in other.catalogue.views for e in own.entities]
        if not all(several):
            continue
        assert not torch.equal(
            other[position].tensors["patch_embeds"], same[position].tensors["patch_embeds"]
        )


def damaged_copy(shards: Path, folder: Path, cut: int) -> Path:
    folder.mkdir()
    for shard in sorted(shards.glob("*.tar")):
        (folder / shard.name).write_bytes(shard.read_bytes())
    first = folder / "00000.tar"
    first.write_bytes(first.read_bytes()[:cut])
    return folder


def index_of(folder: Path, place: Path) -> ShardIndex:
    return open_index(folder / "00000.tar", place / "first", build=True)


def test_truncated_shard_keeps_its_whole_samples(shards: Path, tmp_path: Path) -> None:
    offset, size = index_of(shards, tmp_path).members(2).places["json"]
    folder = damaged_copy(shards, tmp_path / "cut", offset + size // 2)
    catalogue = open_catalogue(folder, tmp_path / "index")
    assert catalogue.counts == [2, 4, 2]
    assert "00000.tar" in catalogue.damaged[0] and "2 samples are used" in catalogue.damaged[0]


def test_shard_that_is_no_archive(shards: Path, tmp_path: Path) -> None:
    folder = damaged_copy(shards, tmp_path / "cut", 0)
    (folder / "00001.tar").write_bytes(b"not a tar file" * 100)
    catalogue = open_catalogue(folder, tmp_path / "index")
    assert catalogue.counts == [0, 0, 2] and "00001.tar: not a whole" in catalogue.damaged[-1]
    assert sum(len(dataset(folder, tmp_path / "index")[p].skipped) for p in range(4)) == 0


def corrupt(path: Path, member: tuple[int, int]) -> None:
    with path.open("rb+") as file:
        file.seek(member[0])
        file.write(b"\xff" * member[1])


def test_bad_samples_are_replaced_counted_and_named(shards: Path, tmp_path: Path) -> None:
    folder = damaged_copy(shards, tmp_path / "bad", 10**9)
    index = index_of(folder, tmp_path)
    corrupt(folder / "00000.tar", index.members(1).places["mask0.png"])
    corrupt(folder / "00000.tar", index.members(2).places["features.safetensors"])
    data = dataset(folder, tmp_path / "index", replace(recipe_named("debug_cpu"), same_view=1.0))
    skipped = [entry for position in range(COUNT) for entry in data[position].skipped]
    reasons = dict(skipped)
    assert reasons[f"00000.tar/{index.keys[1]}"] == "unreadable picture"
    assert reasons[f"00000.tar/{index.keys[2]}"] == "unreadable features"


def test_not_finite_features_are_a_bad_sample(shards: Path, tmp_path: Path) -> None:
    folder = damaged_copy(shards, tmp_path / "bad", 10**9)
    offset, size = index_of(folder, tmp_path).members(0).places["features.safetensors"]
    with (folder / "00000.tar").open("rb+") as file:
        file.seek(offset + size - 2)
        file.write(b"\x00\x7e")  # fp16 NaN
    data = dataset(folder, tmp_path / "index")
    features = data.read(0, 0, with_picture=False).features
    assert features is not None
    with pytest.raises(BadSample, match="features are not finite"):
        for name in ("latents", "patch_embeds", "image_embeds"):
            features.tensor(name)


def test_all_samples_bad_is_one_sentence(shards: Path, tmp_path: Path) -> None:
    data = dataset(shards, tmp_path / "index", replace(recipe_named("debug_cpu"), resolution=128))
    with pytest.raises(ValueError, match="expected usable samples, got 50 unusable ones in a row"):
        data[0]


def test_frame_crops_around_the_subjects() -> None:
    image = np.zeros((20, 40, 3), np.uint8)
    mask = np.zeros((20, 40), bool)
    mask[5:15, 28:38] = True
    image[mask] = 200
    entity = Entity(label="x", box_xyxy=(0.7, 0.25, 0.95, 0.75), mask=mask, identity="")
    framed, (kept,) = frame(image, (entity,), 40)
    assert framed.shape == (40, 40, 3) and kept.mask.sum() == 400
    assert kept.box_xyxy == (0.4, 0.25, 0.9, 0.75)
    assert framed[20, 30].mean() == 200 and mask_box(np.zeros((4, 4), bool)) is None


def test_subject_outside_the_crop_is_dropped() -> None:
    left, right = np.zeros((10, 60), bool), np.zeros((10, 60), bool)
    left[:, :3], right[2:9, 40:48] = True, True
    entities = tuple(
        Entity(label=n, box_xyxy=(0, 0, 1, 1), mask=m, identity="")
        for n, m in (("left", left), ("right", right))
    )
    kept = frame(np.zeros((10, 60, 3), np.uint8), entities, 16)[1]
    assert len(kept) == 1


def test_augmentation_turns_without_cutting() -> None:
    rgba = np.zeros((30, 20, 4), np.uint8)
    rgba[...] = (200, 10, 10, 255)
    options = Augmentation(flip=0.0, rotation=10.0, perspective=0.0)
    turned = augment(rgba, np.random.default_rng(3), options)
    assert (turned[..., 3] / 255).sum() == pytest.approx(600, rel=0.03)
    assert turned[turned[..., 3] == 255][:, 0].mean() == pytest.approx(200, abs=5)
    assert not turned[0].any() and not turned[:, 0].any()


def test_augmentation_mirrors() -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    image[:, :4] = 255
    options = Augmentation(flip=1.0, rotation=0.0, perspective=0.0)
    mask = np.ones((8, 8), bool)
    plain = reference_picture(cut_out(image, mask), 32, None, options)
    mirrored = reference_picture(cut_out(image, mask), 32, np.random.default_rng(0), options)
    torch.testing.assert_close(mirrored, plain.flip(-1), atol=0.05, rtol=0)


def test_bad_pictures_of_a_list_are_named(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    listed = write_pictures(tmp_path / "pictures", count=4)
    (tmp_path / "pictures" / "001.jpg").write_bytes(b"no picture")
    Image.new("L", (5, 5)).save(tmp_path / "pictures" / "002_0.png")
    out = ["--out", str(tmp_path / "s"), "--recipe", "debug_cpu", "--features", "none"]
    main(["precompute", "--jsonl", str(listed), *out])
    printed = capsys.readouterr().out
    assert "skipped line 2 (001.jpg): unreadable picture 001.jpg" in printed
    assert "002_0.png of another size" in printed and "train: 2 of 4 pictures" in printed


def test_wrong_lines_of_a_list_are_refused(tmp_path: Path) -> None:
    listed = tmp_path / "list.jsonl"
    for line, sentence in (
        ('{"picture": "a.png"}', "in line 1"),
        ('{"picture": "a.png", "caption": "x", "subjects": []}', "at least one subject in line 1"),
        ("", "at least one picture, got an empty"),
    ):
        listed.write_text(line)
        with pytest.raises(SystemExit, match=sentence):
            main(["precompute", "--jsonl", str(listed), "--out", "x", "--recipe", "debug_cpu"])


def test_held_out_subjects_are_in_no_training_shard(tmp_path: Path) -> None:
    folder = precompute(tmp_path, "--held-out", "2", "--features", "none").parent

    def identities(name: str) -> set[str]:
        catalogue: Catalogue = open_catalogue(folder / name, tmp_path / f"index-{name}")
        found = set()
        for shard, count in enumerate(catalogue.counts):
            for row in range(count):
                metadata = json.loads(catalogue.read(shard, row)[1]["json"])
                found |= {entry["identity"] for entry in metadata["entities"]}
        return found

    assert identities("train") and len(identities("held-out") - identities("train")) == 2


def test_precomputed_features_are_what_the_loop_computes(
    shards: Path, plain_shards: Path, tmp_path: Path
) -> None:
    recipe = replace(recipe_named("debug_cpu"), same_view=1.0)
    base = random_base(recipe)
    encoders = FrozenEncoders(base.load_vae(), load_vision(None, recipe, base))

    def tensors(folder: Path, index: str) -> dict[str, torch.Tensor]:
        catalogue = open_catalogue(folder, tmp_path / index)
        data = SubjectDataset(catalogue, recipe, vision_shape(recipe, base), base, plain=True)
        return stack([data[position] for position in range(4)]).tensors

    before = tensors(shards, "features")
    now = encoders.complete(tensors(plain_shards, "plain"))
    assert before.keys() == now.keys()
    for name in ("latents", "patch_embeds", "image_embeds"):
        error = (before[name] - now[name]).norm() / now[name].norm()
        other = (before[name] - now[name].flip(0)).norm() / now[name].norm()
        assert error < 2e-3 and other > 0.02, (name, error, other)  # shards hold fp16


def test_cells_are_the_exact_means_of_masks_of_any_size(shards: Path, tmp_path: Path) -> None:
    data = dataset(shards, tmp_path)
    side, cells = data.recipe.resolution, data.latent_size
    masks = torch.rand(3, side, side, generator=torch.Generator().manual_seed(0)) > 0.5
    means = masks.float().unflatten(1, (cells, -1)).unflatten(3, (cells, -1)).mean((2, 4))
    assert torch.equal(data.cell_means(masks.float()), means)
    larger = masks.repeat_interleave(2, 1).repeat_interleave(2, 2).float()
    assert torch.equal(data.cell_means(larger), means)


def test_only_the_tensor_that_is_used_is_read(shards: Path, tmp_path: Path) -> None:
    """A reference is a slice of the features' file, not all variants of all subjects."""
    read: list[int] = []
    members = index_of(shards, tmp_path).members(0)
    features = Features(
        lambda offset, size: read.append(size) or members.part(FEATURES, offset, size)
    )
    whole = features.tensor("patch_embeds")
    read.clear()
    assert torch.equal(features.tensor("patch_embeds", 0, 1), whole[0, 1])
    assert read == [2 * whole[0, 1].numel()]


def test_a_new_shard_costs_its_own_indexing(shards: Path, tmp_path: Path) -> None:
    folder, index = tmp_path / "copy", tmp_path / "index"
    folder.mkdir()
    for shard in sorted(shards.glob("*.tar"))[:2]:
        shutil.copy2(shard, folder)
    assert len(open_catalogue(folder, index).counts) == 2
    before = {path.name: path.stat().st_mtime_ns for path in index.iterdir()}
    shutil.copy2(shards / "00002.tar", folder)
    assert len(open_catalogue(folder, index).counts) == 3
    after = {path.name: path.stat().st_mtime_ns for path in index.iterdir()}
    assert before.items() <= after.items() and len(after) == 3
