"""The English locale file, from what ComfyUI tells; Chinese help pages, from the Chinese one."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

NodeInfo = Mapping[str, Any]
PREFIX = "SubjectDiffusion"
PICTURE = re.compile(r"!\[[^\]]*\]\(([^)]+)\)")


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


def unescape(text: str) -> str:
    """What `escape` was given.

    >>> unescape(escape('{"x": 1} | 2'))
    '{"x": 1} | 2'
    """
    return re.sub(r"\{'([{}@$|])'\}", r"\1", text)


def chinese_pages(root: Path) -> dict[Path, str]:
    """A help page for every node of locales/zh/nodeDefs.json, where the front end looks for it
    first: what its names and tooltips say, with the picture of the English page."""
    nodes = json.loads((root / "locales" / "zh" / "nodeDefs.json").read_text(encoding="utf-8"))
    docs = root / "web" / "docs"
    return {
        docs / name / "zh.md": chinese_page(texts, (docs / f"{name}.md").read_text("utf-8"))
        for name, texts in nodes.items()
    }


def chinese_page(texts: Mapping[str, Any], english: str) -> str:
    title = unescape(texts["display_name"])
    lines = [f"# {title}", "", unescape(texts["description"]), ""]
    lines += [f"![{title}]({address})\n" for address in PICTURE.findall(english)]
    for heading, group in (("输入", "inputs"), ("输出", "outputs")):
        if texts[group]:
            lines += [f"## {heading}", ""]
            lines += [_line(key, slot) for key, slot in texts[group].items()]
            lines.append("")
    lines.append("界面语言为英文时显示的帮助页更为详细。")
    return "\n".join(lines) + "\n"


def _line(key: str, slot: Mapping[str, str]) -> str:
    own = "" if key.isdigit() else f" (`{key}`)"
    return f"- **{unescape(slot['name'])}**{own}: {unescape(slot['tooltip'])}"


def write_chinese_pages(root: Path) -> list[Path]:
    pages = chinese_pages(root)
    for path, text in pages.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return list(pages)
