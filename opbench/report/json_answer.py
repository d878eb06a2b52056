"""What a command prints with `--json` that is no document to be read again: its kind and version first."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from opbench.documents import encode


def answer(kind: str, version: int, content: Mapping[str, object]) -> bytes:
    """The JSON of an answer, laid out; numbers that are none are written as in a document."""
    return msgspec.json.format(encode({"kind": kind, "schema_version": version, **content}), indent=2)
