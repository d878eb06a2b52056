"""Examples of docstrings as code: mkdocstrings takes `>>>` for a quotation."""

from __future__ import annotations

import re
from typing import Any

import griffe

# From a first `>>>` to the next empty line.
_EXAMPLE = re.compile(r"^>>> .*(?:\n.+)*", re.MULTILINE)


class Fenced(griffe.Extension):
    """Puts every example into a fence; mkdocs.yml names this class."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called by griffe for every module, class and function."""
        if obj.docstring is not None:
            value = obj.docstring.value
            obj.docstring.value = _EXAMPLE.sub(lambda found: f"```pycon\n{found[0]}\n```", value)
