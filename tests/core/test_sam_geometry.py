"""What kind of segment-anything a file holds, read from its tensors."""

from __future__ import annotations

import pytest
import torch
from segment_anything import sam_model_registry

from subject_diffusion_core.sam_geometry import read_sam_geometry


@pytest.mark.parametrize(
    ("name", "title"), [("vit_b", "ViT-B"), ("vit_l", "ViT-L"), ("vit_h", "ViT-H")]
)
def test_published_sizes_are_recognised(name: str, title: str) -> None:
    """Every tensor of the published geometry, without its memory."""
    with torch.device("meta"):
        state = sam_model_registry[name]().state_dict()
    assert read_sam_geometry(state, "file.pth").name == title


def test_another_file_is_refused() -> None:
    sentence = r"other\.pth: expected a checkpoint of segment-anything"
    with pytest.raises(ValueError, match=sentence):
        read_sam_geometry({"something": torch.ones(1)}, "other.pth")
