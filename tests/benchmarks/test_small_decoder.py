"""What `python -m benchmarks.small_decoder` trains on, measures and writes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.small_decoder.__main__ import BUNDLED, begun, stored_decoder, table
from benchmarks.small_decoder.scores import fringe, grid, psnr
from benchmarks.small_decoder.variants import VARIANTS


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_begins_as_the_stored_autoencoder(name: str) -> None:
    stored, model = stored_decoder(BUNDLED), begun(VARIANTS[name], BUNDLED)
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(1, 3, 32, 24, generator=generator) * 2 - 1
    latents = stored.encode(images)
    torch.testing.assert_close(model.encode(images), latents, rtol=0, atol=1e-5)
    assert torch.equal(model.decode(latents), stored.decode(latents))


def test_the_last_part_changes_the_picture() -> None:
    stored, model = stored_decoder(BUNDLED), begun(VARIANTS["smooth"], BUNDLED)
    latents = torch.randn(1, stored.latent_channels, 3, 4)
    with torch.no_grad():
        model.smooth[-1].bias.fill_(0.5)  # type: ignore[union-attr]
    torch.testing.assert_close(model.decode(latents), stored.decode(latents) + 0.5)


def test_the_grid_is_seen_at_borders_of_blocks_alone() -> None:
    smooth = np.random.default_rng(0).integers(100, 130, size=(1, 64, 64, 3), dtype=np.uint8)
    shifted = smooth.copy()
    shifted[:, :, 8:16] += 60
    shifted[:, :, 24:32] += 60
    assert abs(grid(smooth)[0]) < 10 < 30 < grid(shifted)[0]
    assert grid(np.roll(shifted, 3, axis=2))[0] < 10


def test_a_fringe_is_an_error_outside_of_the_subject() -> None:
    real = np.zeros((1, 32, 32, 3), np.uint8)
    mask = np.zeros((1, 32, 32), bool)
    mask[:, 10:20, 10:20] = True
    inside, around, far = (real.copy() for _ in range(3))
    inside[mask] = 90
    around[:, 8:22, 8:22] = 90
    far[:, :4] = 90
    assert fringe(real, inside, mask)[0] == fringe(real, far, mask)[0] == 0
    assert fringe(real, around, mask)[0] > 60
    assert psnr(real, inside)[0] == pytest.approx(10 * np.log10(255**2 / (90**2 * 100 / 1024)))


def test_a_row_has_what_was_measured() -> None:
    rows = [{"title": "a", "about": {"steps": 5}, "scores": {"one_found": [1.0, 0.0]}}]
    cells = [cell.strip() for cell in table(rows)[2].split("|")]
    assert cells[1:3] == ["a", "5"] and cells[3].startswith("50.0 [") and cells[4:8] == ["-"] * 4
