"""IP-Adapter plus and MS-Diffusion in the common loop: model, loss, file, data, command."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from own_pictures import write_pictures
from tiny_parts import CAPTION, small_batch, small_recipe, small_world, write_weights

from subject_diffusion_core.files import ip_attention_file
from subject_diffusion_core.files.header import read_header
from training.__main__ import main
from training.bases.base_model import BaseModel
from training.bases.encoders import FrozenEncoders
from training.bases.loading import read_tiny_base
from training.bases.vision import vision_shape
from training.dataset.batches import MicroBatch
from training.dataset.samples import LABEL_TOKENS, words_of
from training.methods.conditioning import Conditioning, conditioning_of
from training.methods.ip_attention.assembly import makers_tensors
from training.methods.ip_attention.model import ImageAttentionModel
from training.methods.objective import Objective
from training.methods.registry import assemble
from training.networks.fused_attention import use_fused_attention
from training.recipes import TrainingRecipe, recipe_named, with_settings
from training.toy.files import BASE_NAME

RECIPES = {"ip_adapter": "tiny_ip_adapter", "ms_diffusion": "tiny_ms_diffusion"}
SMALL = (
    "grounding_hidden_dim=64", "num_subjects=2", "few_slots=0", "precision=float32",
    "global_batch_size=4", "micro_batch_size=4", "steps=2", "ema_decay=0",
)  # fmt: skip
# The makers' names of an image projection's layers, and of what stands around them.
LAYER = ("0.norm1.weight", "0.norm1.bias", "0.norm2.weight", "0.norm2.bias", "0.to_q.weight",
         "0.to_kv.weight", "0.to_out.weight", "1.0.weight", "1.0.bias", "1.1.weight",
         "1.3.weight")  # fmt: skip
ENDS = ("proj_in.weight", "proj_in.bias", "proj_out.weight", "proj_out.bias", "norm_out.weight",
        "norm_out.bias")  # fmt: skip
OWN = {
    "ip_adapter": ("latents",),
    "ms_diffusion": (
        "latent_proj.0.weight", "latent_proj.0.bias", "latent_proj.2.weight", "latent_proj.2.bias",
        "latent_norm.weight", "latent_norm.bias", "grounding_latents", "attention_norm.weight",
        "attention_norm.bias",
    ),
}  # fmt: skip
LAYER_WIDTHS = (64, 64, 64, 32, 32, 64)  # down, up, up, up, up, and the middle last


def small(method: str, *settings: str) -> TrainingRecipe:
    return with_settings(recipe_named(RECIPES[method]), [*SMALL, *settings])


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    return read_tiny_base(write_weights(tmp_path_factory.mktemp("weights")) / BASE_NAME)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_world(tmp_path_factory.mktemp("world") / "shards")


@pytest.fixture(autouse=True)
def fresh_accelerate() -> Iterator[None]:
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def small_model(base: BaseModel, method: str) -> ImageAttentionModel:
    recipe = small(method)
    model = assemble(recipe, base, vision_shape(recipe, base))
    use_fused_attention(model.unet)
    return model


def one_batch(shards: Path, method: str) -> MicroBatch:
    """Its latents are there, as if computed before."""
    recipe = small(method, "drop_text=0", "drop_image=0", "drop_both=0")
    batch = small_batch(shards, small_recipe(), recipe)
    tensors = {k: v for k, v in batch.tensors.items() if k != "pixels"}
    noise = torch.randn(4, 24, 16, 16, generator=torch.Generator().manual_seed(0))
    return replace(batch, tensors=tensors | {"latents": noise})


def conditions(shards: Path, method: str) -> Conditioning:
    return conditioning_of(one_batch(shards, method).tensors)


def predict(model: ImageAttentionModel, conditioning: Conditioning) -> torch.Tensor:
    latents = torch.randn(4, 24, 16, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return model.eval()(latents, torch.tensor([20, 300, 600, 900]), conditioning)


@pytest.mark.parametrize("method", RECIPES)
def test_without_subjects_it_is_the_base(base: BaseModel, shards: Path, method: str) -> None:
    model, told = small_model(base, method), conditions(shards, method)
    alone = replace(told, adapter_scale=torch.zeros(4, 1, 1))
    with torch.no_grad():
        latents = torch.randn(4, 24, 16, 16, generator=torch.Generator().manual_seed(1))
        steps = torch.tensor([20, 300, 600, 900])
        plain = model.unet(latents, steps, model.encode(told)).sample
    assert torch.equal(predict(model, alone), plain)
    assert not torch.allclose(predict(model, told), plain, atol=1e-3)


@pytest.mark.parametrize("method", RECIPES)
def test_a_dropped_picture_is_no_picture(base: BaseModel, shards: Path, method: str) -> None:
    """IP-Adapter has tokens for that, in the subject's place; MS-Diffusion has nothing."""
    model, told = small_model(base, method), conditions(shards, method)
    dropped = replace(told, subject_valid=torch.zeros_like(told.subject_valid))
    alone = replace(told, adapter_scale=torch.zeros(4, 1, 1))
    same = torch.equal(predict(model, dropped), predict(model, alone))
    assert same == (method == "ms_diffusion")
    assert told.patch_embeds is not None
    others = replace(dropped, patch_embeds=torch.randn_like(told.patch_embeds))
    assert torch.equal(predict(model, dropped), predict(model, others))


@pytest.mark.parametrize("method", RECIPES)
def test_order_of_subjects_does_not_matter(base: BaseModel, shards: Path, method: str) -> None:
    model, told = small_model(base, method), conditions(shards, method)
    names = ["subject_valid", "subject_boxes_xyxy", "patch_embeds"]
    names += ["label_token_ids"] if method == "ms_diffusion" else []
    turned = replace(told, **{name: getattr(told, name).flip(1) for name in names})
    assert torch.allclose(predict(model, told), predict(model, turned), atol=1e-5)


