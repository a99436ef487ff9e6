"""MS-Diffusion on SDXL's geometry, through the nodes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import comfy.sd1_clip
import pytest
import torch
from diffusers import UNet2DConditionModel
from host_models import Base, Host, cfg_guider, random_noise, relative_error, sample
from ip_models import Vision, diffusers_prediction, make_file, new_projection, write_file
from sdxl_models import TEXT_G, TEXT_L, make_sdxl_base, make_sdxl_clip, make_text_model
from test_nodes import make_subject
from test_parity import TIMESTEP, host_prediction
from torch.nn import functional as F
from transformers import CLIPTokenizer

from subject_diffusion_core.ip_attention import box_cells, joint_image_attention

TOKENIZER = str(Path(comfy.sd1_clip.__file__).parent / "sd1_tokenizer")
PROMPT, SCALE = "a dog and a cat on a sofa", 0.6
BOXES = ((0.0, 0.0, 0.55, 0.8), (0.45, 0.3, 1.0, 1.0), (0.3, 0.1, 0.7, 0.5))
LABELS = ("dog", "cat (small)", "sofa")


class Setup:
    def __init__(self, host: Host, folder: Path) -> None:
        self.host = host
        self.base: Base = make_sdxl_base(host)
        self.vision = Vision(folder)
        self.file = make_file("grounded", self.base.unet)
        load = host.registry.load_adapter
        self.adapter = load(write_file(folder / "ms_adapter.bin", self.file))
        self.plus_file = make_file("plus", self.base.unet)
        self.plus = load(write_file(folder / "plus.safetensors", self.plus_file))
        self.noise = random_noise(self.base)

    def subjects(self, count: int, **options: Any) -> list[Any]:
        made = []
        for index in range(count):
            torch.manual_seed(index)
            box = ",".join(map(str, BOXES[index]))
            inputs = {"box": box, "label": LABELS[index], **options}
            made.append(make_subject(self.host, **inputs))
        return made

    def apply(self, adapter: Any = None, **settings: Any) -> tuple[Any, Any]:
        apply = self.host.apply_node.apply_adapter
        return apply(self.base.model, self.base.clip, adapter or self.adapter, **settings)

    def encode(self, clip: Any, *subjects: Any, adapter: Any = None, **inputs: Any) -> Any:
        node = self.host.encode_node.SubjectDiffusionEncode
        chosen = adapter or self.adapter
        return node.execute(clip, self.vision.ours, chosen, subjects, PROMPT, "", **inputs).args

    def predict(self, model: Any, conditioning: Any, noise: Any = None) -> torch.Tensor:
        guider = cfg_guider(model, conditioning, conditioning)
        return host_prediction(self.base, guider, self.noise if noise is None else noise)

    def embeds(self, subject: Any) -> torch.Tensor:
        """(V, L, E)"""
        pictures = self.host.image_encoding.reference_pictures(subject.images, subject.masks, 224)
        views = [self.vision.embeds("plus", self.vision.pixels(p[None])) for p in pictures]
        return torch.cat(views)

    def conditions(self, text: Any, noise: torch.Tensor) -> dict[str, torch.Tensor]:
        height, width = (8 * side for side in noise.shape[-2:])
        times = torch.tensor([[height, width, 0, 0, height, width]])
        return {"text_embeds": text[0][1]["pooled_output"], "time_ids": times}

    def scaled(self, noise: torch.Tensor) -> torch.Tensor:
        sigma = self.base.model.get_model_object("model_sampling").sigmas[TIMESTEP]
        return noise * sigma / (sigma**2 + 1) ** 0.5


@pytest.fixture(scope="module")
def setup(host: Host, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setup]:
    with torch.inference_mode():
        yield Setup(host, tmp_path_factory.mktemp("ms"))


class JointProcessor:
    """One cross-attention layer of MS-Diffusion in diffusers' UNet."""

    def __init__(
        self,
        pair: tuple[torch.Tensor, torch.Tensor],
        tokens: torch.Tensor,
        boxes: torch.Tensor,
        scales: torch.Tensor,
        latent_size: tuple[int, int],
    ) -> None:
        self.pair, self.tokens, self.boxes, self.scales = pair, tokens, boxes, scales
        self.latent_size = latent_size

    def __call__(
        self, attn: Any, hidden_states: Any, encoder_hidden_states: Any = None, **_: Any
    ) -> Any:
        def heads(states: torch.Tensor) -> torch.Tensor:
            return states.unflatten(-1, (attn.heads, -1)).transpose(1, 2)

        query = heads(attn.to_q(hidden_states))
        key, value = (
            heads(attn.to_k(encoder_hidden_states)),
            heads(attn.to_v(encoder_hidden_states)),
        )
        out = F.scaled_dot_product_attention(query, key, value)
        height, width = self.latent_size
        while height * width > query.shape[2]:
            height, width = (height + 1) // 2, (width + 1) // 2
        image = [heads(F.linear(self.tokens, weight)) for weight in self.pair]
        cells = box_cells(self.boxes, height, width)
        out = out + joint_image_attention(query, *image, cells, self.scales)
        return attn.to_out[0](out.transpose(1, 2).flatten(2))


