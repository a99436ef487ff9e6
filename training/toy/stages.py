"""The stages of the tiny recipe, each resumable: packages to committed weights."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from transformers import CLIPTextConfig

from subject_diffusion_core import checkpoint
from subject_diffusion_core.files.measured_guidance import SCORES_KEY
from subject_diffusion_core.tiny import tiny_base
from subject_diffusion_core.tiny.block_autoencoder import BlockAutoencoder
from subject_diffusion_core.tiny.tiny_vision import VisionGeometry

from ..bases.base_model import BaseModel
from ..bases.encoders import weights_mark
from ..bases.loading import read_tiny_base, tiny_vae
from ..dataset.catalogue import open_catalogue
from ..dataset.layout import decode_metadata
from ..dataset.samples import words_of
from ..networks.text import CompactVocabulary, compact_text_arguments
from ..precision import training_device
from ..recipes import TrainingRecipe
from .autoencoder import build_autoencoder, fit_encoder, load_basis, train_decoder
from .block_pca import BlockBasis, install_basis
from .data.build import build
from .data.sources import package_versions
from .data.split import assert_split, identities_sha256
from .export import base_from_model
from .files import ADAPTER_NAME, BASE_NAME
from .recipe import AutoencoderRecipe, TinyRecipe
from .references import encode_references, fit_statistics, write_pool
from .stage_run import train_stage
from .stored_start import StoredStart, claim_work
from .text.export import mark
from .text.stage import run_text
from .vision import load_vision

TRAIN_SHARDS = "composites-train"
JOINT_BASE, JOINT_ADAPTER = "joint_base.safetensors", "joint_adapter.safetensors"
TEXT_ADAPTER = "text_adapter.safetensors"


def run_encoder(work: Path, recipe: TinyRecipe) -> BlockBasis:
    """Fit the autoencoder's encoder, or load it."""
    return load_basis(fit_encoder(work / TRAIN_SHARDS, work, recipe.autoencoder))


def run_decoder(work: Path, recipe: TinyRecipe) -> BlockAutoencoder:
    """Train the autoencoder's decoder, or load the whole autoencoder."""
    basis = run_encoder(work, recipe)
    shards = work / TRAIN_SHARDS
    vision = load_vision(recipe.vision)
    torch.manual_seed(recipe.autoencoder.seed)
    model = build_autoencoder(recipe.autoencoder)
    install_basis(model, basis)
    model.analysis.requires_grad_(False)
    path = train_decoder(model, shards, work, recipe.autoencoder, vision, training_device())
    model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True)["model"])
    return model.eval().requires_grad_(False)


def run_precompute(work: Path, recipe: TinyRecipe) -> None:
    """The pool of reference features of the training side, and the latents' transform."""
    records = json.loads((work / "cutouts.json").read_text())
    rows = [index for index, record in enumerate(records) if record["split"] == "train"]
    assert_split({records[row]["identity"] for row in rows}, "train")
    extra = recipe.num_reference_variants - 1
    encode_references(work, load_vision(recipe.vision), rows, extra)
    encoder = load_vision(recipe.vision, fit_statistics(work))
    write_pool(work, work / TRAIN_SHARDS, weights_mark(encoder))
    run_encoder(work, recipe)


def corpus_vocabulary(work: Path, recipe: TinyRecipe) -> CompactVocabulary:
    """Every CLIP id that captions, labels and the template use; also the words of the held-out
    scenes, which the base is to know. Checks that only training identities are shown."""
    catalogue = open_catalogue(work / TRAIN_SHARDS, work / f"{TRAIN_SHARDS}-index")
    names = {name for index in catalogue.indices for of in index.identities for name in of}
    assert_split(names, "train")
    scenes = json.loads((work / "backgrounds.json").read_text())
    texts = {"the", "is", ",", *(scene["caption"] for scene in scenes)}
    for shard, count in enumerate(catalogue.counts):
        for row in range(count):
            metadata = decode_metadata(catalogue.read(shard, row)[1])
            texts |= {metadata["caption"], *(entry["label"] for entry in metadata["entities"])}
    ids = {token for text in texts for token in words_of(text)}
    return CompactVocabulary(ids | {recipe.joint.placeholder_token_id})


def untrained_base(
    recipe: TinyRecipe, vocabulary: CompactVocabulary, basis: BlockBasis
) -> BaseModel:
    """The base at the first step of all: sizes, words, and the autoencoder's linear half."""

    def build_vae() -> BlockAutoencoder:
        autoencoder = build_autoencoder(recipe.autoencoder)
        install_basis(autoencoder, basis)
        return autoencoder.eval().requires_grad_(False)

    return BaseModel(
        family="tiny",
        unet_arguments=dict(recipe.unet),
        latent_channels=recipe.autoencoder.latent_channels,
        unet={},
        text_config=CLIPTextConfig(**compact_text_arguments(recipe.text_encoder, vocabulary)),
        text={},
        load_vae=build_vae,
        prediction_type="v_prediction",
        vision_geometry=recipe.vision,
        vocabulary=vocabulary,
        untrained=True,
    )


def provenance(recipe: TinyRecipe, stage: str, work: Path) -> dict[str, Any]:
    """What made the weights of ``work``, stored in their file."""
    return {
        "recipe": "tiny",
        "stage": stage,
        "split_sha256": identities_sha256(),
        "packages": package_versions(work / "raw"),
        **recipe.as_dict(),
    }


