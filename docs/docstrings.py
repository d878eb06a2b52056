"""Docstrings as the site shows them: examples are code, and fields that stand below each other are a list."""

from __future__ import annotations

import re
from typing import Any

import griffe

# From a first `>>>` to the next empty line; and a paragraph whose lines say `name -> what it is`, as a table would.
_EXAMPLE = re.compile(r"^>>> .*(?:\n.+)*", re.MULTILINE)
_FIELDS = re.compile(r"(?:^\S.* -> .*\n(?:^ +.+\n)*){2}(?:^.+\n?)*", re.MULTILINE)
_FIELD = re.compile(r"(\w+(?:\(.*?\))?) +(?:-> )?(.*)")
_DIRECTIVE = re.compile(r" *# doctest:.*$", re.MULTILINE)


class Shown(griffe.Extension):
    """What mkdocs.yml names this file for."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called by griffe for every module, class and function."""
        if obj.docstring is not None:
            value = _FIELDS.sub(lambda found: _bullets(found[0]), obj.docstring.value)
            value = _DIRECTIVE.sub("", value)
            obj.docstring.value = _EXAMPLE.sub(lambda found: f"```pycon\n{found[0]}\n```", value)


def _bullets(paragraph: str) -> str:
    """One item a field: its continuation lines are indented."""
    items: list[str] = []
    for line in paragraph.splitlines():
        field = _FIELD.match(line)
        items.append(f"- `{field[1]}`: {field[2]}" if field else f"  {line.strip()}")
    return "\n".join(items) + "\n"
