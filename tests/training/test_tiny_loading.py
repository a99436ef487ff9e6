"""The two files give back the model they were made from, and sample pictures."""

from pathlib import Path

import numpy as np
import pytest
import torch

from subject_diffusion_core import checkpoint
from subject_diffusion_core.tiny import tiny_base
from subject_diffusion_core.tiny.tiny_vision import TinyVision
from training.methods.subject_diffusion.model import SubjectDiffusionModel
from training.networks.text import CompactVocabulary, encode_words
from training.sampling import GenerationRequest, SubjectRequest
from training.toy.autoencoder import build_autoencoder
from training.toy.batches import PLACEHOLDER_TOKEN_ID
from training.toy.build import build_model
from training.toy.export import adapter_from_model, base_from_model
from training.toy.loading import ADAPTER_NAME, BASE_NAME, load_sampler
from training.toy.recipe import TinyRecipe

WORDS = "a truck on the is , in a forest"


@pytest.fixture(scope="module")
def trained() -> tuple[SubjectDiffusionModel, CompactVocabulary]:
    """An untrained model whose adapters and mask kernel do something."""
    vocabulary = CompactVocabulary({*encode_words(WORDS), PLACEHOLDER_TOKEN_ID})
    model = build_model(TinyRecipe(), vocabulary, seed=3)
    with torch.no_grad():
        model.unet.conv_in.weight[:, -1] = 0.1
    return model.requires_grad_(False), vocabulary


@pytest.fixture(scope="module")
def weights(trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    model, vocabulary = trained
    folder, recipe = tmp_path_factory.mktemp("weights"), TinyRecipe()
    autoencoder = build_autoencoder(recipe.autoencoder)
    base = base_from_model(model, autoencoder, TinyVision(), vocabulary, recipe, {})
    tiny_base.save(folder / BASE_NAME, base)
    checkpoint.save(folder / ADAPTER_NAME, adapter_from_model(model, vocabulary, recipe, {}))
    return folder


def request(value: int) -> GenerationRequest:
    reference = np.full((96, 96, 3), value, np.uint8)
    subject = SubjectRequest(reference=reference, label="truck", box_xyxy=(0.2, 0.2, 0.7, 0.8))
    return GenerationRequest(prompt="a truck in a forest", subjects=(subject,), seed=5)


def test_loaded_weights_are_the_stored_ones(trained, weights: Path):
    model, vocabulary = trained
    sampler = load_sampler(weights)
    assert sampler.vocabulary.token_ids == vocabulary.token_ids
    expected = model.state_dict()
    for name, value in sampler.model.state_dict().items():
        scale = expected[name].abs().max().clamp(min=1e-6)
        assert ((value - expected[name]).abs().max() / scale) < 0.005, name  # 8 bits a weight


def test_the_unknown_word_keeps_its_row(trained, weights: Path):
    model, _ = trained
    name = "text_encoder.text_model.embeddings.token_embedding.weight"
    own_name = name if name in model.state_dict() else name.replace("text_model.", "", 1)
    row = load_sampler(weights).model.state_dict()[own_name][0]
    expected = model.state_dict()[own_name][0]
    assert torch.allclose(row, expected, atol=float(expected.abs().max()) / 100)


def test_the_picture_depends_on_the_reference_only_with_the_adapter(weights: Path):
    sampler = load_sampler(weights, steps=2)
    first, second = sampler([request(40)]), sampler([request(220)])
    assert first.shape == (1, 128, 128, 3) and first.dtype == np.uint8
    assert not np.array_equal(first, second)
    base = load_sampler(weights, use_adapter=False, steps=2)
    assert np.array_equal(base([request(40)]), base([request(220)]))
