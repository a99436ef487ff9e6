"""IP-Adapter through the nodes: parity with diffusers' loader, and what must not change."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import node_helpers
import pytest
import torch
from host_models import Base, Host, cfg_guider, random_noise, relative_error, sample
from ip_models import Vision, diffusers_prediction, make_file, write_file
from test_nodes import make_subject
from test_parity import TIMESTEP, host_prediction
from test_saved_subjects import output_folder, save_and_load  # noqa: F401

PROMPT = "a dog and a cat"
KINDS = ("base", "plus", "full face")
# on the cells of the coarsest layer of a 16x16 latent
BOXES = ("0,0,0.5,0.75", "0.5,0.25,1,1", "0.25,0,0.75,0.5")


class Setup:
    """The tiny base, an image encoder, and one file of each kind."""

    def __init__(self, host: Host, folder: Path) -> None:
        self.host = host
        self.base: Base = host.make_base()
        self.vision = Vision(folder)
        self.files = {kind: make_file(kind, self.base.unet) for kind in KINDS}
        self.adapters = {
            kind: self.load(write_file(folder / f"{kind}.safetensors", file))
            for kind, file in self.files.items()
        }
        self.noise = random_noise(self.base)

    def load(self, path: Path) -> Any:
        return self.host.registry.load_adapter(path)

    def subject(self, index: int = 0, **options: Any) -> Any:
        torch.manual_seed(index)
        return make_subject(self.host, **{"box": BOXES[index], **options})

    def subjects(self, count: int, **options: Any) -> list[Any]:
        return [self.subject(index, **options) for index in range(count)]

    def apply(self, kind: str = "plus", model: Any = None, **settings: Any) -> tuple[Any, Any]:
        apply = self.host.apply_node.apply_adapter
        return apply(model or self.base.model, self.base.clip, self.adapters[kind], **settings)

    def encode(self, clip: Any, *subjects: Any, kind: str = "plus", **inputs: Any) -> Any:
        node = self.host.encode_node.SubjectDiffusionEncode
        adapter = self.adapters[kind]
        return node.execute(
            clip, self.vision.ours, adapter, subjects, PROMPT, "blurry", **inputs
        ).args

    def run(self, *subjects: Any, kind: str = "plus", **settings: Any) -> torch.Tensor:
        model, clip = self.apply(kind, **settings)
        positive, _, negative = self.encode(clip, *subjects, kind=kind)
        return sample(cfg_guider(model, positive, negative, 3.0), self.noise, steps=2)

    def stock(self, cfg: float = 3.0) -> torch.Tensor:
        texts = [self.host.encode_text(self.base.clip, text) for text in (PROMPT, "blurry")]
        return sample(cfg_guider(self.base.model, *texts, cfg), self.noise, steps=2)

    def pixels(self, subject: Any) -> torch.Tensor:
        """(V, 3, 32, 32) what every CLIP gets of a subject's views."""
        pictures = self.host.image_encoding.reference_pictures(subject.images, subject.masks, 224)
        return torch.cat([self.vision.pixels(picture[None]) for picture in pictures])


@pytest.fixture(scope="module")
def setup(host: Host, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setup]:
    with torch.inference_mode():
        yield Setup(host, tmp_path_factory.mktemp("ip"))


def expected(
    setup: Setup, kind: str, subjects: list[Any], scales: list[float], side: int = 128
) -> torch.Tensor:
    """diffusers' prediction for (positive, negative)."""
    base, vision = setup.base, setup.vision
    texts = [setup.host.encode_text(base.clip, text)[0][0] for text in (PROMPT, "blurry")]
    embeds = torch.stack([vision.embeds(kind, setup.pixels(s))[0] for s in subjects])
    nothing = vision.no_embeds(kind).expand(len(subjects), *embeds.shape[1:])
    masks = []
    for subject in subjects:
        x1, y1, x2, y2 = (round(edge * side) for edge in subject.box.edges)
        mask = torch.zeros(side, side)
        mask[y1:y2, x1:x2] = 1
        masks.append(mask)
    sigma = base.model.get_model_object("model_sampling").sigmas[TIMESTEP]
    x = (setup.noise * sigma / (sigma**2 + 1) ** 0.5).expand(2, -1, -1, -1)
    return diffusers_prediction(
        base.unet,
        setup.files[kind],
        x,
        TIMESTEP,
        torch.cat(texts),
        torch.stack((embeds, nothing)),
        masks,
        scales,
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [1, 2, 3])
def test_parity_with_diffusers(setup: Setup, kind: str, count: int) -> None:
    """From pixel values, with a mask and a strength for each subject, in both branches."""
    strengths = [1.0, 0.7, 1.3][:count]
    subjects = [setup.subject(i, strength=s) for i, s in enumerate(strengths)]
    model, clip = setup.apply(kind, strength=0.8)
    positive, _, negative = setup.encode(clip, *subjects, kind=kind)
    wanted = expected(setup, kind, subjects, [0.8 * s for s in strengths])
    for conditioning, want in zip((positive, negative), wanted, strict=True):
        got = host_prediction(
            setup.base, cfg_guider(model, conditioning, conditioning), setup.noise
        )
        assert relative_error(got, want[None]) < 1e-4
    stock = setup.host.encode_text(setup.base.clip, PROMPT)
    plain = host_prediction(setup.base, cfg_guider(model, stock, stock), setup.noise)
    assert relative_error(plain, wanted[:1]) > 1e-2


