"""The tiny base in ComfyUI equals the diffusers and transformers models it comes from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import factories
import pytest
import torch
from host_models import Host, relative_error

from subject_diffusion_core import checkpoint
from subject_diffusion_core.prompts import build_chunk, build_prompt
from subject_diffusion_core.text_fusion import fuse_placeholder_embeddings
from subject_diffusion_core.tiny.block_autoencoder import BlockAutoencoder
from subject_diffusion_core.tiny.tiny_vision import TinyVision, normalise_pixels

SPECIAL = {"start_token_id": 49406, "end_token_id": 49407, "pad_token_id": 49407}


def test_autoencoder(host: Host) -> None:
    vae = host.tiny_model.build_vae(host.tiny)
    assert vae.latent_channels == 16
    reference = BlockAutoencoder(16).eval()
    reference.load_state_dict(host.tiny.vae)
    image = torch.rand(1, 64, 96, 3)
    wanted = reference.encode(image.movedim(-1, 1) * 2 - 1)
    latent = vae.encode(image)
    assert latent.shape == (1, 16, 8, 12)
    assert relative_error(latent, wanted) < 1e-5
    decoded = reference.decode(latent)
    wanted_image = (decoded.movedim(1, -1) / 2 + 0.5).clamp(0, 1)
    assert relative_error(vae.decode(latent), wanted_image) < 1e-5


@pytest.mark.parametrize("channels", [4, 32, 64, 128])
def test_autoencoder_of_any_number_of_channels(host: Host, channels: int) -> None:
    """Whatever networks this ComfyUI knows with so many: ours is made of none of them."""
    autoencoder = BlockAutoencoder(channels).eval()
    config = {**host.tiny.config, "vae": autoencoder.sizes}
    vae = host.tiny_model.build_vae(replace(host.tiny, config=config, vae=autoencoder.state_dict()))
    assert vae.latent_channels == channels
    image = torch.rand(1, 64, 96, 3)
    latent = vae.encode(image)
    assert relative_error(latent, autoencoder.encode(image.movedim(-1, 1) * 2 - 1)) < 1e-5
    assert vae.decode(latent).shape == image.shape
    tiled = vae.encode_tiled(image, tile_x=64, tile_y=64, overlap=16)
    assert tiled.shape == latent.shape


def test_text_encoder(host: Host) -> None:
    clip = host.tiny_model.build_clip(host.tiny)
    text = "a photo of a dog, on the beach!"
    reference = factories.make_text_encoder(2)
    ids = [token for token, _ in clip.tokenize(text)["l"][0]]
    wanted = reference(torch.tensor([ids])).last_hidden_state
    got = host.encode_text(clip, text)[0][0]
    assert relative_error(got, wanted) < 1e-5


def test_vision_encoder_has_comfyuis_interface(host: Host) -> None:
    encoder = host.tiny_clip_vision.TinyClipVision(host.tiny)
    image = torch.rand(2, 96, 96, 3)
    output = encoder.encode_image(image)
    reference = TinyVision().eval()
    reference.load_state_dict(host.tiny.vision)
    wanted = reference(normalise_pixels(image.movedim(-1, 1)))
    torch.testing.assert_close(output["last_hidden_state"][:, 1:], wanted.patch_embeds)
    torch.testing.assert_close(output.image_embeds, wanted.image_embeds)
    wide = encoder.encode_image(torch.rand(1, 50, 200, 3))
    assert wide.image_embeds.shape == (1, 400)


@pytest.mark.parametrize("labels", [["dog"], ["dog", "red car"]])
def test_fused_text_equals_the_training_side(host: Host, tmp_path: Path, labels: list[str]) -> None:
    """Template, placeholder positions, projection and the retrained text encoder, all together."""
    base = host.make_base()
    loaded = host.make_adapter(base, tmp_path)
    _, clip = host.apply_node.apply_adapter(base.model, base.clip, loaded)
    prompt = "a sks picture of things"
    subjects = [
        host.subject.Subject(
            name=label,
            images=torch.rand(1, 8, 8, 3),
            masks=None,
            label=label,
            box=None,
            strength=1.0,
            embeds=host.subject.SubjectEmbeds(
                tensors={"image_embeds": torch.randn(1, 400)}, encoder_hash="", reference_size=96
            ),
        )
        for label in labels
    ]
    texts = host.texts.TextEncoder(clip)
    projector = loaded.adapter.build_projector()
    encoder = host.fused_text.FusedTextEncoder(texts, loaded.config, projector, loaded.name)
    got = encoder.encode(prompt, subjects).conditioning[0][0]
    views = [subject.embeds.tensors for subject in subjects]
    adapter = checkpoint.load(tmp_path / "adapter_10.safetensors")
    wanted = _training_text(adapter, base.clip, prompt, labels, views)
    assert relative_error(got, wanted) < 1e-5
    plain = host.encode_text(clip, build_prompt(prompt, labels).text)[0][0]
    assert relative_error(plain, wanted) > 1e-2


def _training_text(adapter, clip, prompt, labels, views) -> torch.Tensor:
    tokenizer = clip.tokenizer.clip_l.tokenizer
    chunk = build_chunk(
        build_prompt(prompt, labels),
        lambda text: tokenizer(text)["input_ids"][1:-1],
        num_slots=len(labels),
        placeholder_token_id=adapter.config.placeholder_token_id,
        **SPECIAL,
    )
    projected = adapter.build_projector()(torch.cat([view["image_embeds"] for view in views]))
    encoder = factories.make_text_encoder(210)
    valid = torch.ones(1, len(labels), dtype=torch.bool)
    table = next(m for n, m in encoder.named_modules() if n.endswith("token_embedding"))
    hook = table.register_forward_hook(
        lambda _module, _inputs, output: fuse_placeholder_embeddings(
            output, projected[None], chunk.placeholder_positions[None], valid
        )
    )
    try:
        return encoder(chunk.token_ids[None]).last_hidden_state
    finally:
        hook.remove()


def test_loader_node(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    factories.save_tiny_files(tmp_path)
    monkeypatch.setattr(host.tiny_loader_node, "WEIGHTS", tmp_path)
    outputs = host.tiny_loader_node.SubjectDiffusionTinyLoader.execute().args
    assert len(outputs) == 5
    assert outputs[4].config.base_family == "tiny"
    before = host.tiny_loader_node.SubjectDiffusionTinyLoader.fingerprint_inputs()
    factories.save_tiny_files(tmp_path)
    assert host.tiny_loader_node.SubjectDiffusionTinyLoader.fingerprint_inputs() != before


def test_unfit_unet_weights_are_refused(host: Host) -> None:
    config = dict(host.tiny.config)
    config["unet"] = {**factories.TINY_UNET, "layers_per_block": 2}
    broken = type(host.tiny)(config=config, unet=host.tiny.unet, token_ids=host.tiny.token_ids)
    with pytest.raises(ValueError, match="unet: expected the weights of its configuration"):
        host.tiny_model.build_model(broken)