def label_vector(label: str) -> torch.Tensor:
    """(1, G) transformers' pooler."""
    model = make_text_model(TEXT_L, 1)
    tokenizer = CLIPTokenizer.from_pretrained(TOKENIZER)
    ids = tokenizer(label, padding="max_length", max_length=77, return_tensors="pt").input_ids
    return model(ids).pooler_output


def expected(
    setup: Setup,
    subjects: list[Any],
    scales: list[float],
    noise: torch.Tensor,
    grounded: bool = True,
) -> torch.Tensor:
    base, file = setup.base, setup.file
    resampler = new_projection("grounded", base.config["cross_attention_dim"]).eval()
    resampler.load_state_dict(file["image_proj"])
    boxes = torch.tensor([subject.box.edges for subject in subjects])
    labels = torch.cat([label_vector(subject.label) for subject in subjects])
    states = torch.stack([setup.embeds(subject).mean(dim=0) for subject in subjects])
    tokens = resampler(states, boxes, labels, grounded=grounded).flatten(0, 1)[None]
    unet = UNet2DConditionModel(**base.unet.config)
    unet.load_state_dict(base.unet.state_dict())
    processors = {}
    for number, (name, processor) in enumerate(unet.attn_processors.items()):
        processors[name] = processor
        if "attn2" in name:
            layers = file["ms_adapter"]
            pair = (layers[f"{number}.to_k_ip.weight"], layers[f"{number}.to_v_ip.weight"])
            processors[name] = JointProcessor(
                pair, tokens, boxes, torch.tensor(scales), tuple(noise.shape[-2:])
            )
    unet.set_attn_processor(processors)
    text = setup.host.encode_text(base.clip, PROMPT)
    return unet.eval()(
        setup.scaled(noise),
        TIMESTEP,
        encoder_hidden_states=text[0][0],
        added_cond_kwargs=setup.conditions(text, noise),
    ).sample


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("size", [(16, 16), (13, 19)])
def test_parity(setup: Setup, count: int, size: tuple[int, int]) -> None:
    subjects = setup.subjects(count, strength=0.9)
    noise = random_noise(setup.base, size=size)
    model, clip = setup.apply(strength=1.5)
    positive, _, _ = setup.encode(clip, *subjects)
    got = setup.predict(model, positive, noise)
    wanted = expected(setup, subjects, [SCALE * 1.5 * 0.9] * count, noise)
    assert relative_error(got, wanted) < 1e-4
    stock = setup.predict(setup.base.model, setup.host.encode_text(clip, PROMPT), noise)
    assert relative_error(stock, wanted) > 1e-2


def test_dropped_grounding(setup: Setup) -> None:
    subjects = setup.subjects(2)
    model, clip = setup.apply()
    positive, _, _ = setup.encode(clip, *subjects, box_coordinates=False)
    wanted = expected(setup, subjects, [SCALE] * 2, setup.noise, grounded=False)
    assert relative_error(setup.predict(model, positive), wanted) < 1e-4


def test_negative_and_neutral_settings_are_stock(setup: Setup) -> None:
    stock = setup.predict(setup.base.model, setup.host.encode_text(setup.base.clip, ""))
    model, clip = setup.apply()
    _, _, negative = setup.encode(clip, *setup.subjects(2))
    assert torch.equal(setup.predict(model, negative), stock)
    plain = setup.host.encode_text(setup.base.clip, "")
    assert torch.equal(setup.predict(model, plain), stock)
    wanted = setup.predict(setup.base.model, setup.host.encode_text(setup.base.clip, PROMPT))
    model, clip = setup.apply(strength=0.0)
    positive, _, _ = setup.encode(clip, *setup.subjects(2))
    assert torch.equal(setup.predict(model, positive), wanted)


def test_order_regions_and_batches(setup: Setup) -> None:
    first, second, third = setup.subjects(3)
    model, clip = setup.apply()
    got = setup.predict(model, setup.encode(clip, first, second, third)[0])
    other = setup.predict(model, setup.encode(clip, third, first, second)[0])
    assert relative_error(other, got) < 1e-5
    region = torch.zeros(1, 64, 64)
    region[:, :32, 32:] = 1
    in_region = setup.subjects(1, region=region, box="")
    in_box = setup.subjects(1, box="0.5,0,1,0.5")
    seen = [setup.predict(model, setup.encode(clip, *each)[0]) for each in (in_region, in_box)]
    assert relative_error(seen[0], seen[1]) < 1e-5
    noise = random_noise(setup.base, batch=3)
    positive, _, negative = setup.encode(clip, first, second)
    batch = sample(cfg_guider(model, positive, negative, 3.0), noise, steps=2)
    for index in range(3):
        alone = noise[index : index + 1]
        single = sample(cfg_guider(model, positive, negative, 3.0), alone, steps=2)
        assert relative_error(batch[index : index + 1], single) < 1e-4