def test_a_negative_from_elsewhere_gets_the_same(setup: Setup) -> None:
    model, clip = setup.apply()
    positive, _, negative = setup.encode(clip, setup.subject(0), setup.subject(1))
    ours = sample(cfg_guider(model, positive, negative, 3.0), setup.noise, steps=2)
    plain = setup.host.encode_text(setup.base.clip, "blurry")
    theirs = sample(cfg_guider(model, positive, plain, 3.0), setup.noise, steps=2)
    assert relative_error(theirs, ours) < 1e-6


def test_a_negative_from_elsewhere_beside_subjects_that_come_and_go(setup: Setup) -> None:
    """It has the places of those that take part at a step, also in a part of the sampling."""
    model, clip = setup.apply()
    subjects = (setup.subject(0, end_percent=0.6), setup.subject(1, start_percent=0.4))
    positive, _, negative = setup.encode(clip, *subjects)
    plain = setup.host.encode_text(setup.base.clip, "blurry")
    parts = [{"start_percent": 0.0, "end_percent": 0.3}, {"start_percent": 0.3, "end_percent": 1.0}]
    early, late = (node_helpers.conditioning_set_values(plain, part) for part in parts)
    ours = sample(cfg_guider(model, positive, negative, 3.0), setup.noise, steps=6)
    for theirs in (plain, early + late):
        got = sample(cfg_guider(model, positive, theirs, 3.0), setup.noise, steps=6)
        assert relative_error(got, ours) < 1e-6
    always = setup.encode(clip, setup.subject(0), setup.subject(1))[2]
    union = sample(cfg_guider(model, positive, always, 3.0), setup.noise, steps=6)
    assert relative_error(union, ours) > 1e-4


def test_neutral_settings_are_stock(setup: Setup) -> None:
    wanted = setup.stock()
    for settings in ({"strength": 0.0}, {"start_percent": 0.4, "end_percent": 0.4}):
        assert torch.equal(setup.run(setup.subject(), **settings), wanted)
    assert torch.equal(setup.run(), wanted)
    assert torch.equal(setup.run(setup.subject(strength=0.0)), wanted)
    assert torch.equal(setup.run(setup.subject(), block_weights="all=0"), wanted)


def test_a_subject_without_a_box_acts_everywhere(setup: Setup) -> None:
    everywhere, whole = setup.subject(box=""), setup.subject(box="0,0,1,1")
    assert relative_error(setup.run(everywhere), setup.run(whole)) < 1e-6


def test_a_view_given_twice_counts_as_once(setup: Setup) -> None:
    once = setup.subject()
    twice = setup.subject()
    object.__setattr__(twice, "images", once.images.repeat(2, 1, 1, 1))
    assert relative_error(setup.run(twice), setup.run(once)) < 1e-5


def test_a_region_takes_the_boxs_place(setup: Setup) -> None:
    region = torch.zeros(1, 64, 64)
    region[:, :32, 32:] = 1
    in_region = setup.run(setup.subject(region=region))
    in_box = setup.run(setup.subject(box="0.5,0,1,0.5"))
    assert relative_error(in_region, in_box) < 1e-6
    soft = setup.run(setup.subject(region=0.7 * region))
    assert relative_error(soft, in_region) > 1e-3


def test_batch_equals_singles_and_odd_sizes(setup: Setup) -> None:
    model, clip = setup.apply()
    positive, _, negative = setup.encode(clip, setup.subject(0), setup.subject(1))
    for size in ((16, 16), (13, 19)):
        noise = random_noise(setup.base, batch=3, size=size)
        batch = sample(cfg_guider(model, positive, negative, 3.0), noise, steps=2)
        for index in range(3):
            single = sample(
                cfg_guider(model, positive, negative, 3.0), noise[index : index + 1], steps=2
            )
            assert relative_error(batch[index : index + 1], single) < 1e-4


