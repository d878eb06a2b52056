"""JSON that keeps every float and every text, and where it stops being JSON.

JSON has no infinity and no NaN, and an encoder that writes null for them loses which it was. They are stored as the
strings "Infinity", "-Infinity" and "NaN" (the convention of protobuf's JSON), and read back as floats.
"""

from __future__ import annotations

import math
import re
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")

# What msgspec raises of a text that isn't JSON.
NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def encode(value: Any) -> bytes:
    """One noun (a `Record`, a `Run`) as one line of JSON that `decode` gives back unchanged."""
    return msgspec.json.encode(_storable(msgspec.to_builtins(value)))


def decode(data: bytes, type_: type[T]) -> T:
    """The noun that `encode` wrote; raises what msgspec raises."""
    # strict=False is what reads "Infinity" into a float; a string field still takes nothing but a string.
    return msgspec.json.decode(data, type=type_, strict=False)


def lines(noun: msgspec.Struct, depth: int) -> list[bytes]:
    """The fields of a noun, `"name":value` each; the nouns that a field lists stand a line each.

    A `depth` of 2 lays those out in lines as well.
    """
    found = []
    for name in noun.__struct_fields__:
        value = getattr(noun, name)
        if isinstance(value, tuple) and value and isinstance(value[0], msgspec.Struct):
            items = [braced(lines(item, depth - 1)) for item in value] if depth > 1 else map(encode, value)
            body = b"[\n" + b",\n".join(items) + b"\n]"
        else:
            body = encode(value)
        found.append(encode(name) + b":" + body)
    return found


def braced(fields: list[bytes]) -> bytes:
    """Fields as an object, a line each."""
    return b"{\n" + b",\n".join(fields) + b"\n}"


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