def run(setup: Setup, subjects: list[Any], steps: int, batch: int = 1) -> torch.Tensor:
    """Without grounding, so that subjects with and without a place have the same tokens."""
    model, clip = setup.apply()
    positive, _, negative = setup.encode(clip, *subjects, box_coordinates=False)
    noise = random_noise(setup.base, batch=batch)
    return sample(cfg_guider(model, positive, negative, 3.0), noise, steps=steps)


def test_a_subject_without_a_box_finds_its_place(setup: Setup) -> None:
    """It acts everywhere in the first five steps, then where the text attention to its label is."""
    everywhere, found = setup.subjects(1, box="0,0,1,1"), setup.subjects(1, box="")
    assert torch.equal(run(setup, found, 5), run(setup, everywhere, 5))
    latent = run(setup, found, 7)
    assert relative_error(latent, run(setup, everywhere, 7)) > 1e-4
    assert torch.equal(run(setup, found, 7), latent)
    batch = run(setup, found, 7, batch=2)
    assert relative_error(batch[:1], run(setup, found, 7)) < 1e-4
    unnamed = setup.subjects(1, box="", label="owl"), setup.subjects(1, box="0,0,1,1", label="owl")
    assert torch.equal(run(setup, unnamed[0], 7), run(setup, unnamed[1], 7))


def test_places_given_and_found_beside_each_other(setup: Setup) -> None:
    given, _ = setup.subjects(2)
    _, found = setup.subjects(2, box="", label="sofa")
    model, clip = setup.apply()
    branches = setup.encode(clip, given, found)
    node = setup.host.guider_node.SubjectDiffusionGuider
    (guider,) = node.execute(model, *branches, 3.0, 1.5).args
    assert bool(sample(guider, setup.noise, steps=7).isfinite().all())


def test_an_ip_adapter_on_the_same_geometry(setup: Setup) -> None:
    """Several transformer blocks in one place, in the order of diffusers' own loader."""
    subjects = setup.subjects(2, box="0,0,0.5,0.5")
    model, clip = setup.apply(setup.plus)
    positive, _, _ = setup.encode(clip, *subjects, adapter=setup.plus)
    text = setup.host.encode_text(clip, PROMPT)
    mask = torch.zeros(128, 128)
    mask[:64, :64] = 1
    wanted = diffusers_prediction(
        setup.base.unet,
        setup.plus_file,
        setup.scaled(setup.noise),
        TIMESTEP,
        text[0][0],
        torch.stack([setup.embeds(subject)[0] for subject in subjects])[None],
        [mask, mask],
        [1.0, 1.0],
        setup.conditions(text, setup.noise),
    )
    assert relative_error(setup.predict(model, positive), wanted) < 1e-4


def test_maps_find_labels_in_the_prompt_of_two_encoders(setup: Setup) -> None:
    _, clip = setup.apply()
    positive, _, _ = setup.encode(clip, *setup.subjects(3))
    (key,) = positive[0][1]["model_conds"]
    watched = positive[0][1]["model_conds"][key].text
    # "cat (small)" is not in the prompt as it stands
    assert [(s.label, s.label_position) for s in watched.subjects] == [("dog", 2), ("sofa", 8)]


def test_a_clip_of_another_base_gets_a_sentence(setup: Setup) -> None:
    """Its texts do not fit the UNet, or its CLIP-L is not the one that reads the labels."""
    swapped = make_sdxl_clip(TEXT_G, TEXT_L)
    wanted = {
        "clip: expected texts of width 80 as the adapter 'ms_adapter.bin' and its base model read "
        "them, got 48": (setup.host.make_base().clip, setup.adapter),
        "clip: expected texts of width 80 as the adapter 'plus.safetensors'": (
            setup.host.make_base().clip,
            setup.plus,
        ),
        "clip: expected labels of width 48 from the text encoder CLIP-L, got 32": (
            swapped,
            setup.adapter,
        ),
    }
    apply = setup.host.apply_node.apply_adapter
    for sentence, (other, adapter) in wanted.items():
        _, clip = apply(setup.base.model, other, adapter)
        with pytest.raises(ValueError, match=sentence):
            setup.encode(clip, *setup.subjects(2), adapter=adapter)
    _, clip = apply(setup.base.model, swapped, setup.plus)  # which reads no labels
    positive, _, _ = setup.encode(clip, *setup.subjects(2), adapter=setup.plus)
    assert positive[0][0].shape[-1] == 80
