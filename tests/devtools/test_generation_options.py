"""Guidance of `dev.py generate`: what is given, what the adapter's file says, what is usual."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from devtools.adapter_guidance import METADATA_KEY, measured_guidance
from devtools.commands import build_parser
from devtools.console import Progress
from devtools.generation_options import OWN_ADAPTER, settings_of
from devtools.jobs import GenerationSettings


@pytest.fixture
def adapter(tmp_path: Path) -> str:
    """The head of a file that was measured with 2.5 and 3."""
    settings = {"text_guidance_scale": 2.5, "image_guidance_scale": 3}
    config = {"provenance": {"tinybench": {"settings": settings}}}
    header = json.dumps({"__metadata__": {METADATA_KEY: json.dumps(config)}}).encode()
    path = tmp_path / "adapter.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    return str(path)


def scales(*arguments: str) -> tuple[float, float]:
    options = build_parser().parse_args(["generate", *arguments])
    settings = settings_of(options, Progress())
    return settings.text_guidance_scale, settings.image_guidance_scale


def test_the_file_says_it_unless_the_command_does(
    adapter: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert scales("--adapter", adapter) == (2.5, 3.0)
    assert "Guidance as the adapter was measured: text 2.5, image 3" in capsys.readouterr().out
    assert scales("--adapter", adapter, "--text-guidance", "7") == (7.0, 3.0)
    capsys.readouterr()
    both = ("--text-guidance", "7", "--image-guidance", "1")
    assert scales("--adapter", adapter, *both) == (7.0, 1.0)
    assert capsys.readouterr().out == ""


def test_the_packs_own_adapter_and_one_that_says_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert scales() == measured_guidance(OWN_ADAPTER)
    usual = GenerationSettings()
    wanted = (usual.text_guidance_scale, usual.image_guidance_scale)
    silent = tmp_path / "silent.safetensors"
    silent.write_bytes(b"nothing")
    assert scales("--adapter", str(silent)) == wanted
    assert scales("--adapter", "none") == wanted
    assert capsys.readouterr().out == ""
