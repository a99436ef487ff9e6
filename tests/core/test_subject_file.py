"""Files of encoded subjects: exact, whole or refused with one sentence."""

import json
from dataclasses import replace

import pytest
import torch

from subject_diffusion_core.errors import CheckpointError
from subject_diffusion_core.files import subject_file
from subject_diffusion_core.files.safetensors_file import read_safetensors, write_safetensors
from subject_diffusion_core.files.subject_file import SavedSubject, SubjectFile


def make_file(count=2):
    generator = torch.Generator().manual_seed(0)
    return SubjectFile(
        encoder_hash="abc",
        reference_size=128,
        subjects=tuple(
            SavedSubject(
                embeds={
                    "patch_embeds": torch.randn(views, 4, 3, generator=generator),
                    "image_embeds": torch.randn(views, 5, generator=generator),
                },
                thumbnail=torch.randint(0, 256, (6, 7, 4), generator=generator, dtype=torch.uint8),
                region=None if views == 1 else torch.rand(9, 8, generator=generator),
                label=f"dog {views}",
                strength=0.1 * views,
                start_percent=0.25,
                end_percent=1.0,
                box=None if views == 1 else {"x1": 0.1, "y1": 0.2, "x2": 0.3, "y2": 0.4},
            )
            for views in range(1, count + 1)
        ),
    )


def make_described_file():
    """Subjects of other families, one of them with pictures."""
    first, second = make_file().subjects
    hidden = {"hidden_states": torch.randn(2, 7, 6), "label_embeds": torch.randn(2, 9).half()}
    pictures = torch.randint(0, 256, (2, 5, 6, 4), dtype=torch.uint8)
    subjects = (first, replace(second, embeds=hidden, pictures=pictures))
    return replace(make_file(), subjects=subjects)


def assert_equal(one, other):
    for name, value in other.embeds.items():
        assert torch.equal(one.embeds[name], value) and one.embeds[name].dtype == value.dtype
    for name, value in vars(other).items():
        if name != "embeds":
            same = getattr(one, name)
            assert torch.equal(same, value) if torch.is_tensor(value) else same == value
    assert one.embeds.keys() == other.embeds.keys()


def test_round_trip_is_exact(tmp_path):
    path, wanted = tmp_path / "a.safetensors", make_file()
    subject_file.save(path, wanted)
    got = subject_file.load(path)
    assert (got.encoder_hash, got.reference_size) == ("abc", 128)
    assert len(got.subjects) == 2
    for one, other in zip(got.subjects, wanted.subjects, strict=True):
        assert_equal(one, other)
    _, metadata = read_safetensors(path)
    description = json.loads(metadata[subject_file.METADATA_KEY])
    assert [description[n] for n in ("num_patches", "patch_dim", "image_embed_dim")] == [4, 3, 5]
    assert description["format_version"] == 1


def test_round_trip_of_other_tensors_and_pictures(tmp_path):
    path, wanted = tmp_path / "a.safetensors", make_described_file()
    subject_file.save(path, wanted)
    got = subject_file.load(path)
    for one, other in zip(got.subjects, wanted.subjects, strict=True):
        assert_equal(one, other)
    _, metadata = read_safetensors(path)
    description = json.loads(metadata[subject_file.METADATA_KEY])
    assert description["format_version"] == 2
    second = description["subjects"][1]
    assert second["embeds"] == {"hidden_states": [2, 7, 6], "label_embeds": [2, 9]}
    assert second["pictures"] == [2, 5, 6, 4]


OLD_DESCRIPTION = (
    '{"format_version": 1, "encoder_hash": "abc", "reference_size": 128, "num_patches": 4, '
    '"patch_dim": 3, "image_embed_dim": 5, "subjects": [{"label": "dog", "strength": 0.5, '
    '"start_percent": 0.0, "end_percent": 1.0, "box": {"x1": 0.1, "y1": 0.2, "x2": 0.3, '
    '"y2": 0.4}}, {"label": "dog", "strength": 0.5, "start_percent": 0.0, "end_percent": 1.0, '
    '"box": null}]}'
)


