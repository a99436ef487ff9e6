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
                patch_embeds=torch.randn(views, 4, 3, generator=generator),
                image_embeds=torch.randn(views, 5, generator=generator),
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


def test_round_trip_is_exact(tmp_path):
    path, wanted = tmp_path / "a.safetensors", make_file()
    subject_file.save(path, wanted)
    got = subject_file.load(path)
    assert (got.encoder_hash, got.reference_size) == ("abc", 128)
    assert len(got.subjects) == 2
    for one, other in zip(got.subjects, wanted.subjects, strict=True):
        for name, value in vars(other).items():
            same = getattr(one, name)
            assert torch.equal(same, value) if torch.is_tensor(value) else same == value
    _, metadata = read_safetensors(path)
    description = json.loads(metadata[subject_file.METADATA_KEY])
    assert [description[n] for n in ("num_patches", "patch_dim", "image_embed_dim")] == [4, 3, 5]
    assert description["format_version"] == 1


def rewrite(path, change):
    """Change tensors and description of a file in place."""
    tensors, metadata = read_safetensors(path)
    description = json.loads(metadata[subject_file.METADATA_KEY])
    change(tensors, description)
    write_safetensors(path, tensors, {subject_file.METADATA_KEY: json.dumps(description)})


CHANGES = {
    "other version": (
        lambda tensors, d: d.update(format_version=2),
        r"format version 1, got version 2\. Update this node pack",
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
    embeds = torch.full((1, 5), torch.inf)
    bad = replace(good, subjects=(replace(good.subjects[0], image_embeds=embeds),))
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