def test_start_and_end_and_block_weights_act(setup: Setup) -> None:
    subject = setup.subject()
    settings = ({}, {"end_percent": 0.3}, {"start_percent": 0.3})
    settings += ({"block_weights": "up=0"}, {"block_weights": "ease in"})
    latents = [setup.run(subject, **each) for each in settings]
    assert len({float(latent.sum()) for latent in latents}) == len(latents)
    with pytest.raises(ValueError, match=r"block_weights: .*or a preset \(ease in, ease out\)"):
        setup.run(subject, block_weights="style")


def test_subjects_that_come_and_go(setup: Setup) -> None:
    late = setup.subject(1, start_percent=0.5)
    assert relative_error(setup.run(setup.subject(0), late), setup.run(setup.subject(0))) > 1e-3


def test_a_negative_image_stands_in_their_places(setup: Setup) -> None:
    model, clip = setup.apply()
    subject = setup.subject()
    torch.manual_seed(9)
    avoided = torch.rand(1, 20, 20, 3)
    positive, _, negative = setup.encode(clip, subject, negative_image=avoided)
    with_image = sample(cfg_guider(model, positive, negative, 3.0), setup.noise, steps=2)
    assert relative_error(with_image, setup.run(subject)) > 1e-3


def test_beside_a_foreign_replacement_of_the_attention(setup: Setup) -> None:
    model, clip = setup.apply()
    positive, _, negative = setup.encode(clip, setup.subject(0), setup.subject(1))
    wanted = sample(cfg_guider(model, positive, negative, 3.0), setup.noise, steps=2)

    def attend(q: Any, k: Any, v: Any, options: dict[str, Any]) -> torch.Tensor:
        q, k, v = (x.unflatten(-1, (options["n_heads"], -1)).transpose(1, 2) for x in (q, k, v))
        attended = torch.nn.functional.scaled_dot_product_attention(q, k, v)
        return attended.transpose(1, 2).flatten(2)

    replaced = model.clone()
    for block in setup.host.unet_geometry.read_unet_geometry(model).blocks.values():
        replaced.set_model_attn2_replace(attend, *block.location)
    got = sample(cfg_guider(replaced, positive, negative, 3.0), setup.noise, steps=2)
    assert relative_error(got, wanted) < 1e-5


def test_saved_subjects(setup: Setup, output_folder: Path) -> None:  # noqa: F811
    host = setup.host
    node = host.encode_subjects_node.SubjectDiffusionEncodeSubjects
    subject = setup.subject(strength=0.7)
    (encoded,) = node.execute((subject,), setup.vision.ours, setup.adapters["plus"]).args
    (loaded,) = save_and_load(host, encoded)
    assert relative_error(setup.run(loaded), setup.run(subject)) < 1e-6
    with pytest.raises(ValueError, match="expected an encoder with an image embedding of width 24"):
        setup.run(loaded, kind="base")


def test_maps_of_the_labels_in_the_prompt(setup: Setup) -> None:
    host = setup.host
    model, clip = setup.apply()
    record = host.record_attention_node.SubjectDiffusionRecordAttention
    recorded, attention = record.execute(model, "0-1").args
    positive, _, negative = setup.encode(clip, setup.subject(0), setup.subject(1, label="cat"))
    sample(cfg_guider(recorded, positive, negative, 3.0), setup.noise, steps=2)
    maps = host.attention_maps_node.SubjectDiffusionAttentionMaps
    shown = maps.execute(attention, torch.rand(1, 64, 64, 3), "label", 0.5, 0.7).args
    assert [line.split(",")[0] for line in shown[3].split("\n")] == [
        "picture 1: dog (label)",
        "picture 1: cat (label)",
    ]


@pytest.mark.parametrize(
    ("prompt", "positions"),
    [("a dog and a dog", [2, 5]), ("a dog", [2, 2]), ("dog, dog, dog", [1, 3])],
)
def test_subjects_with_one_label_have_a_mention_each(
    setup: Setup, prompt: str, positions: list[int]
) -> None:
    texts = setup.host.texts.TextEncoder(setup.base.clip)
    present = list(enumerate((setup.subject(0), setup.subject(1))))
    text = setup.host.label_texts.watched_labels(texts, prompt, present)
    assert [subject.label_position for subject in text.subjects] == positions
