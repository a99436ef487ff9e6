"""`python -m training tiny --go-on-from`: a stored base stays, its adapter is trained on."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from bench_work import write_work
from tiny_parts import small_recipe, write_tables, write_weights

from subject_diffusion_core import checkpoint
from subject_diffusion_core.files.measured_guidance import SCORES_KEY
from training.__main__ import main
from training.bases.loading import tiny_vae
from training.commands.tiny import with_adapter_options
from training.networks.text import CompactVocabulary
from training.toy.autoencoder import build_autoencoder, load_basis
from training.toy.block_pca import BlockBasis, basis_of, install_basis
from training.toy.files import ADAPTER_NAME, BASE_NAME
from training.toy.recipe import TinyRecipe
from training.toy.references import statistics_path
from training.toy.stages import (
    corpus_vocabulary,
    history_after,
    require_words,
    run_adapter,
    train_stored_decoder,
)
from training.toy.stored_start import StoredStart, claim_work, read_stored_start


@pytest.fixture
def fresh_accelerate() -> Iterator[None]:
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> StoredStart:
    return read_stored_start(write_weights(tmp_path_factory.mktemp("weights")))


def test_transform_comes_back_out_of_the_autoencoder() -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(24, 192, generator=generator)
    basis = BlockBasis(center=torch.randn(192, generator=generator), weight=weight)
    autoencoder = build_autoencoder(small_recipe().autoencoder)
    install_basis(autoencoder, basis)
    images = np.random.default_rng(0).integers(256, size=(1, 16, 16, 3), dtype=np.uint8)
    expected = basis.encode(images)
    torch.testing.assert_close(basis_of(autoencoder).encode(images), expected, rtol=1e-4, atol=1e-3)


def test_folder_takes_what_the_base_fixes(start: StoredStart, tmp_path: Path) -> None:
    claim_work(tmp_path, start)
    claim_work(tmp_path, start)  # the same command again
    basis = basis_of(tiny_vae(start.base))
    assert torch.equal(load_basis(tmp_path / "basis.pt").weight, basis.weight)
    statistics = torch.load(statistics_path(tmp_path), weights_only=True)
    assert torch.equal(statistics["patch_std"], start.base.vision["patch_std"])


def test_folder_of_another_start_is_refused(start: StoredStart, tmp_path: Path) -> None:
    claim_work(tmp_path / "on", start)
    with pytest.raises(ValueError, match="expected a folder of training from nothing, got"):
        claim_work(tmp_path / "on", None)
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "basis.pt").touch()
    with pytest.raises(ValueError, match="which is one of training from nothing"):
        claim_work(tmp_path / "new", start)


def test_adapter_is_trained_on_and_the_base_stays(
    start: StoredStart, tmp_path: Path, fresh_accelerate: None
) -> None:
    work, weights = tmp_path / "work", tmp_path / "out"
    work.mkdir()
    claim_work(work, start)
    write_tables(write_work(work))
    weights.mkdir()
    shutil.copyfile(start.base_path, weights / BASE_NAME)
    recipe = small_recipe(steps=2)
    require_words(start, corpus_vocabulary(work, recipe))
    made_by = {"history": history_after(start.adapter_path, recipe.adapter)}
    run_adapter(work, weights, recipe, start.adapter_path, made_by)
    before, after = start.adapter, checkpoint.load(weights / ADAPTER_NAME)
    assert "adapter stage: 2 steps of 4" in after.config.provenance["history"][-1]
    moved = [n for n, t in before.grounding.items() if not torch.equal(t, after.grounding[n])]
    assert "linears_image.fc1.weight" in moved
    # begun from the stored adapter, not from new parts: two steps move nothing far
    name = "linears_image.fc1.weight"
    assert (before.grounding[name] - after.grounding[name]).abs().max() < 0.01


def test_base_without_the_words_is_refused(start: StoredStart, tmp_path: Path) -> None:
    claim_work(tmp_path, start)
    write_tables(write_work(tmp_path))
    words = corpus_vocabulary(tmp_path, small_recipe())
    require_words(start, words)
    with pytest.raises(ValueError, match="expected a base that knows the captions' words"):
        require_words(start, CompactVocabulary({*words.token_ids, 12345}))


def test_options_of_the_adapter_stage_leave_the_rest() -> None:
    recipe = TinyRecipe()
    changed = with_adapter_options(recipe, {"steps": 700, "seed": None})
    assert (changed.adapter.steps, changed.adapter.seed) == (700, recipe.adapter.seed)
    assert changed.joint == recipe.joint


def test_folder_without_weights_is_refused(tmp_path: Path) -> None:
    words = ["tiny", "--go-on-from", str(tmp_path), "--work", str(tmp_path / "work")]
    with pytest.raises(SystemExit, match=r"error: .*tiny_base\.safetensors"):
        main(words)
    with pytest.raises(SystemExit, match="error: --weights: expected another folder than"):
        main([*words, "--weights", str(tmp_path)])
    for name, value in (("--seed", "3"), ("--decoder-steps", "8")):
        with pytest.raises(SystemExit, match=f"error: {name}: expected --go-on-from beside"):
            main(["tiny", name, value, "--work", str(tmp_path / "work")])
    with pytest.raises(SystemExit, match="error: --text: expected --go-on-from beside"):
        main(["tiny", "--text", "--work", str(tmp_path / "work")])
    assert not (tmp_path / "work").exists()


def test_options_of_a_training_that_goes_on_are_checked(start: StoredStart, tmp_path: Path) -> None:
    work = tmp_path / "work"
    words = ["tiny", "--go-on-from", str(start.base_path.parent), "--work", str(work)]
    with pytest.raises(SystemExit, match="error: --steps: expected at least 1, got 0"):
        main([*words, "--steps", "0"])
    with pytest.raises(SystemExit, match="error: --seed: expected at least 0, got -1"):
        main([*words, "--seed", "-1"])
    with pytest.raises(SystemExit, match="error: --decoder-steps: expected at least 1, got 0"):
        main([*words, "--decoder-steps", "0"])
    for other in (["--steps", "3"], ["--text"]):
        with pytest.raises(SystemExit, match="expected it without --steps, --seed and --text"):
            main([*words, "--decoder-steps", "8", *other])
    assert not work.exists()


def test_decoder_is_trained_on_and_all_else_stays(start: StoredStart, tmp_path: Path) -> None:
    work, weights = tmp_path / "work", tmp_path / "out"
    scored = tmp_path / "scored"
    shutil.copytree(start.base_path.parent, scored)
    checkpoint.save_provenance(scored / ADAPTER_NAME, {"seed": 1, SCORES_KEY: {"rows": {}}})
    start = read_stored_start(scored)
    work.mkdir()
    claim_work(work, start)
    write_tables(write_work(work))
    further = replace(small_recipe().autoencoder.going_on(4), batch_size=2)
    assert further.warmup_steps == 4
    train_stored_decoder(work, weights, further, start)
    before, after = start.base, read_stored_start(weights).base
    for part in ("unet", "text_encoder", "vision"):
        old, new = getattr(before, part), getattr(after, part)
        assert all(torch.equal(tensor, new[name]) for name, tensor in old.items())
    moved = {name for name, old in before.vae.items() if not torch.equal(old, after.vae[name])}
    assert "synthesis.weight" in moved and not any(name.startswith("analysis") for name in moved)
    provenance = after.config["provenance"]
    assert provenance["autoencoder"]["steps"] == 4
    assert f"from the base {start.sha256[BASE_NAME][:12]}" in provenance["history"][-1]
    adapter = checkpoint.load(weights / ADAPTER_NAME)
    assert adapter.config.provenance == {"seed": 1}  # the old decoder's scores are gone
    torch.testing.assert_close(adapter.grounding, start.adapter.grounding, rtol=0, atol=0)
