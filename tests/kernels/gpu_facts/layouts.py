"""Which thread holds which element: the layouts of Triton's GPU IR, and the accesses to memory that have them."""

import re
from dataclasses import dataclass
from itertools import product

import numpy as np

# Bytes of one access of a thread at most.
WIDEST = 16


@dataclass(frozen=True)
class Access:
    """A load, store or atomic of the IR: where its source stands, its layout, and what an element is (`f16`, `i32`)."""

    kind: str
    file: str
    line: int
    shape: tuple[int, ...]
    element: str
    layout: str

    @property
    def bytes(self):
        """Of one element."""
        return max(8, int(self.element.lstrip("bfiu"))) // 8


def accesses(ttgir):
    """Every access of a kernel's IR, with its layout spelled out."""
    aliases = dict(re.findall(r"^(#\w+) = (#ttg\.\w+<.*>)$", ttgir, re.MULTILINE))
    places = dict(re.findall(r"^(#loc\d*) = loc\((.*)\)$", ttgir, re.MULTILINE))
    found = []
    for line in ttgir.splitlines():
        operation = re.search(r"\btt\.(load|store|atomic_rmw)\b", line)
        if not operation:
            continue
        pointers = re.search(r"tensor<((?:\d+x)+)!tt\.ptr<(\w+)>, (.*?)>(?: loc|,| ->|$|\) )", line)
        place = re.search(r"loc\((#loc\d*)\)\s*$", line)
        if not pointers or not place:
            continue  # a scalar's
        file, number = _place(places, place[1])
        shape = tuple(map(int, pointers[1].rstrip("x").split("x")))
        found.append(Access(operation[1], file, number, shape, pointers[2], _spelled(pointers[3], aliases)))
    return found


def _place(places, name):
    """The innermost file and line of a location."""
    text = places[name]
    if found := re.match(r'"([^"]+)":(\d+):\d+', text):
        return found[1].rpartition("/")[2], int(found[2])
    inner = re.search(r"#loc\d*", text)
    return _place(places, inner[0])


def _spelled(layout, aliases):
    for name in sorted(aliases, key=len, reverse=True):
        layout = re.sub(rf"{name}\b(?!<)", lambda _, name=name: aliases[name], layout)
    return layout


def holders(layout, shape):
    """Element numbers (of a C-ordered tile) by (warp, register, lane), and how many of a thread are neighbours.

    An element that several threads hold stands in the table several times.
    """
    if layout.startswith("#ttg.slice"):
        dim, parent = re.match(r"#ttg\.slice<\{dim = (\d+), parent = (.*)\}>$", layout).groups()
        return holders(parent, (*shape[: int(dim)], 1, *shape[int(dim) :]))
    if layout.startswith("#ttg.blocked"):
        return _blocked(layout, shape)
    if layout.startswith("#ttg.linear"):
        return _linear(layout, shape)
    raise ValueError(f"unknown layout {layout}")


def _numbers(layout, name):
    return list(map(int, re.search(rf"{name} = \[([\d, ]*)\]", layout)[1].split(",")))


def _blocked(layout, shape):
    each, lanes, warps, order = (
        _numbers(layout, name) for name in ("sizePerThread", "threadsPerWarp", "warpsPerCTA", "order")
    )
    registers = [
        size * max(1, length // (size * a * b)) for size, a, b, length in zip(each, lanes, warps, shape, strict=True)
    ]

    def split(counts):
        """The coordinates of numbers 0, 1, ... of so many things, the first of `order` running fastest."""
        grids = np.indices([counts[dim] for dim in reversed(order)]).reshape(len(order), -1)
        return {dim: grids[len(order) - 1 - i] for i, dim in enumerate(order)}

    by_warp, by_lane, by_register = split(warps), split(lanes), split(registers)
    number = 0
    for dim, length in enumerate(shape):
        size, across = each[dim], each[dim] * lanes[dim]
        r, t, w = by_register[dim][None, :, None], by_lane[dim][None, None, :], by_warp[dim][:, None, None]
        at = (r // size * across * warps[dim] + w * across + t * size + r % size) % length
        number = number * length + at
    return number, each[order[0]]


def _linear(layout, shape):
    bases = {}
    for name in ("register", "lane", "warp"):
        text = re.search(rf"{name} = (\[(?:\[[\d, ]*\](?:, )?)*\])", layout)[1]
        bases[name] = [tuple(map(int, one.split(","))) for one in re.findall(r"\[([\d, ]+)\]", text)]

    def places(basis):
        numbers = []
        for bits in product((0, 1), repeat=len(basis)):
            at = [0] * len(shape)
            for bit, base in zip(reversed(bits), basis, strict=True):
                at = [a ^ (b if bit else 0) for a, b in zip(at, base, strict=True)]
            numbers.append(at)
        return np.array(numbers)

    r, t, w = (places(bases[name]) for name in ("register", "lane", "warp"))
    at = w[:, None, None, :] ^ r[None, :, None, :] ^ t[None, None, :, :]
    number = 0
    for dim, length in enumerate(shape):
        number = number * length + at[..., dim] % length
    # Neighbours of the last axis, as long as they are.
    run = 1
    while run < number.shape[1] and (number[0, run, 0] - number[0, 0, 0]) == run:
        run *= 2
    return number, run
