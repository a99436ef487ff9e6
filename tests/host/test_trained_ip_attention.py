"""IP-Adapter plus and MS-Diffusion as trained here: the loop's model and the nodes agree, from
picture, label, box and prompt on, and the nodes make a picture with the exported file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from host_models import Host, cfg_guider, random_noise, relative_error, sample
from test_nodes import make_subject
from test_parity import TIMESTEP, host_prediction

from subject_diffusion_core.tiny import tiny_base
from training.bases.base_model import BaseModel
from training.bases.loading import read_tiny_base
from training.bases.vision import load_vision, vision_shape
from training.dataset.layout import Entity
from training.dataset.samples import LABEL_TOKENS, SubjectDataset
from training.methods.conditioning import Conditioning
from training.methods.registry import assemble, method_of
from training.networks.fused_attention import use_fused_attention
from training.recipes import TrainingRecipe, recipe_named, with_settings

PROMPT, LABELS = "a dog and a cat on a beach", ("dog", "cat")
BOXES = ((0.1, 0.2, 0.55, 0.9), (0.4, 0.05, 0.95, 0.6))  # they overlap
SMALL = ("grounding_hidden_dim=64", "num_subjects=3", "precision=float32")
RECIPES = ("tiny_ip_adapter", "tiny_ms_diffusion")


class Trained:
    """A model as training leaves it, its file in the nodes, and subjects on both sides."""

    def __init__(self, host: Host, folder: Path, name: str) -> None:
        self.host, self.base = host, host.make_base()
        self.recipe = with_settings(recipe_named(name), SMALL)
        tiny_base.save(folder / "base.safetensors", host.tiny, int8=False)
        self.own = read_tiny_base(folder / "base.safetensors")
        self.model = moved_model(self.own, self.recipe)
        path = folder / "head.safetensors"
        method_of(self.recipe).write_file(path, self.model, {})
        self.loaded = host.registry.load_adapter(path)
        self.vision = host.tiny_clip_vision.TinyClipVision(host.tiny)
        boxes = [",".join(map(str, box)) for box in BOXES]
        self.subjects = []
        for seed, (box, label) in enumerate(zip(boxes, LABELS, strict=True)):
            torch.manual_seed(seed)
            self.subjects.append(make_subject(host, box=box, label=label))
        self.noise = random_noise(self.base)

    def encoded(self) -> tuple[Any, Any, Any, Any]:
        """The MODEL with the file, and Encode's three conditionings."""
        model, clip = self.host.apply_node.apply_adapter(
            self.base.model, self.base.clip, self.loaded
        )
        encode = self.host.encode_node.SubjectDiffusionEncode.execute
        positive, image_only, negative = encode(
            clip, self.vision, self.loaded, self.subjects, PROMPT, ""
        ).args
        return model, positive, image_only, negative

    def told(self, prompt: str, has_pictures: bool) -> Conditioning:
        """The same as the loop's conditioning, one slot empty."""
        dataset = SubjectDataset.__new__(SubjectDataset)  # its texts need no shards
        dataset.recipe, dataset.vocabulary = self.recipe, self.own.vocabulary
        dataset.pad_token_id = self.own.pad_token_id
        mask = np.ones((1, 1), bool)
        entities = [
            Entity(label=label, box_xyxy=box, mask=mask, identity="", cutout=-1)
            for label, box in zip(LABELS, BOXES, strict=True)
        ]
        vision = load_vision(None, self.recipe, self.own)
        pictures = [self.vision_pixels(subject) for subject in self.subjects]
        patches = torch.cat([vision.network(pixels).patch_embeds for pixels in pictures])
        empty = torch.zeros(1, *patches.shape[1:])
        valid = torch.tensor([[has_pictures, has_pictures, False]])
        unused = torch.full((1, 3), -1)
        labels = dataset.labels(entities, 3)
        assert labels.shape == (3, LABEL_TOKENS)
        return Conditioning(
            token_ids=dataset.tokens(prompt, []).token_ids[None],
            placeholder_positions=unused,
            label_positions=unused,
            text_valid=torch.zeros(1, 3, dtype=torch.bool),
            subject_valid=valid,
            subject_boxes_xyxy=torch.tensor([[*BOXES, (0.0, 0.0, 0.0, 0.0)]]),
            patch_embeds=torch.cat((patches, empty))[None],
            image_embeds=None,
            location_mask=torch.zeros(1, 1, 16, 16),
            adapter_scale=torch.ones(1, 1, 1),
            label_token_ids=labels[None],
        )

    def vision_pixels(self, subject: Any) -> torch.Tensor:
        """(1, 3, S, S) as the small encoder gets a subject's picture from Encode."""
        pictures = self.host.image_encoding.reference_pictures(subject.images, subject.masks, 224)
        (picture,) = pictures
        resized = self.host.tiny_clip_vision._resize(
            picture[None].movedim(-1, 1), self.vision.image_size, True
        )
        return self.host.core("tiny.tiny_vision").normalise_pixels(resized)


