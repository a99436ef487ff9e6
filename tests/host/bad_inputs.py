"""What users get wrong: graphs and files that must fail with one clear sentence each."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import torch
from graphs import Graph, changed, node
from host_models import Host, make_adapter_for

from subject_diffusion_core import checkpoint

BAD_INPUTS = {
    "empty label": (
        changed("subject2", label="  "),
        r"Subject 2 has no label: expected one or a few words",
    ),
    "box outside": (
        changed("subject1", box="0.1,0.2,1.5,0.9"),
        r"Subject 1's box: expected numbers inside 0\.\.1, got 0\.1, 0\.2, 1\.5, 0\.9\.",
    ),
    "box inverted": (
        changed("subject1", box="0.5,0.2,0.1,0.9"),
        r"Subject 1's box: expected x1 < x2 and y1 < y2, got 0\.5, 0\.2, 0\.1, 0\.9\.",
    ),
    "box empty": (
        changed("subject1", box="[0.5, 0.2, 0.5, 0.9]"),
        r"Subject 1's box: expected x1 < x2",
    ),
    "box of words": (
        changed("subject1", box="on the left"),
        r"Subject 1's box: expected four numbers in 0\.\.1",
    ),
    "box in broken JSON": (
        changed("subject1", box='{"x": 1,'),
        r"Subject 1's box: .* JSON that does not parse",
    ),
    "box in pixels outside": (
        changed("subject2", box='{"x": 100, "y": 16, "width": 60, "height": 100}'),
        r"Subject 2's box: expected a box inside the 128x128 picture",
    ),
    "box in pixels without a size": (
        changed("encode", subjects=["subject2", 0]),
        r"Subject 2's box is in pixels of a picture of unknown size\. Put a .* Layout",
    ),
    "no box": (
        changed("subject1", box=""),
        r"Subject 1 has no box: expected the place where 'dog' shall stand\.",
    ),
    "layout that does not parse": (
        changed("layout", layout='{"version": 1,'),
        r"layout: expected JSON such as .* got text that does not parse",
    ),
    "layout of a newer version": (
        changed("layout", layout='{"version": 2, "subjects": []}'),
        r"layout: expected version 1, got 2\.",
    ),
    "layout with a box outside": (
        changed("layout", layout='{"subjects": [null, {"box": [0, 0, 1.5, 1]}]}'),
        r"layout, Subject 2's box: expected numbers inside 0\.\.1",
    ),
    "mask of another size": (
        changed("subject2", mask=["mask1", 0]),
        r"Subject 2's mask: expected the size of its picture, 40x30, got 40x48\.",
    ),
    "empty mask": (
        {
            **changed("subject1", image=["blank", 0], mask=["blank_mask", 0]),
            "blank": node("LoadImage", image="invisible.png"),
            "blank_mask": node("InvertMask", mask=["blank", 1]),
        },
        r"Subject 1's mask: expected 1 where the subject is, got a mask that is empty\.",
    ),
    "guider without apply": (
        changed("guider", model=["loader", 0]),
        r"expected the MODEL output of Subject-Diffusion Apply, got a MODEL without an adapter\.",
    ),
    "encode without apply": (
        changed("encode", clip=["loader", 1]),
        r"expected the CLIP output of Subject-Diffusion Apply, got a CLIP without an adapter\.",
    ),
    "apply twice": (
        {
            **changed("guider", model=["apply2", 0]),
            "apply2": node(
                "SubjectDiffusionApply",
                model=["apply", 0],
                clip=["loader", 1],
                adapter=["loader", 4],
                strength=1.0,
                start_percent=0.0,
                end_percent=1.0,
            ),
        },
        r"model: expected a MODEL without a Subject-Diffusion adapter",
    ),
}

BAD_ADAPTERS = {
    "other base": r"model: expected a sd2 base with input channels 4 .*, got 16\.",
    "truncated": r"expected an intact \.safetensors file, got a damaged one",
    "NaN": r"expected finite numbers, got NaN or infinity",
    "pickled": r"expected a \.safetensors file, got a pickled",
    "torch file": r"expected a \.safetensors file, got a pickled",
}


def adapter_graph(name: str) -> Graph:
    graph = changed("apply", adapter=["adapter", 0])
    graph["encode"]["inputs"]["adapter"] = ["adapter", 0]
    graph["adapter"] = node("SubjectDiffusionAdapterLoader", adapter_name=name)
    return graph


def write_adapter(kind: str, path: Path, host: Host) -> None:
    base = host.make_base("sd2" if kind == "other base" else "tiny")
    adapter = make_adapter_for(base, base_family="sd2" if kind == "other base" else "tiny")
    if kind == "pickled":
        path.write_bytes(pickle.dumps({"a": 1}))
        return
    if kind == "torch file":
        torch.save({"a": torch.zeros(1)}, path)
        return
    checkpoint.save(path, adapter)
    if kind == "truncated":
        path.write_bytes(path.read_bytes()[:-100])
    if kind == "NaN":
        content = bytearray(path.read_bytes())
        content[-4:] = np.float32("nan").tobytes()
        path.write_bytes(bytes(content))
