"""The manual: README's first screen has what a newcomer needs, every link leads somewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "assets").rglob("*.md")]
)
LINK = re.compile(r"\]\(([^)\s]+)\)")
CODE = re.compile(r"^```.*?^```$|`[^`\n]*`", re.S | re.M)
FIRST_SCREEN = 60  # lines


def anchors(page: Path) -> set[str]:
    """What `#...` may name: headings as GitHub spells them, and `<a id="...">`."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.S | re.M)
    headings = re.findall(r"^#+ (.+)$", text, re.M)
    slugs = {re.sub(r"[^\w\- ]", "", each.lower()).strip().replace(" ", "-") for each in headings}
    return slugs | set(re.findall(r'<a id="([^"]+)">', text))


def broken_links(page: Path) -> Iterator[str]:
    for address in LINK.findall(CODE.sub("", page.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", address):
            continue
        path, _, anchor = address.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            yield address


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    assert list(broken_links(page)) == []


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# One two\n[a](#one-two) [b](#three) [c](gone.md) `[d](e)`", encoding="utf-8")
    assert list(broken_links(page)) == ["#three", "gone.md"]


def test_the_first_screen() -> None:
    """A picture, honest limits in four lines, install, first picture, the table of methods."""
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()[:FIRST_SCREEN]
    text = "\n".join(lines)
    found = [
        text.index(what)
        for what in ("![", "**Honest limits**", "## Install", "git clone", "## First picture",
                     "`one_subject`", "*Personalise*", "## Methods", "| method | needs | gives |",
                     "(HiFi Tuner)")
    ]  # fmt: skip
    assert found == sorted(found)
    limits = text.split("**Honest limits**")[1].split("## Install")[0].strip().splitlines()[1:]
    assert len(limits) == 4


@pytest.mark.parametrize("folder", ["example_workflows", "docs"])
def test_everything_is_linked(folder: str) -> None:
    """From README, every template and every page."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    files = [*(ROOT / folder).glob("*.md"), *(ROOT / folder).glob("*.json")]
    assert [path.name for path in files if f"({folder}/{path.name})" not in readme] == []