@torch.no_grad()
def moved_model(base: BaseModel, recipe: TrainingRecipe) -> Any:
    """Every trained parameter far from its start, rounded to the fp16 of the file."""
    model = assemble(recipe, base, vision_shape(recipe, base))
    generator = torch.Generator().manual_seed(5)
    for parameter in model.parameters():
        if parameter.requires_grad:
            noise = torch.randn(parameter.shape, generator=generator)
            scale = 0.5 * parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 0.1
            parameter.copy_((parameter + scale * noise).half())
    use_fused_attention(model.unet)
    return model.eval()


@pytest.fixture(scope="module", params=RECIPES)
def trained(
    request: pytest.FixtureRequest, host: Host, tmp_path_factory: pytest.TempPathFactory
) -> Trained:
    with torch.no_grad():
        return Trained(host, tmp_path_factory.mktemp("trained"), request.param)


@torch.no_grad()
def both(trained: Trained, branch: int, prompt: str, has_pictures: bool) -> tuple[Any, Any]:
    """The loop's prediction and the nodes' in one of the three branches."""
    model, *branches = trained.encoded()
    got = host_prediction(
        trained.base, cfg_guider(model, branches[branch], branches[branch]), trained.noise
    )
    sigma = trained.base.model.get_model_object("model_sampling").sigmas[TIMESTEP]
    x = trained.noise * sigma / (sigma**2 + 1) ** 0.5
    told = trained.told(prompt, has_pictures)
    return trained.model(x, torch.tensor([TIMESTEP]), told), got


def test_the_loader_says_what_it_is(trained: Trained) -> None:
    named = {"ip_adapter": "IP-Adapter plus", "ms_diffusion": "MS-Diffusion"}
    assert trained.loaded.summary.startswith(named[trained.recipe.method])
    trained.loaded.require_base(trained.base.model)


@pytest.mark.parametrize("branch", [0, 1, 2], ids=["positive", "image only", "negative"])
def test_same_prediction_in_all_branches(trained: Trained, branch: int) -> None:
    """The negative one: IP-Adapter's dropped pictures, MS-Diffusion's absent image part."""
    prompt = PROMPT if branch == 0 else ""
    wanted, got = both(trained, branch, prompt, has_pictures=branch < 2)
    assert relative_error(got, wanted) < 1e-4


def test_the_subjects_count(trained: Trained) -> None:
    wanted, _ = both(trained, 0, PROMPT, has_pictures=True)
    _, plain = both(trained, 2, "", has_pictures=False)
    assert relative_error(plain, wanted) > 1e-2


def test_a_picture_is_made(trained: Trained) -> None:
    model, positive, _, negative = trained.encoded()
    latent = sample(cfg_guider(model, positive, negative, 3.0), trained.noise, steps=2)
    assert latent.shape == trained.noise.shape and bool(latent.isfinite().all())