def test_files_of_the_first_version_stay_as_they_are_to_the_byte(tmp_path):
    thumbnail = torch.arange(24, dtype=torch.uint8).reshape(2, 3, 4)
    tensors = {
        "0.patch_embeds": torch.arange(24.0).reshape(2, 4, 3),
        "0.image_embeds": torch.arange(10.0).reshape(2, 5),
        "0.thumbnail": thumbnail,
        "0.region": torch.ones(2, 2),
        "1.patch_embeds": torch.arange(12.0).reshape(1, 4, 3),
        "1.image_embeds": torch.arange(5.0).reshape(1, 5),
        "1.thumbnail": thumbnail,
    }
    old, new = tmp_path / "old.safetensors", tmp_path / "new.safetensors"
    write_safetensors(old, tensors, {"subject_diffusion_subjects": OLD_DESCRIPTION})
    loaded = subject_file.load(old)
    first, second = loaded.subjects
    assert torch.equal(first.embeds["patch_embeds"], tensors["0.patch_embeds"])
    assert torch.equal(second.embeds["image_embeds"], tensors["1.image_embeds"])
    assert first.pictures is None and first.box == {"x1": 0.1, "y1": 0.2, "x2": 0.3, "y2": 0.4}
    subject_file.save(new, loaded)
    assert new.read_bytes() == old.read_bytes()


def rewrite(path, change):
    """Change tensors and description of a file in place."""
    tensors, metadata = read_safetensors(path)
    description = json.loads(metadata[subject_file.METADATA_KEY])
    change(tensors, description)
    write_safetensors(path, tensors, {subject_file.METADATA_KEY: json.dumps(description)})


CHANGES = {
    "other version": (
        lambda tensors, d: d.update(format_version=3),
        r"format version 1 or 2, got version 3\. Update this node pack",
    ),
    "no version": (lambda tensors, d: d.pop("format_version"), r"got version None\."),
    "NaN": (
        lambda tensors, d: tensors["0.patch_embeds"].fill_(torch.nan),
        r"expected finite numbers, got NaN or infinity in '0\.patch_embeds'\. Encode and save",
    ),
    "missing tensor": (lambda tensors, d: tensors.pop("1.image_embeds"), r"'1\.image_embeds'"),
    "tensor too many": (
        lambda tensors, d: tensors.update(more=torch.zeros(1)),
        r"2 subjects, 1 tensors of no subject",
    ),
    "other width": (lambda tensors, d: d.update(patch_dim=7), r"subject 1 has embeddings of"),
    "no setting": (
        lambda tensors, d: d["subjects"][0].pop("label"),
        r"others \('label'\)\. Encode",
    ),
    "no subjects": (lambda tensors, d: d.update(subjects=[]), r"0 subjects, "),
    "thumbnail": (
        lambda tensors, d: tensors.update({"0.thumbnail": torch.zeros(3, 3)}),
        r"subject 1 has no thumbnail",
    ),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_what_is_refused(tmp_path, kind):
    path = tmp_path / "a.safetensors"
    subject_file.save(path, make_file())
    change, sentence = CHANGES[kind]
    rewrite(path, change)
    with pytest.raises(CheckpointError, match=sentence) as error:
        subject_file.load(path)
    assert str(error.value).startswith(str(path)) and "\n" not in str(error.value)


DESCRIBED_CHANGES = {
    "missing tensor": (lambda tensors, d: tensors.pop("1.hidden_states"), r"'1\.hidden_states'"),
    "unknown tensor": (
        lambda tensors, d: tensors.update({"1.more": torch.zeros(1)}),
        r"2 subjects, 1 tensors of no subject",
    ),
    "a tensor that is not described": (
        lambda tensors, d: d["subjects"][1]["embeds"].pop("hidden_states"),
        r"2 subjects, 1 tensors of no subject",
    ),
    "other shape": (
        lambda tensors, d: d["subjects"][1]["embeds"].update(hidden_states=[2, 6, 7]),
        r"subject 2 has embeddings of another shape",
    ),
    "whole numbers": (
        lambda tensors, d: tensors.update({"1.hidden_states": torch.ones(2, 7, 6).int()}),
        r"subject 2 has embeddings of another shape",
    ),
    "other number of views": (
        lambda tensors, d: (
            tensors.update({"1.label_embeds": torch.zeros(1, 9)}),
            d["subjects"][1]["embeds"].update(label_embeds=[1, 9]),
        ),
        r"subject 2 has embeddings of another shape",
    ),
    "a number": (
        lambda tensors, d: (
            tensors.update({"1.label_embeds": torch.tensor(1.0)}),
            d["subjects"][1]["embeds"].update(label_embeds=[]),
        ),
        r"list index out of range",
    ),
    "no embeddings": (lambda tensors, d: d["subjects"][1].pop("embeds"), r"'embeds'"),
    "embeddings without shapes": (
        lambda tensors, d: d["subjects"][1].update(embeds=["hidden_states", "label_embeds"]),
        r"others \(something of another kind\)",
    ),
    "missing pictures": (lambda tensors, d: tensors.pop("1.pictures"), r"'1\.pictures'"),
    "pictures that are not described": (
        lambda tensors, d: d["subjects"][1].update(pictures=None),
        r"2 subjects, 1 tensors of no subject",
    ),
    "pictures without masks": (
        lambda tensors, d: (
            tensors.update({"1.pictures": torch.zeros(2, 5, 6, 3, dtype=torch.uint8)}),
            d["subjects"][1].update(pictures=[2, 5, 6, 3]),
        ),
        r"subject 2 has pictures of another shape",
    ),
    "pictures of other views": (
        lambda tensors, d: (
            tensors.update({"1.pictures": torch.zeros(3, 5, 6, 4, dtype=torch.uint8)}),
            d["subjects"][1].update(pictures=[3, 5, 6, 4]),
        ),
        r"subject 2 has pictures of another shape",
    ),
}


@pytest.mark.parametrize("kind", DESCRIBED_CHANGES)
def test_what_is_refused_of_other_tensors_and_pictures(tmp_path, kind):
    path = tmp_path / "a.safetensors"
    subject_file.save(path, make_described_file())
    change, sentence = DESCRIBED_CHANGES[kind]
    rewrite(path, change)
    with pytest.raises(CheckpointError, match=sentence) as error:
        subject_file.load(path)
    assert str(error.value).startswith(str(path)) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("embeds", "sentence"),
    [
        ({}, "subject 1 has embeddings of another shape"),
        ({"thumbnail": torch.zeros(1, 2)}, r"'0\.thumbnail'"),
        ({"a": torch.zeros(1, 2), "b": torch.zeros(2, 2)}, "subject 1 has embeddings of another"),
    ],
)
def test_what_could_not_be_read_again_is_not_written(tmp_path, embeds, sentence):
    path, file = tmp_path / "a.safetensors", make_file(1)
    subject = replace(file.subjects[0], embeds=embeds)
    with pytest.raises(CheckpointError, match=sentence):
        subject_file.save(path, replace(file, subjects=(subject,)))
    assert not path.exists()