def run_all(
    work: Path,
    weights: Path,
    recipe: TinyRecipe,
    *,
    packages: Path | None = None,
    start: StoredStart | None = None,
    text: bool = False,
) -> None:
    """The whole recipe: packages, data, autoencoder, references, joint stage, text stage, adapter,
    files.

    With ``start``, autoencoder and joint stage are the stored ones, and its adapter is trained on;
    its base, too, if ``text`` asks for the text stage.
    """
    claim_work(work, start)
    build(work, packages, train_composites=recipe.num_composites)
    (work / "recipe.json").write_text(json.dumps(recipe.as_dict(), indent=2))
    run_precompute(work, recipe)
    weights.mkdir(parents=True, exist_ok=True)
    made_by = provenance(recipe, "adapter", work)
    if start is None:
        run_joint(work, recipe)
        begun = work / JOINT_BASE, work / JOINT_ADAPTER
    else:
        require_words(start, corpus_vocabulary(work, recipe))
        begun = start.base_path, start.adapter_path
        made_by |= {"start": start.sha256}
    if start is None or text:
        taught = weights / BASE_NAME, work / TEXT_ADAPTER
        run_text(work, work / TRAIN_SHARDS, recipe.text, begun, taught)
        begun = taught
    else:
        shutil.copyfile(begun[0], weights / BASE_NAME)
    made_by |= {"history": history_after(begun[1], recipe.adapter)}
    run_adapter(work, weights, recipe, begun[1], made_by)


def run_stored_decoder(
    work: Path,
    weights: Path,
    recipe: TinyRecipe,
    start: StoredStart,
    *,
    steps: int,
    packages: Path | None = None,
) -> None:
    """Train the stored decoder on for ``steps``, and write both files again.

    Latents stay what they are, so UNet, text encoder and adapter fit as before. The adapter's file
    loses the scores that it had with the old decoder.
    """
    claim_work(work, start)
    further = recipe.autoencoder.going_on(steps)
    build(work, packages, train_composites=further.num_images)
    train_stored_decoder(work, weights, further, start)


def train_stored_decoder(
    work: Path, weights: Path, further: AutoencoderRecipe, start: StoredStart
) -> None:
    """The stage alone, on a claimed folder that has its pictures."""
    autoencoder = tiny_vae(start.base)
    for name, parameter in autoencoder.named_parameters():
        parameter.requires_grad_(not name.startswith("analysis."))
    out = work / f"decoder-{further.steps}"
    out.mkdir(exist_ok=True)
    vision = load_vision(VisionGeometry.from_config(start.base.config["vision"]))
    shards = work / TRAIN_SHARDS
    path = train_decoder(autoencoder, shards, out, further, vision, training_device())
    vae = torch.load(path, map_location="cpu", weights_only=True)["model"]
    made_by = start.base.config["provenance"]
    made_by = made_by | {
        "autoencoder": asdict(further),
        "history": [*made_by.get("history", []), decoder_history(start, further)],
    }
    config = {**start.base.config, "provenance": made_by}
    weights.mkdir(parents=True, exist_ok=True)
    tiny_base.save(weights / BASE_NAME, replace(start.base, config=config, vae=vae))
    shutil.copyfile(start.adapter_path, weights / ADAPTER_NAME)
    scored = start.adapter.config.provenance
    unscored = {key: value for key, value in scored.items() if key != SCORES_KEY}
    checkpoint.save_provenance(weights / ADAPTER_NAME, unscored)


def decoder_history(start: StoredStart, stage: AutoencoderRecipe) -> str:
    """What a base's file says of a decoder that was trained on."""
    return (
        f"decoder: {stage.steps} steps on at {stage.learning_rate:g}, seed {stage.seed}, "
        f"border_weight {stage.border_weight:g}, latent_noise {stage.latent_noise}, from the base "
        f"{start.sha256[BASE_NAME][:12]}; everything else is that base's"
    )


def require_words(start: StoredStart, words: CompactVocabulary) -> None:
    """Refuse a base that does not know the captions' words."""
    if missing := set(words.token_ids) - set(start.vocabulary.token_ids):
        raise ValueError(
            f"--go-on-from: expected a base that knows the captions' words, got one without "
            f"{len(missing)} of them. Train from nothing."
        )


def run_joint(work: Path, recipe: TinyRecipe) -> None:
    """Everything together from scratch: base and adapter to go on from."""
    vocabulary = corpus_vocabulary(work, recipe)
    base = untrained_base(recipe, vocabulary, run_encoder(work, recipe))
    trained = train_stage(recipe.joint, work / TRAIN_SHARDS, work / "joint", base)
    made_by = provenance(recipe, "joint", work)
    stored = base_from_model(
        trained.model,
        run_decoder(work, recipe),
        load_vision(recipe.vision, fit_statistics(work)),
        vocabulary,
        recipe,
        made_by,
    )
    tiny_base.save(work / JOINT_BASE, stored)
    checkpoint.save(work / JOINT_ADAPTER, replace(trained, recipe=recipe.adapter).adapter(made_by))


def history_after(init: Path, stage: TrainingRecipe) -> list[str]:
    """What the adapter's file ``init`` says of its making, and one sentence more."""
    before: list[str] = checkpoint.load(init).config.provenance.get("history", [])
    return [
        *before,
        f"adapter stage: {stage.steps} steps of {stage.global_batch_size} at "
        f"{stage.learning_rate:g}, seed {stage.seed}, from the adapter {mark(init)}, on its base",
    ]


def run_adapter(
    work: Path, weights: Path, recipe: TinyRecipe, init: Path, made_by: dict[str, Any]
) -> None:
    """The paper's trainable parts on the stored, 8-bit base; writes the adapter's file."""
    base = read_tiny_base(weights / BASE_NAME)
    trained = train_stage(recipe.adapter, work / TRAIN_SHARDS, work / "adapter", base, init)
    checkpoint.save(weights / ADAPTER_NAME, trained.adapter(made_by), int8=True)
