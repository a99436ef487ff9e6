"""The two files give back the model they were made from, and make pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_parts import small_base, small_model, small_recipe, write_files

from training.evaluation.generation import GenerationRequest, SubjectRequest, load_generator
from training.methods.subject_diffusion.model import SubjectDiffusionModel
from training.methods.subject_diffusion.sampling import SamplingRule
from training.networks.text import token_embedding

RULE = SamplingRule(steps=2)


@pytest.fixture(scope="module")
def trained() -> SubjectDiffusionModel:
    """An untrained model whose adapters and mask kernel do something."""
    recipe = small_recipe()
    model = small_model(recipe, recipe.joint, seed=3)
    with torch.no_grad():
        model.unet.conv_in.weight[:, -1] = 0.1
    return model.requires_grad_(False)


@pytest.fixture(scope="module")
def weights(trained: SubjectDiffusionModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    recipe, folder = small_recipe(), tmp_path_factory.mktemp("weights")
    write_files(folder, trained, recipe, recipe.joint)
    return folder


def request(value: int) -> GenerationRequest:
    reference = np.full((96, 96, 3), value, np.uint8)
    subject = SubjectRequest(reference=reference, label="truck", box_xyxy=(0.2, 0.2, 0.7, 0.8))
    return GenerationRequest(prompt="a truck in a forest", subjects=(subject,), seed=5)


def test_loaded_weights_are_the_stored_ones(trained: SubjectDiffusionModel, weights: Path) -> None:
    loaded = load_generator(weights, RULE).model.state_dict()
    for name, value in trained.state_dict().items():
        if name.endswith("token_embedding.weight"):
            continue
        scale = value.abs().max().clamp(min=1e-4)
        assert ((loaded[name] - value).abs().max() / scale) < 0.005, name  # 8 bits a weight


def test_words_keep_their_rows_and_unknown_ones_share_one(
    trained: SubjectDiffusionModel, weights: Path
) -> None:
    vocabulary = small_base(small_recipe()).vocabulary
    own = token_embedding(trained.text_encoder).weight
    loaded = load_generator(weights, RULE).model.text_encoder
    table = token_embedding(loaded).weight
    ids = torch.tensor([0, 7, *vocabulary.token_ids[:5]])
    atol = float(own.abs().max()) / 100
    torch.testing.assert_close(table[ids], own[vocabulary.compact(ids)], atol=atol, rtol=0)
    assert torch.equal(table[0], table[7])


def test_the_picture_depends_on_the_reference_only_with_the_adapter(weights: Path) -> None:
    generator = load_generator(weights, RULE)
    first, second = generator([request(40)]), generator([request(220)])
    assert first.shape == (1, 128, 128, 3) and first.dtype == np.uint8
    assert not np.array_equal(first, second)
    base = load_generator(weights, RULE, use_adapter=False)
    assert np.array_equal(base([request(40)]), base([request(220)]))


def test_branches_one_by_one_or_stacked_give_one_picture(weights: Path) -> None:
    single = SamplingRule(steps=2, stacked=False)
    together, apart = (load_generator(weights, rule)([request(40)]) for rule in (RULE, single))
    assert np.abs(together.astype(int) - apart.astype(int)).max() <= 1
