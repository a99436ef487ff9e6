"""Makes core importable without installing it, and gives every test one small adapter."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

# at the end: the repository's root also holds nodes/, which must not shadow ComfyUI's nodes.py
sys.path.append(str(Path(__file__).resolve().parents[2]))

from adapter_factory import make_adapter

from subject_diffusion_core.files.adapter import Adapter


@pytest.fixture
def adapter() -> Adapter:
    return make_adapter()
