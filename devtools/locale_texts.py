"""The English locale file, from what ComfyUI tells of the nodes."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

NodeInfo = Mapping[str, Any]
PREFIX = "SubjectDiffusion"


def english_texts(nodes: Mapping[str, NodeInfo]) -> dict[str, Any]:
    """The texts of the pack's nodes, out of ComfyUI's /object_info, as a nodeDefs.json holds them:
    `{node id: {display_name, description, inputs: {name: {name, tooltip}}, outputs: ...}}`."""
    return {name: node_texts(nodes[name]) for name in sorted(nodes) if name.startswith(PREFIX)}


def node_texts(info: NodeInfo) -> dict[str, Any]:
    """The texts of one node; outputs are called by their number."""
    texts: dict[str, Any] = {
        "display_name": escape(info["display_name"]),
        "description": escape(info["description"]),
        "inputs": {},
        "outputs": {},
    }
    for group in ("required", "optional"):
        for name, (_, *options) in info["input"].get(group, {}).items():
            tooltip = options[0].get("tooltip", "") if options else ""
            texts["inputs"][name] = {"name": name, "tooltip": escape(tooltip)}
    names, tooltips = info["output_name"], info.get("output_tooltips") or []
    for number, name in enumerate(names):
        tooltip = tooltips[number] if number < len(tooltips) else ""
        texts["outputs"][str(number)] = {"name": name, "tooltip": escape(tooltip or "")}
    return texts


def escape(text: str) -> str:
    """Braces, @, $ and | have a meaning in the page's message format.

    >>> escape('{"x": 1} | 2')
    '{\\'{\\'}"x": 1{\\'}\\'} {\\'|\\'} 2'
    """
    return re.sub(r"[{}@$|]", lambda match: "{'" + match[0] + "'}", text)


def write_english(nodes: Mapping[str, NodeInfo], root: Path) -> Path:
    """Write locales/en/nodeDefs.json; its path."""
    path = root / "locales" / "en" / "nodeDefs.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(english_texts(nodes), indent=2, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")
    return path
