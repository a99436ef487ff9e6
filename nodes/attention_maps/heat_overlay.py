# Shapes: H, W size of a picture in pixels.
"""A picture under a heat map, with a box and a caption."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image, ImageDraw

from ...subject_diffusion_core.attention_maps import normalize_maps, resize_maps
from ..subjects.layout_preview import BACKGROUND, COLOURS, label_font

SHORTEST_LONG_SIDE = 384
FONT_SIZE = 17
# From cold to hot; cold parts keep the picture.
RAMP = ((20, 30, 90), (150, 30, 130), (240, 90, 40), (255, 235, 120))


def draw_heat(
    picture: torch.Tensor,
    heat: torch.Tensor,
    box_xyxy: tuple[float, float, float, float],
    caption: str,
    number: int,
    opacity: float,
) -> torch.Tensor:
    """One panel: (H', W', 3) in 0..1, the picture's own size or larger, so that text is legible.

    Args:
        picture: (H, W, 3) in 0..1.
        heat: (h, w), any range; stretched to 0..1.
        number: of the subject; it has the same colour in the layout's preview.
        opacity: of the hottest place, 0..1.
    """
    height, width = picture.shape[:2]
    scale = max(1.0, SHORTEST_LONG_SIDE / max(height, width))
    height, width = round(height * scale), round(width * scale)
    base = resize_maps(picture.float().cpu().movedim(-1, 0), height, width).movedim(0, -1)
    strength = normalize_maps(resize_maps(heat.float().cpu(), height, width)).unsqueeze(-1)
    # a grey picture, so that colours mean heat only
    grey = base.mean(-1, keepdim=True).expand_as(base)
    cover = opacity * (0.4 + 0.6 * strength)
    mixed = (1 - cover) * grey + cover * _ramp_colours(strength)
    canvas = Image.fromarray((mixed.clamp(0, 1) * 255).round().byte().numpy(), "RGB")
    _annotate(canvas, box_xyxy, caption, COLOURS[number % len(COLOURS)])
    return torch.from_numpy(np.asarray(canvas, dtype=np.float32) / 255.0)


def _ramp_colours(strength: torch.Tensor) -> torch.Tensor:
    """(H, W, 1) in 0..1 -> (H, W, 3) colours, linear between the stops of `RAMP`."""
    stops = torch.tensor(RAMP, dtype=torch.float32) / 255.0
    place = strength.squeeze(-1) * (len(RAMP) - 1)
    lower = place.floor().long().clamp(max=len(RAMP) - 2)
    return torch.lerp(stops[lower], stops[lower + 1], (place - lower).unsqueeze(-1))


def _annotate(
    canvas: Image.Image,
    box_xyxy: tuple[float, float, float, float],
    caption: str,
    colour: tuple[int, int, int],
) -> None:
    draw = ImageDraw.Draw(canvas)
    x1, y1, x2, y2 = box_xyxy
    edges = (
        round(x1 * canvas.width),
        round(y1 * canvas.height),
        round(x2 * canvas.width) - 1,
        round(y2 * canvas.height) - 1,
    )
    draw.rectangle(edges, outline=colour, width=3)
    font = label_font(FONT_SIZE)
    left, top, right, bottom = draw.textbbox((6, 5), caption, font=font)
    draw.rectangle((left - 3, top - 2, right + 3, bottom + 2), fill=BACKGROUND)
    draw.text((6, 5), caption, fill=colour, font=font)
