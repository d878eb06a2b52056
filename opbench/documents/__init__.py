"""The documents that opbench writes: JSON with a kind and a version, checked when it is read. `kinds` has a row each.

`read` opens a file of any kind and any earlier version, gzipped or not. What is written to a file is written whole or
not at all, a line an item, so that two documents can be compared with a line-based tool.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from typing import Any, TypeVar, overload

import msgspec

from opbench.documents import kinds, text
from opbench.documents.files import GZIP, content, json_in, unpacked
from opbench.documents.kinds import KINDS, DocumentKind, kind_of
from opbench.documents.text import NOT_JSON, decode, encode
from opbench.documents.writing import replace_file
from opbench.errors import OpbenchError

__all__ = [
    "GZIP",
    "KINDS",
    "Kind",
    "OtherKindError",
    "content",
    "contents",
    "decode",
    "encode",
    "header",
    "parse",
    "read",
    "render",
    "replace_file",
    "save",
    "unpacked",
]

T = TypeVar("T")
U = TypeVar("U")


class OtherKindError(OpbenchError):
    """A document of opbench's own, of another kind than the wanted one."""


@overload
def read(path: str | os.PathLike[str]) -> Any: ...
@overload
def read(path: str | os.PathLike[str], wanted: type[T], /) -> T: ...
@overload
def read(path: str | os.PathLike[str], wanted: type[T], or_else: type[U], /) -> T | U: ...
@overload
def read(path: str | os.PathLike[str], *wanted: type) -> Any: ...
def read(path: str | os.PathLike[str], *wanted: type) -> Any:
    """The noun in the document at `path`, of one of the `wanted` types; of any kind without them.

    Raises `OpbenchError`, one line, for anything else.
    """
    data = contents(path, *wanted)
    try:
        return parse(data, *wanted)
    except OpbenchError as error:
        raise type(error)(f"{os.fspath(path)}: {error}") from None


def contents(path: str | os.PathLike[str], *wanted: type) -> bytes:
    """The JSON of the document at `path`, unpacked where it is gzipped; a folder stands for its `run.json`, by kind.

    FILE stands for FILE.gz where only that is there. Raises `OpbenchError` where it can't be read.
    """
    rows = [kind_of(noun) for noun in wanted]
    return json_in(path, _expected(rows), rows[0].file if rows else "")


@overload
def parse(data: bytes) -> Any: ...
@overload
def parse(data: bytes, wanted: type[T], /) -> T: ...
def parse(data: bytes, *wanted: type) -> Any:
    """The noun in the JSON of a document; `OpbenchError` says what is wrong and where."""
    rows = [kind_of(noun) for noun in wanted]
    expected = _short(rows)
    data = text.marked(data, expected)
    try:
        kind = _kind(msgspec.json.decode(data, type=dict[str, msgspec.Raw])) or (rows[0] if rows else None)
        if kind is None:
            raise OpbenchError(f"not {expected}: none of its fields say what it is (known kinds: {', '.join(KINDS)})")
        if rows and kind not in rows:
            raise OtherKindError(f"this is {kind.described}; expected {_expected(rows)}")
        return _noun(data, kind)
    except msgspec.ValidationError as error:
        raise OpbenchError(f"not {expected}: {_lower(error)}; expected {_expected(rows)}") from None
    except NOT_JSON as error:
        raise OpbenchError(text.malformed(data, error, expected)) from None


def _kind(fields: dict[str, msgspec.Raw]) -> DocumentKind | None:
    """What a document says that it is, or what its fields tell."""
    if "kind" in fields:
        return kinds.named(msgspec.json.decode(fields["kind"]))
    return next((kind for kind in KINDS.values() if set(kind.fields) <= fields.keys()), None)


def _noun(data: bytes, kind: DocumentKind) -> Any:
    field = kind.version_field
    version: int = getattr(msgspec.json.decode(data, type=_header(kind)), field)
    if version > kind.version:
        raise OpbenchError(
            f"{field} {version} is newer than this opbench reads (up to {kind.version}); upgrade opbench"
        )
    if version < 1:
        raise OpbenchError(f"not a {kind.name} document: {field} is {version}, expected 1 to {kind.version}")
    try:
        text.unambiguous(data)
        noun = decode(data, kind.type())
    except msgspec.ValidationError as error:
        raise OpbenchError(f"not a valid {kind.name} document of {field} {version}: {_lower(error)}") from None
    for older in range(version, kind.version):
        noun = kind.older.get(older, lambda same: same)(noun)
    for flaw in kind.flaws(noun):
        raise OpbenchError(f"not a valid {kind.name} document: {flaw.sentence} - at `{flaw.path}`")
    return noun


@functools.cache
def _header(kind: DocumentKind) -> type[msgspec.Struct]:
    """What holds the version alone. Of a kind whose noun lacks it, version 1 was written without one."""
    held = kind.version_field in kind.type().__struct_fields__
    return msgspec.defstruct("Header", [(kind.version_field, int) if held else (kind.version_field, int, 1)])


def render(noun: msgspec.Struct) -> bytes:
    """The document of a noun as bytes, its kind first."""
    return b"".join(_pieces(noun))


def _pieces(noun: msgspec.Struct) -> Iterator[bytes]:
    """The same piece by piece."""
    before = [encode(name) + b":" + encode(value) for name, value in header(noun).items()]
    yield from text.lines(noun, kind_of(type(noun)).depth, before)
    yield b"\n"


def header(noun: msgspec.Struct) -> dict[str, str | int]:
    """What a document of the noun begins with: its kind, and its version where the noun doesn't hold that itself."""
    kind = kind_of(type(noun))
    version = {} if kind.version_field in noun.__struct_fields__ else {kind.version_field: kind.version}
    return {"kind": kind.name, **version}


def save(noun: msgspec.Struct, path: str | os.PathLike[str]) -> None:
    """Writes the document; a reader, or a crash, sees the old file or the new one and nothing between."""
    replace_file(path, _pieces(noun))


def _short(rows: list[DocumentKind]) -> str:
    return f"a {' or '.join(kind.name for kind in rows)} document" if rows else "a document of opbench"


def _expected(rows: list[DocumentKind]) -> str:
    return " or ".join(kind.described for kind in rows) if rows else _short(rows)


def _lower(error: Exception) -> str:
    """Msgspec's sentence in the middle of ours: `expected ...`; its path `$.records[3].case` is kept."""
    said = str(error)
    return said[:1].lower() + said[1:]