def test_damaged_and_foreign_files(tmp_path):
    path = tmp_path / "a.safetensors"
    subject_file.save(path, make_file())
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(CheckpointError, match=r"expected an intact \.safetensors file"):
        subject_file.load(path)
    write_safetensors(path, {"a": torch.zeros(1)}, {"format": "pt"})
    with pytest.raises(CheckpointError, match="expected the metadata entry 'subject_diffusion_sub"):
        subject_file.load(path)


def test_a_bad_subject_leaves_the_old_file(tmp_path):
    path, good = tmp_path / "a.safetensors", make_file(1)
    subject_file.save(path, good)
    before = path.read_bytes()
    embeds = {**good.subjects[0].embeds, "image_embeds": torch.full((1, 5), torch.inf)}
    bad = replace(good, subjects=(replace(good.subjects[0], embeds=embeds),))
    with pytest.raises(CheckpointError, match=r"infinity in '0\.image_embeds'\. Look at the subj"):
        subject_file.save(path, bad)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_hash_tells_weights_apart_and_not_their_precision():
    weights = {"b": torch.randn(5), "a": torch.randn(300, 50), "n": torch.arange(3)}
    first = subject_file.hash_weights(weights)
    assert first == subject_file.hash_weights(
        {k: v.half() if k != "n" else v for k, v in weights.items()}
    )
    assert first == subject_file.hash_weights(dict(reversed(list(weights.items()))))
    changed = {**weights, "b": weights["b"] + 0.1}
    renamed = {("c" if k == "b" else k): v for k, v in weights.items()}
    tuned = {**weights, "a": weights["a"] * 1.01}
    others = {subject_file.hash_weights(w) for w in (changed, renamed, tuned)}
    assert len(others | {first}) == 4


def test_thumbnail():
    image, mask = torch.zeros(64, 300, 3), torch.zeros(64, 300)
    mask[10:12, 20:22] = 0.8
    small = subject_file.make_thumbnail(image, mask)
    assert small.shape == (27, 128, 4) and small.dtype == torch.uint8
    assert small[..., 3].max() == 255
    assert bool((small[20:, 40:, :3] == 255).all())
    whole = subject_file.make_thumbnail(torch.full((3, 2, 3), 0.5), None)
    assert whole.shape == (3, 2, 4) and whole[..., 3].min() == 255
