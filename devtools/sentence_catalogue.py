"""Every sentence that the pack can raise or show on a node, and its Chinese.

A sentence is a template: its fixed text, with `{0}`, `{1}`, ... where something is put in.
`python -m devtools.sentence_catalogue` looks for all of them in the sources and writes those that
are new into locales/zh/main.json, with an empty text, to be filled in by hand; it takes out those
that are gone. web/sentences.js finds the template of a sentence and puts the Chinese in its place.
"""

from __future__ import annotations

import ast
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from .locale_texts import escape
from .sentence_forms import Sentences
from .sentence_reader import Reader
from .source_index import SourceIndex, called_name, returned

KEY = "subjectDiffusionSentences"  # as in web/sentences.js
FOLDERS = ("nodes", "subject_diffusion_core")
SHOWING = ("show_warnings", "show_text")  # take a list of sentences
WARNING = ("warn",)  # takes one
ANSWERING = ("validate_inputs",)  # what it returns is shown by ComfyUI
GAP = re.compile(r"(\{\d+\})")

# What the sources do not tell: place and expression -> its templates.
BY_HAND: Mapping[str, tuple[str, ...]] = {
    # sentences of errors that pass through, which are found where they are raised
    "nodes/checked_inputs.py: ValueError(printable(error))": (),
}
# Texts with hardly a word, or with the first letter changed.
ALSO = ("{0}: {1}", "{0} s", "reference guidance")


def find_sentences(index: SourceIndex) -> Sentences:
    """All that `raise`, `show_warnings`, `show_text` and `warn` may say."""
    reader = Reader(index)
    for node, place in index.raises:
        if node.exc is not None and not _says_nothing(node.exc):
            reader.take(reader.forms(node.exc, place), node.exc, place)
    for name in SHOWING:
        for call, place in index.calls.get(name, []):
            reader.take(reader.items(call.args[0], place), call.args[0], place)
    for name in WARNING:
        for call, place in index.calls.get(name, []):
            reader.take(reader.forms(call.args[0], place), call.args[0], place)
    for name in ANSWERING:
        for function in index.functions.get(name, []):
            for value in returned(function.node):
                if isinstance(value, ast.Constant) and not isinstance(value.value, str):
                    continue  # all is well
                reader.take(reader.forms(value, function.place), value, function.place)
    return reader.found


def _says_nothing(node: ast.expr) -> bool:
    """An error without a text, and an AssertionError, which no user meets."""
    if isinstance(node, ast.Name):
        return node.id[0].isupper()
    return isinstance(node, ast.Call) and called_name(node) == "AssertionError"


def required_templates(root: Path) -> dict[str, str]:
    """Template -> one place that says it; those of node names are in nodeDefs.json.

    Raises:
        ValueError: a sentence that is neither found out nor in BY_HAND, or an entry too many.
    """
    found = find_sentences(SourceIndex.of_folders(root, FOLDERS))
    for entry in sorted(found.unresolved.keys() ^ BY_HAND.keys()):
        where = found.unresolved.get(entry, "nowhere")
        raise ValueError(
            f"{entry} ({where}): expected a sentence whose text is in the sources, or an entry of "
            "BY_HAND that is needed, got another one. Write its templates there, or remove it."
        )
    by_hand = dict.fromkeys([*ALSO, *(one for each in BY_HAND.values() for one in each)], "by hand")
    names = {texts["display_name"] for texts in _read(root, "en", "nodeDefs.json").values()}
    every = found.phrases | found.sentences | by_hand
    return {text: every[text] for text in sorted(every) if text not in names}


def chinese_sentences(root: Path) -> dict[str, str]:
    """Template -> its Chinese, as the file has it."""
    return dict(_read(root, "zh", "main.json").get(KEY, {}))


def write_templates(root: Path) -> list[str]:
    """Write new templates, take out those that are gone; all that lack their Chinese."""
    known = chinese_sentences(root)
    texts = {template: known.get(template, "") for template in required_templates(root)}
    path = root / "locales" / "zh" / "main.json"
    every = _read(root, "zh", "main.json") | {KEY: texts}
    path.write_text(json.dumps(every, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return [template for template, text in texts.items() if not text]


def escaped(text: str) -> str:
    """A Chinese text as the page's message format needs it: signs escaped, gaps as they are.

    >>> escaped('{0}: {"x": 1}')
    '{0}: {\\'{\\'}"x": 1{\\'}\\'}'
    """
    parts = GAP.split(text)
    return "".join(part if GAP.fullmatch(part) else escape(part) for part in parts)


def _read(root: Path, *parts: str) -> dict[str, dict[str, str]]:
    texts: dict[str, dict[str, str]] = json.loads(
        root.joinpath("locales", *parts).read_text(encoding="utf-8")
    )
    return texts


def main() -> int:
    missing = write_templates(Path(__file__).resolve().parents[1])
    for template in missing:
        print(f"no Chinese yet: {template}")
    print(f"{len(missing)} sentences to translate in locales/zh/main.json")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
