"""The pages and what stands in them: fenced code, code in the text, links, headings. Plain reading, nothing is run."""

from __future__ import annotations

import html
import re
import shlex
import textwrap
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = (
    *(ROOT / name for name in ("README.md", "README.zh-CN.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
)
# What may stand after a block's language, and what it says to the tests.
NOT_RUN = ("gpu", "cluster", "hours")
WORDS = (*NOT_RUN, "nightly", "output")

_FENCE = re.compile(r"^( *)(`{3,})([^`]*)$")


@dataclass(frozen=True)
class Block:
    """Fenced code: its `line` is the first of the code, counted from 1. `words` are the marks after the language."""

    page: Path
    line: int
    language: str
    words: tuple[str, ...]
    text: str

    @property
    def where(self) -> str:
        """`docs/how-to/page.md:12`, as editors and terminals link it."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    def value(self, name: str) -> str:
        """What a mark such as `file=mine.py` gives, or nothing."""
        return next((word.partition("=")[2] for word in self.words if word.startswith(f"{name}=")), "")


def blocks(page: Path) -> list[Block]:
    """Every fenced block of a page, in order. Raises ValueError for one that isn't closed or has an unknown mark."""
    found, lines = [], page.read_text(encoding="utf-8").splitlines()
    place = 0
    while place < len(lines):
        opened = _FENCE.match(lines[place])
        place += 1
        if not opened:
            continue
        start = place
        while place < len(lines) and lines[place].strip() != opened[2]:
            place += 1
        if place == len(lines):
            raise ValueError(f"{page.relative_to(ROOT)}:{start}: this block is not closed")
        language, *words = shlex.split(opened[3]) or [""]
        block = Block(page, start + 1, language, tuple(words), textwrap.dedent("\n".join(lines[start:place]) + "\n"))
        unknown = [word for word in words if word not in WORDS and not word.startswith(("file=", "exit="))]
        if unknown:
            raise ValueError(f"{block.where}: unknown mark {unknown[0]!r} (known: {', '.join(WORDS)}, file=, exit=)")
        found.append(block)
        place += 1
    return found


def prose(page: Path) -> Iterator[tuple[int, str]]:
    """The lines of a page outside its fenced blocks, with their numbers."""
    inside = ""
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        fence = _FENCE.match(line)
        if fence and not inside:
            inside = fence[2]
        elif inside and line.strip() == inside:
            inside = ""
        elif not inside:
            yield number, line


def spans(page: Path) -> Iterator[tuple[int, str]]:
    """Code within the text, with its line; a span may go on in the next line."""
    lines = list(prose(page))
    text = "\n".join(line for _, line in lines)
    for found in re.finditer(r"(?<![`\\])`([^`]+)(?<!\\)`(?!`)", text):
        # Between two empty lines code begins and ends.
        if "\n\n" not in found[1]:
            yield lines[text.count("\n", 0, found.start())][0], " ".join(found[1].split())


def links(page: Path) -> Iterator[tuple[int, str]]:
    """Targets of links and pictures, with their line."""
    for number, line in prose(page):
        without_code = re.sub(r"`[^`]*`", "", line)
        for target in re.findall(r"\]\(([^)\s]+)\)", without_code):
            yield number, target


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as mkdocs and repositories' browsers make them."""
    found = set()
    for _, line in prose(page):
        heading = re.match(r"#+ +(.*)", line)
        if heading:
            found.add(slug(heading[1]))
    return found


def slug(heading: str) -> str:
    """`How it works!` -> `how-it-works`."""
    plain = html.unescape(re.sub(r"[`*]", "", heading))
    plain = unicodedata.normalize("NFKD", plain).encode("ascii", "ignore").decode()
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", plain).strip().lower())
