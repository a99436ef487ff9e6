"""Warnings where something will hardly work: their sentences, and that the page gets them."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import torch
from graphs import good_graph, guider_node, make_pictures, node
from host_models import Host

from devtools.server import LOOPBACK, ComfyServer

ROOT = Path(__file__).resolve().parents[2]
EVENT = "subject_diffusion.sentences"  # as in web/node_warnings.js


def subjects(host: Host, *boxes: str) -> Any:
    """Subjects called a, b, c, ... in these boxes."""
    chained: Any = ()
    for label, box in zip("abc", boxes, strict=False):
        subject = host.subject_node.SubjectDiffusionSubject.execute
        chained = subject(torch.rand(1, 8, 8, 3), label, box, 1.0, None, chained).args[0]
    return chained


@pytest.mark.parametrize(
    ("boxes", "wanted"),
    [
        (["0,0,0.25,0.2"], []),  # exactly 5 %
        (["0,0,0.2,0.2"], [r"Subject 1's box covers 4\.0% of the picture; below 5% "]),
        (["0,0,0.7,1"], []),
        (["0,0,0.9,0.9"], [r"Subject 1's box covers 81% of the picture; above 70% "]),
        (["0,0,0.5,0.5", "0,0,0.5,0.4"], []),  # IoU .8
        (
            ["0,0,0.5,0.5", "0.6,0,1,1", "0,0,0.5,0.45"],
            [r"Subject 1's and Subject 3's boxes overlap \(IoU 0\.90\); above 0\.8 they mix"],
        ),
    ],
)
def test_boxes(host: Host, boxes: list[str], wanted: list[str]) -> None:
    got = host.subject_warnings.box_warnings(subjects(host, *boxes))
    assert len(got) == len(wanted)
    for sentence, pattern in zip(got, wanted, strict=True):
        assert re.match(pattern, sentence), sentence


def test_subjects_without_a_usable_box_are_left_alone(host: Host) -> None:
    pixels = '{"x": 0, "y": 0, "width": 2, "height": 2}'
    assert host.subject_warnings.box_warnings(subjects(host, "", pixels, "0,0,0.5,0.5")) == []


def test_labels(host: Host) -> None:
    chained = subjects(host, "", "")
    (sentence,) = host.subject_warnings.label_warnings(chained, "A picture")
    assert sentence.startswith("Subject 2: its label 'b' is not in the prompt; ")
    assert host.subject_warnings.label_warnings(chained, "  ") == []


async def run_and_listen(server: ComfyServer, graph: dict[str, Any]) -> dict[str, list[str]]:
    """Queue a graph as the page does; node id -> the sentences that came for it."""
    base = f"{LOOPBACK}:{server.port}"
    texts: dict[str, list[str]] = {}
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"ws://{base}/ws?clientId=page", max_msg_size=0) as socket,
    ):
        body = {"prompt": graph, "client_id": "page"}
        answer = await (await session.post(f"http://{base}/prompt", json=body)).json()
        assert answer.get("node_errors") == {}, answer
        async for message in socket:
            if message.type == aiohttp.WSMsgType.TEXT:
                event = json.loads(message.data)
                assert event["type"] != "execution_error", event
                if event["type"] == EVENT:
                    texts.setdefault(event["data"]["node"], []).extend(event["data"]["sentences"])
                if event["type"] == "execution_success":
                    return texts
    raise AssertionError("the server hung up")


def test_the_page_gets_them_on_the_right_nodes(server: ComfyServer, tmp_path: Path) -> None:
    make_pictures(server.base / "input")
    graph = good_graph()
    graph["guider"] = guider_node(4.0, 5.0)  # what its adapter was measured with
    assert asyncio.run(run_and_listen(server, graph)) == {}
    graph["encode"]["inputs"]["prompt"] = "a dog in a forest"
    graph["subject1"]["inputs"]["box"] = "0,0,0.1,0.1"
    graph["subject2"]["inputs"]["label"] = "<b>cat"
    texts = asyncio.run(run_and_listen(server, graph))
    small = "Subject 1's box covers 1.0% of the picture; below 5% little of it can be seen."
    assert set(texts) == {"layout", "encode"}
    assert texts["layout"][0].startswith(small)
    label, box = texts["encode"]
    assert label.startswith("Subject 2: its label '<b>cat' is not in the prompt")
    assert box.startswith(small)


def test_the_preview_of_a_layout_can_be_saved(server: ComfyServer) -> None:
    make_pictures(server.base / "input")
    graph = {
        name: value
        for name, value in good_graph().items()
        if name in ("image1", "mask1", "image2", "subject1", "subject2", "layout")
    }
    graph["save"] = node("SaveImage", images=["layout", 1], filename_prefix="layout_preview")
    asyncio.run(run_and_listen(server, graph))
    (saved,) = (server.base / "output").glob("layout_preview*.png")
    assert saved.stat().st_size > 1000


@pytest.mark.parametrize("name", ["one_subject", "two_subjects"])
def test_a_new_user_changes_picture_label_and_prompt_only(server: ComfyServer, name: str) -> None:
    """The examples with other subjects: a picture comes, and nothing is warned about."""
    graph = json.loads((ROOT / "tests" / "golden" / f"{name}.json").read_text(encoding="utf-8"))
    chosen = iter([("owl", "owl"), ("teddy-bear", "teddy bear")])
    labels = []
    for inputs in (each["inputs"] for each in by_class(graph, "SubjectDiffusionSubject")):
        picture, label = next(chosen)
        labels.append(label)
        source = ROOT / "assets" / "subjects" / f"{picture}.png"
        (server.base / "input" / source.name).write_bytes(source.read_bytes())
        graph[inputs["image"][0]]["inputs"]["image"] = source.name
        inputs["label"] = label
    (encode,) = by_class(graph, "SubjectDiffusionEncode")
    encode["inputs"]["prompt"] = " and ".join(f"a {label}" for label in labels) + " in a forest"
    (scheduler,) = by_class(graph, "BasicScheduler")
    scheduler["inputs"]["steps"] = 2
    (save,) = by_class(graph, "SaveImage")
    save["inputs"]["filename_prefix"] = f"new_user_{name}"
    assert asyncio.run(run_and_listen(server, graph)) == {}
    assert list((server.base / "output").glob(f"new_user_{name}*.png"))


def by_class(graph: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [each for each in graph.values() if each["class_type"] == kind]
