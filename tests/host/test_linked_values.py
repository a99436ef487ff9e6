"""What is linked to an input, or handed over by a script, is compared with the schema, too."""

from __future__ import annotations

import types
from typing import Any

import numpy as np
import pytest
import torch
from graphs import Graph, GraphRunner, changed, good_graph, node
from host_models import Host
from test_graphs import runner  # noqa: F401

NAN = float("nan")


def linked(name: str, entry: str, value: Any) -> Graph:
    """The good graph with a value linked to an input: ComfyUI compares it with nothing."""
    kinds = {float: "PrimitiveFloat", int: "PrimitiveInt", str: "PrimitiveString"}
    graph = changed(name, **{entry: ["linked", 0]})
    graph["linked"] = node(kinds[type(value)], value=value)
    return graph


@pytest.mark.parametrize(
    ("name", "entry", "value", "sentence"),
    [
        (
            "subject1",
            "strength",
            -3.0,
            r"Subject 1's strength: expected a number from 0 to 2, got",
        ),
        (
            "subject2",
            "strength",
            99.0,
            r"Subject 2's strength: expected a number from 0 to 2, got",
        ),
        ("subject1", "start_percent", NAN, r"start_percent: expected a finite number"),
        (
            "subject1",
            "end_percent",
            -1.0,
            r"end_percent: expected a number from 0 to 1",
        ),
        (
            "subject1",
            "label",
            "x" * 10**6,
            r"label: expected at most 50000 characters",
        ),
        ("subject1", "box", "x" * 10**6, r"Subject 1's box: expected at most 50000 characters"),
        ("layout", "width", 0, r"Layout's width: expected a whole number from 16 to 16384, got 0"),
        ("layout", "place_seed", -1, r"Layout's place_seed: expected a whole number from 0 to"),
        ("apply", "strength", -0.5, r"Apply's strength: expected a number from 0 to 2, got -0\.5"),
        (
            "encode",
            "prompt",
            "a \ud800",
            r"Encode's prompt: expected text, got half of a",
        ),
        (
            "encode",
            "prompt",
            "(" * 5000,
            r"prompt: expected at most 100 parentheses in one",
        ),
        ("guider", "text_guidance_scale", 99.0, r"Guider's text_guidance_scale: expected a number"),
    ],
)
def test_a_linked_value(
    runner: GraphRunner,  # noqa: F811
    name: str,
    entry: str,
    value: Any,
    sentence: str,
) -> None:
    with pytest.raises(AssertionError, match=sentence) as error:
        runner.run(linked(name, entry, value))
    assert len(str(error.value)) < 600


def test_a_layout_as_an_object(runner: GraphRunner) -> None:  # noqa: F811
    entries = {"version": 1, "subjects": [{"box": [0.1, 0.1, 0.6, 0.8]}, None]}
    text = '{"version": 1, "subjects": [{"box": [0.1, 0.1, 0.6, 0.8]}, null]}'
    wanted = runner.run(changed("layout", layout=text))
    assert np.array_equal(runner.run(changed("layout", layout=entries)), wanted)
    usual = runner.run(good_graph())
    assert not np.array_equal(wanted, usual)
    assert np.array_equal(runner.run(changed("layout", layout=None)), usual)


def test_alpha_and_what_the_mask_marks_are_the_same_cut_out(
    runner: GraphRunner,  # noqa: F811
) -> None:
    """Inverted by a node, marked as the background's, or as the picture's own alpha."""
    wanted = runner.run(good_graph())
    assert np.array_equal(
        runner.run(changed("subject1", mask=["image1", 1], mask_marks="background")), wanted
    )
    graph = changed("subject1", image=["joined", 0])
    del graph["subject1"]["inputs"]["mask"]
    graph["joined"] = node("JoinImageWithAlpha", image=["image1", 0], alpha=["image1", 1])
    assert np.array_equal(runner.run(graph), wanted)


@pytest.mark.parametrize("kind", ["mask", "latent", "channels first"])
def test_what_is_no_picture(host: Host, comfy_nodes: Any, kind: str) -> None:
    values = {
        "mask": torch.zeros(1, 8, 9),
        "latent": {"samples": torch.zeros(1, 4, 8, 8)},
        "channels first": torch.zeros(1, 3, 8, 9),
    }
    subject = comfy_nodes.NODE_CLASS_MAPPINGS["SubjectDiffusionSubject"]
    with pytest.raises(ValueError, match=r"Subject 1's image: expected pictures.* Connect an"):
        subject.execute(values[kind], "dog", "0,0,1,1", 1.0)
    maps = comfy_nodes.NODE_CLASS_MAPPINGS["SubjectDiffusionAttentionMaps"]
    handle = host.attention_record.AttentionHandle()
    with pytest.raises(ValueError, match=r"Attention Maps's image: expected pictures"):
        maps.execute(handle, values[kind], "average", 0.5, 0.7)


def test_a_layout_of_other_proportions_is_told_when_sampling_starts(
    runner: GraphRunner,  # noqa: F811
    caplog: pytest.LogCaptureFixture,
) -> None:
    for size, is_told in (((128, 128), False), ((64, 64), False), ((192, 64), True)):
        caplog.clear()
        runner.run(changed("latent", width=size[0], height=size[1]))
        assert ("The layout was made for a picture of 128x128" in caplog.text) == is_told


def test_an_animation_is_told_on_the_node(
    runner: GraphRunner,  # noqa: F811
    caplog: pytest.LogCaptureFixture,
) -> None:
    graph = changed("subject1", image=["many", 0])
    del graph["subject1"]["inputs"]["mask"]
    graph["many"] = node("RepeatImageBatch", image=["image1", 0], amount=20)
    eight = changed("subject1", image=["many", 0])
    del eight["subject1"]["inputs"]["mask"]
    eight["many"] = node("RepeatImageBatch", image=["image1", 0], amount=8)
    assert np.array_equal(runner.run(graph), runner.run(eight))
    assert "Subject 1's image: 20 pictures, of which the first 8 are used." in caplog.text


def test_a_negative_image_of_nan(runner: GraphRunner) -> None:  # noqa: F811
    graph = changed("encode", negative_image=["broken", 0])
    graph["broken"] = node(
        "ImageBlend",
        image1=["image1", 0],
        image2=["image1", 0],
        blend_factor=NAN,
        blend_mode="normal",
    )
    sentence = r"Encode's negative_image: expected finite numbers, got NaN or infinity\."
    with pytest.raises(AssertionError, match=sentence):
        runner.run(graph)


def test_nothing_where_something_is_needed(comfy_nodes: Any) -> None:
    """null through the API, or a checkpoint without a text encoder."""
    record = comfy_nodes.NODE_CLASS_MAPPINGS["SubjectDiffusionRecordAttention"]
    with pytest.raises(
        ValueError, match=r"Record Attention's model: expected MODEL, got nothing\."
    ):
        record.execute(None, "0-1")
    view = comfy_nodes.NODE_CLASS_MAPPINGS["SubjectDiffusionReferenceView"]
    with pytest.raises(ValueError, match=r"Reference View's subjects: expected SUBJECTS, got noth"):
        view.execute(None, object())
    with pytest.raises(ValueError, match=r"^subjects: expected at least one, got none\."):
        view.execute((), types.SimpleNamespace(pictures=types.SimpleNamespace(reference_size=96)))
