"""Files by their headers alone."""

import json
import struct

import pytest
import torch
from safetensors.torch import save_file

from subject_diffusion_core import checkpoint
from subject_diffusion_core.errors import CheckpointError
from subject_diffusion_core.files.header import TensorInfo, read_header


@pytest.fixture
def path(tmp_path):
    return tmp_path / "some.safetensors"


def test_names_types_shapes_and_metadata(path):
    tensors = {
        "a": torch.full((2, 3), torch.nan).half(),
        "b.weight": torch.zeros(4, dtype=torch.int8),
        "c": torch.tensor(1.0, dtype=torch.bfloat16),
        "none": torch.zeros(0, 7),
    }
    save_file(tensors, path, metadata={"made_by": "a test"})
    header = read_header(path)
    assert header.path == path and header.metadata == {"made_by": "a test"}
    assert header.tensors == {
        "a": TensorInfo("F16", (2, 3)),
        "b.weight": TensorInfo("I8", (4,)),
        "c": TensorInfo("BF16", ()),
        "none": TensorInfo("F32", (0, 7)),
    }


def test_a_file_without_metadata(path):
    save_file({"a": torch.zeros(1)}, path)
    assert read_header(path).metadata == {}
    assert checkpoint.method_of(read_header(path)) is None


def content(entries, data=b"") -> bytes:
    """A file with this header, as JSON or as bytes."""
    text = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text + data


def tensor(**changes):
    return {"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4], **changes}}


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
REFUSED = {
    "empty": (b"", r"got something else \(0 bytes\)\. Choose another file or download it again"),
    "a few bytes": (b"abc", r"got something else \(3 bytes\)\. "),
    "text": (b"plain text, for example", r"got something else \(23 bytes\)\. "),
    "LFS pointer": (
        POINTER,
        r"got something else \(\d+ bytes\), a Git LFS pointer in its place\. ",
    ),
    "web page": (b"<!DOCTYPE html><html>", r"got something else \(21 bytes\), a web page\. "),
    "web page with a mark": (b"\xef\xbb\xbf\n <html></html>", r"\(18 bytes\), a web page\. "),
    "pickle": (b"\x80\x04\x95 and more", "got a pickled PyTorch file"),
    "zipped pickle": (b"PK\x03\x04 and more", "got a pickled PyTorch file"),
    "absurd header": (struct.pack("<Q", 1 << 62) + b"{}", r"a damaged one \(10 bytes, its header"),
    "half a header": (content(tensor(), bytes(4))[:30], r"a damaged one \(30 bytes, its header"),
    "half the tensors": (content(tensor(), bytes(2)), r"\(2 bytes of tensors, 4 by its header\)"),
    "too much": (content(tensor(), bytes(5)), r"\(5 bytes of tensors, 4 by its header\)"),
    "no JSON": (content(b"{broken}"), r"a damaged one \(a header that cannot be read: Expecting"),
    "no text": (content(b"{\xff\xff}"), r"a damaged one \(a header that cannot be read: "),
    "deep": (content(b'{"a":' * 100_000), r"a damaged one \(a header that cannot be read: "),
    "no type": (content({"a": {"shape": [], "data_offsets": [0, 0]}}), r"cannot be read: 'dtype'"),
    "odd type": (content(tensor(dtype=1), bytes(4)), "a tensor without a type or shape"),
    "odd shape": (content(tensor(shape=[-1]), bytes(4)), "a tensor without a type or shape"),
    "odd places": (content(tensor(data_offsets=["0", "4"]), bytes(4)), "without a type or shape"),
    "no tensor": (content({"a": 1}), r"cannot be read: something of another kind\)"),
    "nothing": (content({"a": None}), r"cannot be read: something of another kind\)"),
    "odd metadata": (content({"__metadata__": {"a": 1}}), "metadata that is no text"),
    "metadata of another kind": (
        content({"__metadata__": []}),
        r"\(a header that cannot be read: ",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_refused(path, kind):
    written, sentence = REFUSED[kind]
    path.write_bytes(written)
    with pytest.raises(CheckpointError, match=sentence) as error:
        read_header(path)
    text = str(error.value)
    assert text.startswith(f"{path}: expected a") and text.endswith(".") and "\n" not in text


def test_a_header_larger_than_any(path):
    with path.open("wb") as file:
        file.write(struct.pack("<Q", 100_000_001) + b"{")
        file.truncate(100_000_100)
    with pytest.raises(CheckpointError, match=r"damaged one .*its header alone 100000001"):
        read_header(path)


def test_nothing_there(path):
    with pytest.raises(CheckpointError, match="got nothing there"):
        read_header(path)
    with pytest.raises(CheckpointError, match="got nothing there"):
        read_header(path.parent)


@pytest.mark.parametrize(
    "metadata",
    [
        {f"{'k' * 1000}{number}": "" for number in range(100)},
        {"subject_diffusion": json.dumps({"format_version": 1, "method": "x" * 10**5})},
        {"subject_diffusion": json.dumps({"format_version": "x" * 10**5})},
        {"subject_diffusion": json.dumps({"format_version": 1, "x" * 10**5: 1})},
    ],
)
def test_long_texts_are_not_repeated(path, metadata):
    save_file({"a": torch.zeros(1)}, path, metadata)
    with pytest.raises(CheckpointError) as error:
        checkpoint.load(path)
    assert len(str(error.value)) < 700
