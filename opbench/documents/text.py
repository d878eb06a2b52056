"""JSON that keeps every float and every text, and where it stops being JSON.

JSON has no infinity and no NaN, and an encoder that writes null for them loses which it was. They are stored as the
strings "Infinity", "-Infinity" and "NaN" (the convention of protobuf's JSON), and read back as floats.
"""

from __future__ import annotations

import codecs
import json
import math
import re
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import msgspec

from opbench.errors import OpbenchError

T = TypeVar("T")

# Floats that JSON lacks, as they are written.
NAMES = ("NaN", "Infinity", "-Infinity")

# What a type is called in msgspec's sentences.
_JSON = {bool: "bool", int: "int", float: "float", str: "str", type(None): "null", dict: "object", list: "array"}

# What msgspec raises of a text that isn't JSON.
NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def encode(value: Any) -> bytes:
    """One noun (a `Record`, a `Run`) as one line of JSON that `decode` gives back unchanged."""
    if not _plain(value):
        value = _storable(msgspec.to_builtins(value))
    return msgspec.json.encode(value)


def _plain(value: Any) -> bool:
    """Whether JSON holds all of it as it is.

    A list of samples is looked at by its sum: a run has millions of them, and one that is not finite shows in it.
    """
    kind = type(value)
    if kind is str:
        return value.isascii() or _encodable(value)
    if kind is float:
        return math.isfinite(value)
    if kind is tuple or kind is list:
        try:
            return math.isfinite(sum(value))
        except (TypeError, OverflowError):
            return all(map(_plain, value))
    if kind is dict:
        return all(map(_plain, value)) and all(map(_plain, value.values()))
    if issubclass(kind, msgspec.Struct):
        return all(_plain(getattr(value, name)) for name in kind.__struct_fields__)
    return kind is int or kind is bool or value is None


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def decode(data: bytes, type_: type[T]) -> T:
    """The noun that `encode` wrote; raises what msgspec raises.

    Of texts only the three names of floats that JSON lacks are numbers: "1.5" is none.
    """
    try:
        return msgspec.json.decode(data, type=type_)
    except msgspec.ValidationError:
        # What strict=False reads besides: "Infinity" into a float. A string field still takes nothing but a string.
        found = msgspec.json.decode(data, type=type_, strict=False)
        _as_written(found, msgspec.json.decode(data), "$")
        return found


def marked(data: bytes, expected: str) -> bytes:
    """The document without the byte order mark that some editors begin a file with."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise OpbenchError(f"not {expected}: UTF-16 text, by its byte order mark; expected UTF-8")
    return data.removeprefix(codecs.BOM_UTF8)


def unambiguous(data: bytes) -> None:
    """Raises `msgspec.ValidationError` where an object has a key twice: readers take the one or the other."""
    if _keys_once(data):
        return

    def once(pairs: list[tuple[str, Any]]) -> None:
        seen = set()
        for key, _ in pairs:
            if key in seen:
                raise msgspec.ValidationError(f"The key {key!r} stands twice in one object")
            seen.add(key)

    json.loads(data, object_pairs_hook=once)


def _keys_once(data: bytes) -> bool:
    """Whether no object can have a key twice; False where only a slow look at every object can tell.

    What is read has a key once and is written with as many `":` again. A text has as many in either, unless its quotes
    were written as codes; and so has a key, unless space was written before its colon.
    """
    if rb"\u0022" in data or any(space + b":" in data for space in (b" ", b"\t", b"\n", b"\r")):
        return False
    try:
        return _keys_written_again(data) == data.count(b'":')
    except (OverflowError, ValueError):  # an integer that JSON has and msgspec doesn't write
        return False


def _keys_written_again(data: bytes) -> int:
    """How often `":` is in what is read and written again.

    Items of lists are read one by one: a large document is not held as objects and as a second text.
    """
    fields = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
    count = msgspec.json.encode(dict.fromkeys(fields)).count(b'":')
    for value in fields.values():
        listed = bytes(memoryview(value)[:1]) == b"["
        for item in msgspec.json.decode(value, type=list[msgspec.Raw]) if listed else (value,):
            count += msgspec.json.encode(msgspec.json.decode(item)).count(b'":')
    return count


def _as_written(noun: Any, written: Any, path: str) -> None:
    """Raises where a value is another than the JSON has: a number from a text, a truth from a number."""
    match noun:
        case msgspec.Struct():
            for name in noun.__struct_fields__:
                if name in written:
                    _as_written(getattr(noun, name), written[name], f"{path}.{name}")
        case dict():
            for key, value in noun.items():
                _as_written(value, written[key], f"{path}[{key!r}]")
        case list() | tuple():
            for index, (value, was) in enumerate(zip(noun, written, strict=True)):
                _as_written(value, was, f"{path}[{index}]")
        case float():
            if isinstance(written, str) and written not in NAMES:
                raise msgspec.ValidationError(f"Expected `float`, got `str` - at `{path}`")
        case _:
            if noun != written or isinstance(noun, bool) is not isinstance(written, bool):
                raise msgspec.ValidationError(
                    f"Expected `{_JSON[type(noun)]}`, got `{_JSON[type(written)]}` - at `{path}`"
                )


def lines(noun: msgspec.Struct, depth: int, before: Iterable[bytes] = ()) -> Iterator[bytes]:
    """A noun as an object with a field a line; the nouns that a field lists stand a line each.

    In pieces, so that a large one is written without being held. `before` are fields that come first. A `depth` of 2
    lays out the listed nouns in lines as well.
    """
    begin = b"{\n"
    for field in before:
        yield begin + field
        begin = b",\n"
    for name in noun.__struct_fields__:
        yield begin + encode(name) + b":"
        begin = b",\n"
        value = getattr(noun, name)
        if isinstance(value, tuple) and value and isinstance(value[0], msgspec.Struct):
            for place, item in enumerate(value):
                yield b",\n" if place else b"[\n"
                if depth > 1:
                    yield from lines(item, depth - 1)
                else:
                    yield encode(item)
            yield b"\n]"
        else:
            yield encode(value)
    yield b"\n}"


def malformed(data: bytes, error: Exception, expected: str) -> str:
    """Where JSON stops being JSON, as line and column; `expected` is what was asked for, as in "a run document"."""
    reason = str(error)
    if isinstance(error, RecursionError):
        return f"not {expected}: nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return f"not {expected}: not UTF-8 text"
    if not data.strip():
        return "the file is empty"
    if "truncated" in reason:
        return f"the JSON ends too early, at {_position(data, len(data))}: the file was cut short"
    found = re.search(r"(.*) \(byte (\d+)\)", reason)
    return f"not JSON: {found[1]} at {_position(data, int(found[2]))}" if found else f"not JSON: {reason}"


def _storable(value: Any) -> Any:
    """Builtins with every float and string that JSON can't hold replaced by one that it can."""
    match value:
        case float() if not math.isfinite(value):
            return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
        case str() if not value.isascii():
            # A crashed worker's output may hold undecodable bytes as lone surrogates, which UTF-8 refuses.
            return value.encode("utf-8", "backslashreplace").decode("utf-8")
        case dict():
            return {_storable(key): _storable(item) for key, item in value.items()}
        case list() | tuple():
            return [_storable(item) for item in value]
        case _:
            return value


def _position(data: bytes, byte: int) -> str:
    line = data.count(b"\n", 0, byte) + 1
    column = byte - (data.rfind(b"\n", 0, byte) + 1) + 1
    return f"byte {byte} (line {line}, column {column})"
