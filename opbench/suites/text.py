"""The text of a suite that a command makes, in TOML."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any


def suite_text(title: str, *tables: tuple[str, Mapping[str, Any]]) -> str:
    """A suite of this title with these tables, each under its heading ("[defaults]", "[[workload]]").

    Values are texts, numbers, truth values, lists, and tables in a line.
    """
    lines = [f"title = {_value(title)}"]
    for heading, entries in tables:
        lines += ["", heading, *(f"{name} = {_value(value)}" for name, value in entries.items())]
    return "\n".join(lines) + "\n"


def _value(value: Any) -> str:
    if isinstance(value, str):
        # JSON's escapes are among TOML's own; what can't be printed is left out.
        return json.dumps("".join(character if character.isprintable() else "?" for character in value))
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{name} = {_value(one)}' for name, one in value.items())} }}"
    if isinstance(value, Sequence):
        return f"[{', '.join(map(_value, value))}]"
    return str(value).lower()
