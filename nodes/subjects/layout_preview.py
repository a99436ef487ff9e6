"""A drawing of the layout: every box with its subject's picture and label."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image, ImageColor, ImageDraw, ImageFont

from .layout_constants import CONSTANTS
from .subject import Subject, Subjects

LONG_SIDE = 512
FONT_SIZE = 24  # legible where the preview is drawn at a third of its size
BACKGROUND = (32, 34, 40)
COLOURS = tuple(ImageColor.getrgb(colour)[:3] for colour in CONSTANTS.colours)


def draw_layout(subjects: Subjects, width: int, height: int) -> torch.Tensor:
    """(1, H, W, 3) in 0..1, as wide or high as `LONG_SIDE`, in the proportions of the picture."""
    scale = LONG_SIDE / max(width, height)
    canvas = Image.new("RGB", (max(1, round(width * scale)), max(1, round(height * scale))))
    canvas.paste(BACKGROUND, (0, 0, *canvas.size))
    for index, subject in enumerate(subjects):
        if subject.box is not None:
            _draw_subject(canvas, subject, COLOURS[index % len(COLOURS)])
    pixels = torch.from_numpy(np.asarray(canvas, dtype=np.float32) / 255.0)
    return pixels.unsqueeze(0)


def _draw_subject(canvas: Image.Image, subject: Subject, colour: tuple[int, int, int]) -> None:
    assert subject.box is not None
    if subject.region is not None:
        _tint_region(canvas, subject.region, colour)
    x1, y1, x2, y2 = subject.box.edges
    left, top = round(x1 * canvas.width), round(y1 * canvas.height)
    right, bottom = round(x2 * canvas.width), round(y2 * canvas.height)
    thumbnail = cut_out(subject)
    thumbnail.thumbnail((max(1, right - left), max(1, bottom - top)))
    corner = (
        left + (right - left - thumbnail.width) // 2,
        top + (bottom - top - thumbnail.height) // 2,
    )
    canvas.paste(thumbnail, corner, thumbnail.getchannel("A"))
    draw = ImageDraw.Draw(canvas)
    draw.rectangle((left, top, right - 1, bottom - 1), outline=colour, width=3)
    text = subject.label if subject.strength == 1.0 else f"{subject.label} x{subject.strength:g}"
    position = (left + 6, top + 5)
    font = label_font(FONT_SIZE)
    text_left, text_top, text_right, text_bottom = draw.textbbox(position, text, font=font)
    draw.rectangle((text_left - 3, text_top - 2, text_right + 3, text_bottom + 2), fill=BACKGROUND)
    draw.text(position, text, fill=colour, font=font)


def label_font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    """Pillow's own font, of this size where this Pillow can."""
    try:
        return ImageFont.load_default(size=size)
    except (TypeError, OSError):  # Pillow before 10.1, or built without FreeType
        return ImageFont.load_default()


def _tint_region(canvas: Image.Image, region: torch.Tensor, colour: tuple[int, int, int]) -> None:
    """Half of the subject's colour where it acts."""
    alpha = Image.fromarray((region * 127).round().byte().numpy(), "L").resize(canvas.size)
    canvas.paste(colour, (0, 0, *canvas.size), alpha)


def cut_out(subject: Subject) -> Image.Image:
    """The first view, transparent outside its mask."""
    image = subject.images[0]
    alpha = torch.ones(image.shape[:2]) if subject.masks is None else subject.masks[0]
    rgba = torch.cat((image.float().cpu(), alpha.float().cpu().unsqueeze(-1)), dim=-1)
    return Image.fromarray((rgba.clamp(0, 1) * 255).round().byte().numpy(), "RGBA")
