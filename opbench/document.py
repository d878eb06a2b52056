"""The run document on disk: one versioned JSON file, written whole or not at all, and checked when it is read.

JSON has no infinity and no NaN, and an encoder that writes null for them loses which it was. They are stored as the
strings "Infinity", "-Infinity" and "NaN" (the convention of protobuf's JSON), and read back as floats. Each record
is one line, so that two documents can be compared with a line-based tool.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from opbench.schema import SCHEMA_VERSION, Case, OpbenchError, Run

T = TypeVar("T")


def load(path: str | os.PathLike[str]) -> Run:
    """The run document at `path`. Raises `OpbenchError`, one line, for anything that is not one."""
    name = os.fspath(path)
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        raise OpbenchError(f"{name}: no such file (expected a run.json that `opbench run -o DIR` wrote)") from None
    except IsADirectoryError:
        raise OpbenchError(f"{name} is a folder; did you mean {os.path.join(name, 'run.json')}?") from None
    except OSError as error:
        raise OpbenchError(f"{name}: can't be read: {error.strerror or error}") from None
    try:
        return parse(data)
    except OpbenchError as error:
        raise OpbenchError(f"{name}: {error}") from None


def save(run: Run, path: str | os.PathLike[str]) -> None:
    """Writes the run document; a reader, or a crash, sees the old file or the new one and nothing between."""
    replace_file(path, render(run))


def parse(data: bytes) -> Run:
    """The run document in `data`; `OpbenchError` says what is wrong and where."""
    try:
        version = msgspec.json.decode(data, type=_Header).schema_version
    except msgspec.ValidationError as error:
        raise OpbenchError(
            f"not a run document: {_lower(error)} (expected the run.json that `opbench run -o DIR` writes)"
        ) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise OpbenchError(_malformed(data, error)) from None
    if version > SCHEMA_VERSION:
        raise OpbenchError(
            f"schema_version {version} is newer than this opbench reads (up to {SCHEMA_VERSION}); upgrade opbench"
        )
    if version < 1:
        raise OpbenchError(f"not a run document: schema_version is {version}, expected 1 to {SCHEMA_VERSION}")
    try:
        run = decode(data, Run)
        return run if version > 1 else _of_schema_1(run)
    except msgspec.ValidationError as error:
        raise OpbenchError(f"not a valid run document of schema_version {version}: {_lower(error)}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise OpbenchError(_malformed(data, error)) from None


def render(run: Run) -> bytes:
    """The document as bytes: one line per field, one line per item of a tuple."""
    lines = []
    for name in run.__struct_fields__:
        value = getattr(run, name)
        if isinstance(value, tuple) and value:
            body = b"[\n" + b",\n".join(map(encode, value)) + b"\n]"
        else:
            body = encode(value)
        lines.append(encode(name) + b":" + body)
    return b"{\n" + b",\n".join(lines) + b"\n}\n"


def encode(value: Any) -> bytes:
    """One noun (a `Record`, a `Run`) as one line of JSON that `decode` gives back unchanged."""
    return msgspec.json.encode(_storable(msgspec.to_builtins(value)))


def decode(data: bytes, type_: type[T]) -> T:
    """The noun that `encode` wrote; raises what msgspec raises."""
    # strict=False is what reads "Infinity" into a float; a string field still takes nothing but a string.
    return msgspec.json.decode(data, type=type_, strict=False)


def replace_file(path: str | os.PathLike[str], content: bytes) -> None:
    """Writes `content` beside `path`, flushes it to the disk and renames it into place."""
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise OpbenchError(f"{target}: can't be written: {error.strerror or error}") from None


# Schema 1 had CARAFE's own settings among the dimensions of every contender of its task.
_SETTINGS_OF_SCHEMA_1 = {
    "upsample2x": {"carafe": ("k_up", "k_enc", "c_mid", "g"), "yolo-carafe": ("k_up", "k_enc", "c_mid")}
}


def _of_schema_1(run: Run) -> Run:
    """With operators' own settings where schema 2 has them. Ids stay: what a workload names isn't part of one."""
    panels = (msgspec.structs.replace(one, cases=tuple(map(_modern, one.cases))) for one in run.panels)
    records = (msgspec.structs.replace(one, case=_modern(one.case)) for one in run.records)
    return msgspec.structs.replace(run, panels=tuple(panels), records=tuple(records))


def _modern(case: Case) -> Case:
    owners = _SETTINGS_OF_SCHEMA_1.get(case.task)
    if owners is None:
        return case
    every = {name for names in owners.values() for name in names}
    dims = {name: value for name, value in case.dims.items() if name not in every}
    settings = {name: case.dims[name] for name in owners.get(case.operator, ()) if name in case.dims}
    return msgspec.structs.replace(case, dims=dims, settings=settings)


class _Header(msgspec.Struct):
    schema_version: int


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


def _malformed(data: bytes, error: Exception) -> str:
    """Where JSON stops being JSON, as line and column."""
    reason = str(error)
    if isinstance(error, RecursionError):
        return "not a run document: nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return "not a run document: not UTF-8 text"
    if not data.strip():
        return "the file is empty"
    if "truncated" in reason:
        return f"the JSON ends too early, at {_position(data, len(data))}: the file was cut short"
    found = re.search(r"(.*) \(byte (\d+)\)", reason)
    return f"not JSON: {found[1]} at {_position(data, int(found[2]))}" if found else f"not JSON: {reason}"


def _position(data: bytes, byte: int) -> str:
    line = data.count(b"\n", 0, byte) + 1
    column = byte - (data.rfind(b"\n", 0, byte) + 1) + 1
    return f"byte {byte} (line {line}, column {column})"


def _lower(error: Exception) -> str:
    """Msgspec's sentence in the middle of ours: `expected ...`; its path `$.records[3].case` is kept."""
    text = str(error)
    return text[:1].lower() + text[1:]
