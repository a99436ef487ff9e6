import json
from dataclasses import replace
from pathlib import Path

import pytest

from devtools.adapter_guidance import measured_guidance as by_devtools
from subject_diffusion_core import checkpoint
from subject_diffusion_core.files.measured_guidance import MeasuredGuidance, measured_guidance

ROOT = Path(__file__).resolve().parents[2]


def provenance(text, image):
    settings = {"steps": 20, "text_guidance_scale": text, "image_guidance_scale": image}
    return {"recipe": "tiny", "tinybench": {"settings": settings, "rows": {}}}


@pytest.mark.parametrize(("text", "image"), [(4.0, 5.0), (2, 0), (30, 2.5)])
def test_what_a_measured_file_says(text, image):
    measured = measured_guidance(provenance(text, image))
    assert measured == MeasuredGuidance(text_guidance_scale=text, image_guidance_scale=image)
    assert isinstance(measured.text_guidance_scale, float)


SAYS_NOTHING = [
    {},
    [],
    "tinybench",
    None,
    {"tinybench": 4},
    {"tinybench": {"settings": [4, 5]}},
    {"tinybench": {"settings": {"text_guidance_scale": 4}}},
    provenance("4", 5),
    provenance(True, 5),
    provenance(4, None),
    provenance(float("nan"), 5),
    provenance(4, float("inf")),
    provenance(-1, 5),
    provenance(4, 30.1),
    provenance(10**400, 5),
]


@pytest.mark.parametrize("said", SAYS_NOTHING)
def test_anything_else_says_nothing(said):
    assert measured_guidance(said) is None


@pytest.mark.parametrize("said", [*SAYS_NOTHING, provenance(4, 5.5), provenance(0, 30)])
def test_devtools_read_the_same_without_torch(adapter, tmp_path, said):
    """They have the standard library alone: two readers of one entry."""
    path = tmp_path / "adapter.safetensors"
    checkpoint.save(path, replace(adapter, config=replace(adapter.config, provenance=said)))
    stored = checkpoint.load(path).config.provenance
    assert json.dumps(stored) == json.dumps(said)
    wanted, found = measured_guidance(stored), by_devtools(path)
    assert (wanted is None) == (found is None)
    if wanted is not None:
        assert found == (wanted.text_guidance_scale, wanted.image_guidance_scale)


@pytest.mark.parametrize("content", [b"", b"x", b"\xff" * 64, b"\x02" + 7 * b"\0" + b"[]"])
def test_devtools_leave_files_of_other_kinds_to_the_node(tmp_path, content):
    path = tmp_path / "other.bin"
    path.write_bytes(content)
    assert by_devtools(path) is None
    assert by_devtools(tmp_path) is None and by_devtools(tmp_path / "none") is None


def test_the_bundled_adapter_says_it():
    path = ROOT / "weights" / "tiny_adapter.safetensors"
    measured = measured_guidance(checkpoint.load(path).config.provenance)
    assert measured is not None
    assert by_devtools(path) == (measured.text_guidance_scale, measured.image_guidance_scale)
