"""Where subjects without a box will stand: what the layout editor in the browser asks the server.

It draws the places that the run will use, so that there is one placement and not two. A graph that
runs without a page, or without a server, never comes here.
"""

from __future__ import annotations

import asyncio
import math
import operator
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from ...subject_diffusion_core.errors import shown
from ...subject_diffusion_core.schema import printed
from ..host.prompt_server import prompt_server
from .layout_constants import CONSTANTS
from .placement import MODES, Edges, OwnPlace, find_places

# JSON of any form: what is wrong in it shows when it is used.
Json = Any
ROUTE = "/subject_diffusion/places"


def register_layout_route() -> None:
    """Answer the editor, in a process with a server."""
    server = prompt_server()
    if server is not None:
        server.routes.post(ROUTE)(_answer)


async def _answer(request: web.Request) -> web.Response:
    try:
        question = await request.json()
        places = await asyncio.to_thread(answer_question, question)
    except ValueError as error:
        return web.json_response({"error": str(error)}, status=400)
    return web.json_response(places)


def answer_question(question: Json) -> list[Edges | None]:
    """A box in fractions for each subject, None where only a run can know.

    Args:
        question: `mode`, `seed`, `width` and `height` of the Layout node, and a list `subjects`; of
            each its `box` (x1, y1, x2, y2 in 0..1, or None) and its `content` in its own picture in
            pixels: `size` (width, height), `edges` (x1, y1, x2, y2) and `masked`, or None while
            that is not known.
    """
    try:
        subjects = question["subjects"]
        given = [_box(subject["box"]) for subject in subjects]
        own = [_own_place(subject["content"]) for subject in subjects]
        mode, seed = question["mode"], operator.index(question["seed"])
        width, height = _sizes(question["width"], question["height"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"places: expected the layout editor's question, got one with {shown(repr(error))}. "
            "Reload the page, so that its editor is the one of this server."
        ) from None
    most = CONSTANTS.longest_chain
    if mode not in MODES or len(subjects) > most:
        raise ValueError(
            f"places: expected a mode of {', '.join(MODES)} and at most {most} subjects, got "
            f"{printed(mode)} and {len(subjects)}. Choose another mode, or connect fewer subjects."
        )
    return find_places(given, own, mode, seed, width, height)


def _own_place(content: Mapping[str, Json] | None) -> OwnPlace | None:
    if content is None:
        return None
    return OwnPlace(
        size=_sizes(*content["size"]), edges=_edges(content["edges"]), masked=content["masked"]
    )


def _box(value: Json) -> Edges | None:
    return None if value is None else _edges(value)


def _edges(value: Json) -> Edges:
    x1, y1, x2, y2 = value
    if not (-math.inf < x1 < x2 < math.inf and -math.inf < y1 < y2 < math.inf):
        raise ValueError(f"the edges {value}")
    return x1, y1, x2, y2


def _sizes(width: Json, height: Json) -> tuple[float, float]:
    if not (0 < width < math.inf and 0 < height < math.inf):
        raise ValueError(f"the size {width} x {height}")
    return width, height
