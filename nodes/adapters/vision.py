# Shapes: V views of one subject, P patch tokens, C their width, E width of the image embedding, S
#         reference size.
"""What the vision encoder sees of each subject."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from ...subject_diffusion_core.checkpoint import AdapterConfig
from ...subject_diffusion_core.reference_image import prepare_reference

_ENCODERS = {
    "sd2": "the CLIP-ViT-H-14 vision model (laion2B-s32B-b79K)",
    "sd15": "the CLIP-ViT-H-14 vision model (laion2B-s32B-b79K)",
    "tiny": "the CLIP_VISION output of Subject-Diffusion Tiny Loader",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class SubjectViews:
    """One subject through the vision encoder.

    Attributes:
        patch_embeds: (V, P, C) patch tokens before the encoder's last norm.
        image_embeds: (V, E) pooled and projected.
    """

    patch_embeds: torch.Tensor
    image_embeds: torch.Tensor


def reference_pictures(
    images: torch.Tensor, masks: torch.Tensor | None, size: int
) -> Iterator[torch.Tensor]:
    """Every view of a subject as the encoder gets it: (S, S, 3) in 0..1, cut out, on white.

    `images` (V, H, W, 3) and `masks` (V, H, W) or None are those of a `Subject`.
    """
    for view, image in enumerate(images):
        mask = torch.ones(image.shape[:2]) if masks is None else masks[view]
        yield prepare_reference(image.float(), mask.float(), size).movedim(0, -1)


def encode_pictures(
    clip_vision: Any,
    images: torch.Tensor,
    masks: torch.Tensor | None,
    config: AdapterConfig,
    on_view: Callable[[], None] = lambda: None,
) -> SubjectViews:
    """Encode every view of a subject; `on_view` is called before each, for progress and cancel."""
    encoded = []
    for picture in reference_pictures(images, masks, config.reference_size):
        on_view()
        output = clip_vision.encode_image(picture[None], crop=True)
        view = SubjectViews(
            patch_embeds=output.last_hidden_state[:, 1:].float().cpu(),
            image_embeds=output.image_embeds.float().cpu(),
        )
        require_widths("clip_vision", view, config)
        encoded.append(view)
    return SubjectViews(
        patch_embeds=torch.cat([view.patch_embeds for view in encoded]),
        image_embeds=torch.cat([view.image_embeds for view in encoded]),
    )


def require_widths(argument: str, views: SubjectViews, config: AdapterConfig) -> None:
    """One clear sentence unless the encoder is of the kind that the adapter was trained with."""
    wanted = (config.num_patches, config.patch_dim, config.image_embed_dim)
    got = (*views.patch_embeds.shape[1:], views.image_embeds.shape[-1])
    if wanted != got:
        raise ValueError(
            "{}: expected an encoder with {} patches of width {} and an image embedding of width "
            "{}, got {} patches of width {} and width {}. Connect {}.".format(
                argument, *wanted, *got, encoder_to_connect(config)
            )
        )


def encoder_to_connect(config: AdapterConfig) -> str:
    """What errors ask for."""
    return _ENCODERS[config.base_family]
