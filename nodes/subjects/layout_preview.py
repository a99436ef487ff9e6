"""A drawing of the layout: every box with its subject's picture and label."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image, ImageColor, ImageDraw, ImageFont, ImageOps

from .boxes import Box
from .layout_constants import CONSTANTS
from .placement import content_edges
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
    left, top, right, bottom = _pixels(subject.box, canvas)
    thumbnail = ImageOps.contain(cut_out(subject, LONG_SIDE), (right - left, bottom - top))
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


def _pixels(box: Box, canvas: Image.Image) -> tuple[int, int, int, int]:
    """Left, top, right and bottom edge in pixels of the canvas: at least one pixel, inside."""
    left = min(round(box.x1 * canvas.width), canvas.width - 1)
    top = min(round(box.y1 * canvas.height), canvas.height - 1)
    right = max(round(box.x2 * canvas.width), left + 1)
    bottom = max(round(box.y2 * canvas.height), top + 1)
    return left, top, right, bottom


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


def cut_out(subject: Subject, long_side: int) -> Image.Image:
    """The subject in its first view, cut at its edges and transparent outside its mask, with at
    most `long_side` pixels a side."""
    left, top, right, bottom = content_edges(subject)
    # a quarter of the pixels of a large picture are enough for the small one
    step = max(1, max(right - left, bottom - top) // (2 * long_side))
    part = (slice(top, bottom, step), slice(left, right, step))
    image = subject.images[0][part].float().cpu()
    alpha = torch.ones(image.shape[:2])
    if subject.masks is not None:
        alpha = subject.masks[0][part].float().cpu()
    rgba = torch.cat((image, alpha.unsqueeze(-1)), dim=-1)
    picture = Image.fromarray((rgba.clamp(0, 1) * 255).round().byte().numpy(), "RGBA")
    picture.thumbnail((long_side, long_side))
    return picture
