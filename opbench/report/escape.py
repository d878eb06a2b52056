"""Text from a result document, made inert: it may come from anybody and is shown, never obeyed.

`visible` takes the teeth out of characters (terminal escapes, direction overrides, line breaks); the other functions
place the result in Markdown so that no character of it is markup, in a table cell, a line of prose or a code block.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

# Control, format (which holds the direction overrides), surrogate and private characters, line and paragraph breaks.
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})

# What means something in the middle of a line of CommonMark or of a table.
_MARKUP = re.compile(
    r"""[\\`*<~|]
      | (?<![A-Za-z0-9])_ | _(?![A-Za-z0-9])   # emphasis, but not inside a word
      | !(?=\[) | \](?=[(\[])                 # images, links
      | &(?=\#?[A-Za-z0-9]+;)                  # character references""",
    re.VERBOSE,
)
# What a host brings to life even when its marks are escaped: addresses, mentions, issue numbers, emoji, formulas.
_ALIVE = re.compile(r"://|\bwww\.|[@#][A-Za-z0-9]|:[A-Za-z0-9_+-]+:|\$", re.IGNORECASE)
_PUNCTUATION = re.compile(r"[!-/:-@\[-`{-~]")


def visible(text: str, limit: int | None = None) -> str:
    r"""One line with every character that can't be seen written as its code; longer than `limit`, it says so.

    >>> visible("two\nlines, a tab\tand \x1b[31mred")
    'two lines, a tab and \\x1b[31mred'
    """
    if text.isascii() and text.isprintable() and (limit is None or len(text) <= limit):
        return text  # as most texts of a large report are
    kept = text if limit is None else text[:limit]
    shown = "".join(
        character if unicodedata.category(character) not in _HIDDEN else _code_point(character)
        for character in re.sub(r"\r\n|[\r\n\t]", " ", kept)
    )
    cut = len(text) - len(kept)
    return f"{shown} ... ({cut:,} more characters)" if cut else shown


def prose(text: str) -> str:
    r"""Markdown that renders as exactly `text` in the middle of a line, in a heading or in a table cell.

    >>> prose("YOLOv8n *neck*, P5->P4 [1.2, 1.3]")
    'YOLOv8n \\*neck\\*, P5->P4 [1.2, 1.3]'
    """
    shown = visible(text).strip()
    if _ALIVE.search(shown):
        return code(shown)
    return _MARKUP.sub(lambda found: "\\" + found[0], shown)


def code(text: str) -> str:
    """A code span that renders as exactly `text`, also inside a table cell."""
    inside = visible(text)
    if not inside.strip():
        return "`(empty)`"
    if "|" in inside:  # it would end a table cell even inside a code span
        return _PUNCTUATION.sub(lambda found: f"&#{ord(found[0])};", inside)
    fence = "`" * (_longest_run(inside) + 1)
    pad = " " if inside[0] in "` " or inside[-1] in "` " else ""
    return f"{fence}{pad}{inside}{pad}{fence}"


def label(text: str) -> str:
    """The text between the brackets of a link or picture, where a bare bracket would end it."""
    return re.sub(r"[\\`*_<~|&!\[\]]", lambda found: "\\" + found[0], visible(text))


def block(lines: Iterable[str], language: str = "") -> str:
    """A fenced code block that shows each of `lines` as one line."""
    shown = [visible(line) for line in lines]
    fence = "`" * max(3, 1 + max(map(_longest_run, shown), default=0))
    return "\n".join([fence + language, *shown, fence])


def _code_point(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _longest_run(text: str) -> int:
    return max((len(run) for run in re.findall(r"`+", text)), default=0)
