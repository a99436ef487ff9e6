"""Pictures for the layout editor as Load Image reads them on this server: turned by their EXIF
orientation, or not, as its ComfyUI does it, which need not be as the browser does."""

from __future__ import annotations

import asyncio
import io
import os
import sys

import folder_paths
import numpy as np
import torch
from aiohttp import web
from PIL import Image

from .prompt_server import prompt_server

ROUTE = "/subject_diffusion/picture"
KINDS = ("input", "output", "temp")


def register_picture_route() -> None:
    """Answer the editor, in a process with a server."""
    server = prompt_server()
    if server is not None:
        server.routes.get(ROUTE)(_answer)


async def _answer(request: web.Request) -> web.Response:
    query = request.rel_url.query
    name = annotated_name(
        query.get("filename", ""), query.get("subfolder", ""), query.get("type", "input")
    )
    if name is None:
        return web.Response(status=404)
    with_alpha = query.get("channel") != "rgb"
    try:
        content = await asyncio.to_thread(picture_as_png, name, with_alpha)
    except Exception:  # whatever Load Image says of a file that it cannot read
        return web.Response(status=404)
    return web.Response(body=content, content_type="image/png")


def annotated_name(file_name: str, subfolder: str, kind: str) -> str | None:
    """The name by which Load Image knows a file, None for one that is not in ComfyUI's folder of
    this kind."""
    if kind not in KINDS or not file_name or os.path.basename(file_name) != file_name:
        return None
    folder = os.path.realpath(folder_paths.get_directory_by_type(kind))
    try:
        path = os.path.realpath(os.path.join(folder, subfolder, file_name))
        is_inside = os.path.commonpath((folder, path)) == folder and os.path.isfile(path)
    except (ValueError, OSError):
        return None
    return f"{os.path.join(subfolder, file_name)} [{kind}]" if is_inside else None


def picture_as_png(name: str, with_alpha: bool) -> bytes:
    """The first picture of a file; its alpha is what Load Image gives as transparent."""
    loader = sys.modules["nodes"].NODE_CLASS_MAPPINGS["LoadImage"]  # ComfyUI's
    with torch.inference_mode():
        loaded = getattr(loader(), loader.FUNCTION)(image=name)
    image, mask = loaded[0][0, ..., :3].float().cpu(), loaded[1][0].float().cpu()
    if with_alpha and mask.shape == image.shape[:2]:
        image = torch.cat((image, 1.0 - mask[..., None]), dim=-1)
    pixels = (image.clamp(0, 1) * 255).round().byte().numpy()
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, "PNG", compress_level=1)
    return file.getvalue()
