"""Which tiles each kernel may take, by a table: the first that fits a problem is taken, without timing anything.

`tiles.toml` beside this file has the entries. They were chosen by what the compiled kernels ask of memory and registers
(results/gpu-facts), not by a clock: nothing was timed on a GPU yet. `OPBENCH_TRITON_TILES`, which `opbench run --tiles`
sets, is `table` for that table alone; `tune` to time the entries of a kernel for each kind of call, and keep the result
in the user's cache folder; or a file of the same form, whose kernels take the place of the table's.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Literal

import msgspec

from opbench.errors import OpbenchError, nearest

VARIABLE = "OPBENCH_TRITON_TILES"
TABLE, TUNE = "table", "tune"
# Elements of an output from which a problem is large: programs of large tiles then fill any device several times.
LARGE = 2**22

Layout = Literal["first", "last"]
_FILE = Path(__file__).with_name("tiles.toml")


class TileEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A tile by the names of the kernel's constants, how many warps share it, and the problems that it is for.

    `bytes` are those of an element, `size` the class of the output's size, `width` the least width of an image.
    """

    blocks: dict[str, int]
    warps: int
    bytes: tuple[int, ...] = (2, 4, 8)
    size: Literal["large", "small", "any"] = "any"
    width: int = 0

    def suits(self, elements: int, width: int) -> bool:
        """Whether it is for outputs of so many elements and images so wide."""
        return self.size in ("any", "large" if elements >= LARGE else "small") and width >= self.width


Table = Mapping[str, Mapping[Layout, Sequence[TileEntry]]]


def tuning() -> bool:
    """Whether entries are timed."""
    return _asked() == TUNE


def entries(kernel: str, layout: Layout, element: int, *, elements: int, width: int) -> tuple[TileEntry, ...]:
    """A kernel's tiles for elements of so many bytes; those that suit the problem come first.

    `elements` are those of the output, `width` is the image's. Raises OpbenchError where a file of one's own can't be
    read, or has no tile for this kernel, layout and element.
    """
    return _entries(_asked(), kernel, layout, element, elements, width)


@cache  # it is asked with every launch
def _entries(asked: str, kernel: str, layout: Layout, element: int, elements: int, width: int) -> tuple[TileEntry, ...]:
    own = {} if asked in (TABLE, TUNE) else read(asked)
    found = own.get(kernel, {}).get(layout) or read(str(_FILE))[kernel][layout]
    usable = [entry for entry in found if element in entry.bytes]
    if not usable:
        raise OpbenchError(f"{asked}: no tile of {kernel}, channels {layout}, is for elements of {element} bytes")
    return tuple(sorted(usable, key=lambda entry: not entry.suits(elements, width)))


@contextmanager
def asking(asked: str | None) -> Iterator[None]:
    """What a user asked for holds inside, in child processes too; None leaves it as it is. Raises OpbenchError."""
    if asked is None:
        yield
        return
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = check(asked)
    try:
        yield
    finally:
        if before is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = before


def check(asked: str) -> str:
    """What a user asked for, if it is `table`, `tune` or a file that can be read; raises OpbenchError."""
    if asked in (TABLE, TUNE):
        return asked
    read(asked)
    return str(Path(asked).resolve())


@cache
def read(path: str) -> Table:
    """A file of tiles; raises OpbenchError for one that isn't."""
    try:
        table = msgspec.convert(
            tomllib.loads(Path(path).read_text(encoding="utf-8")), dict[str, dict[Layout, list[TileEntry]]]
        )
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise OpbenchError(f"{path}: no file of tiles ({error}); expected `{TABLE}`, `{TUNE}` or such a file") from None
    known = table if path == str(_FILE) else read(str(_FILE))
    for kernel, layouts in table.items():
        if kernel not in known:
            raise OpbenchError(f"{path}: {nearest('kernel', kernel, known)}")
        for layout, entry in ((layout, entry) for layout, found in layouts.items() for entry in found):
            _check(f"{path}: {kernel}, channels {layout}", entry, known[kernel][layout][0])
    return table


def _check(where: str, entry: TileEntry, like: TileEntry) -> None:
    """Triton takes tiles whose sides are powers of two, and as many warps."""
    if entry.blocks.keys() != like.blocks.keys():
        raise OpbenchError(f"{where}: got blocks {', '.join(entry.blocks)}; expected {', '.join(like.blocks)}")
    for name, size in (*entry.blocks.items(), ("warps", entry.warps)):
        if size < 1 or size & (size - 1):
            raise OpbenchError(f"{where}: {name} is {size}; expected a power of two")
    if entry.warps > 32:
        raise OpbenchError(f"{where}: {entry.warps} warps; a program has at most 32")


def _asked() -> str:
    return os.environ.get(VARIABLE, TABLE)