@pytest.mark.parametrize("method", RECIPES)
def test_the_loss_falls_on_one_batch_and_the_base_stays(
    base: BaseModel, shards: Path, method: str
) -> None:
    recipe, model = small(method), small_model(base, method)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    watched = use_fused_attention(model.unet)
    encoders = FrozenEncoders(None, None)
    objective = Objective(model, watched, base, recipe, encoders, torch.device("cpu"))
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer, losses = torch.optim.AdamW(trained, 3e-3), []
    torch.manual_seed(0)
    for _ in range(25):
        loss, maps = objective(one_batch(shards, method))
        assert maps == 0
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss))
    assert losses[-1] < 0.97 * losses[0], losses
    moved = {k for k, v in model.state_dict().items() if not torch.equal(v, before[k])}
    assert {name.split(".")[0] for name in moved} == {"image_proj", "pairs"}
    assert len([name for name in moved if name.startswith("pairs.")]) == 12


@pytest.mark.parametrize("method", RECIPES)
def test_the_file_has_the_makers_names_and_shapes(base: BaseModel, method: str) -> None:
    tensors = makers_tensors(small_model(base, method))
    prefix = {"ip_adapter": "ip_adapter", "ms_diffusion": "ms_adapter"}[method]
    image = [*OWN[method], *ENDS, *(f"layers.{n}.{name}" for n in range(4) for name in LAYER)]
    pairs = {
        f"{prefix}.{2 * n + 1}.to_{kind}_ip.weight": (width, 32)
        for n, width in enumerate(LAYER_WIDTHS)
        for kind in "kv"
    }
    others = {"dummy_image_tokens"} if method == "ms_diffusion" else set()
    assert tensors.keys() == {f"image_proj.{name}" for name in image} | pairs.keys() | others
    assert {name: tuple(tensors[name].shape) for name in pairs} == pairs
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float16}


def test_texts_are_plain_and_labels_stand_alone(shards: Path) -> None:
    recipe = small("ms_diffusion", "drop_text=0", "drop_image=0", "drop_both=0")
    tensors = small_batch(shards, small_recipe(), recipe).tensors
    assert not tensors["text_valid"].any() and not tensors["map_valid"].any()
    plain = 2 + len(words_of(CAPTION))  # start and end
    last = tensors["token_ids"][0, -1]
    assert all((row == last).nonzero()[0] == plain - 1 for row in tensors["token_ids"])
    labels, valid = tensors["label_token_ids"], tensors["subject_valid"]
    assert labels.shape == (4, 2, LABEL_TOKENS)
    assert all((row == last).nonzero()[0] == 2 for row in labels[valid])  # start, word, end
    assert len({tuple(row.tolist()) for row in labels[valid]}) == 2


@pytest.mark.parametrize("method", RECIPES)
def test_trained_and_exported_by_the_commands(tmp_path: Path, method: str) -> None:
    stored, run, out = write_weights(tmp_path) / BASE_NAME, tmp_path / "run", tmp_path / "made.st"
    listed = write_pictures(tmp_path / "pictures", count=4)
    shared = ["--recipe", RECIPES[method], "--base", str(stored)]
    main(["precompute", *shared, "--jsonl", str(listed), "--out", str(tmp_path / "s")])
    settings = [word for setting in SMALL for word in ("--set", setting)]
    data = ["--data", str(tmp_path / "s" / "train"), "--out", str(run)]
    main(["train", *shared, *data, *settings])
    main(["export", "--run", str(run), "--out", str(out)])
    header = read_header(out)
    assert ip_attention_file.recognises(header)
    file = ip_attention_file.load(header)
    wanted = {"ip_adapter": "IP-Adapter plus", "ms_diffusion": "MS-Diffusion"}
    assert (file.method, file.context_dim, file.embed_dim) == (wanted[method], 32, 200)
    assert (len(file.pairs), file.num_tokens) == (6, 16)
    assert RECIPES[method] in header.metadata["training"]
    started = makers_tensors(small_model(read_tiny_base(stored), method))
    made = {f"image_proj.{name}": tensor for name, tensor in file.image.items()}
    assert any(not torch.equal(tensor, started[name]) for name, tensor in made.items())
    with pytest.raises(SystemExit, match="--int8: expected it for Subject-Diffusion's adapters"):
        main(["export", "--run", str(run), "--out", str(out), "--int8"])


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("conv_in=true", "conv_in: expected 0 or False with ip_adapter, got True"),
        ("text_encoder=full", "text_encoder: expected frozen with ip_adapter"),
        ("base_family=sd15", "base_family: expected tiny with ip_adapter"),
        ("grounding_hidden_dim=100", "grounding_hidden_dim: expected a multiple of 64"),
        ("method=gligen", "method: expected one of subject_diffusion, ip_adapter, ms_diffusion"),
    ],
)
def test_what_the_methods_lack_is_refused(setting: str, sentence: str) -> None:
    with pytest.raises(ValueError, match="expected") as caught:
        with_settings(recipe_named("tiny_ip_adapter"), [setting])
    assert sentence in str(caught.value)


def test_a_first_adapter_is_refused(base: BaseModel) -> None:
    recipe = small("ip_adapter")
    with pytest.raises(ValueError, match=r"--init: expected none with ip_adapter, got a\.bin"):
        assemble(recipe, base, vision_shape(recipe, base), Path("a.bin"))
