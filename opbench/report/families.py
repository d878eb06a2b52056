"""Which panels share a picture: families of panels, and the dimensions that a suite sweeps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import msgspec

from opbench.analyse.standings import Standing
from opbench.schema import Case, Device, DType, Mode

FEWEST_SWEPT = 3
PANELS_PER_PAGE = 8
# A picture takes half a second to draw, and nobody looks at the fortieth of a kind.
MOST_PAGES = 4


class Family(msgspec.Struct, frozen=True):
    """Panels that may stand side by side: they differ in workload and offset spread.

    `method` is "" where untimed; `page` says which part of a large family this is, as in "2 of 6".
    """

    task: str
    dtype: DType
    device: Device
    mode: Mode
    method: str
    standings: tuple[Standing, ...]
    page: str = ""
    executed: str = ""


class Sweep(msgspec.Struct, frozen=True):
    """Panels in which one dimension takes at least three values; `fixed` says what all others are."""

    axis: str
    fixed: str
    panels: tuple[tuple[float, Standing], ...]


def families(standings: Sequence[Standing], *, timed: bool = True) -> tuple[Family, ...]:
    """The panels by task, dtype, device, mode and what executes them, and if `timed` once for each timing method."""
    groups: dict[tuple[str, DType, Device, Mode, str, str], list[Standing]] = {}
    for standing in standings:
        case = standing.case
        for method in standing.methods if timed else ("",):
            key = (case.task, case.dtype, case.device, case.mode, method, case.executed)
            groups.setdefault(key, []).append(standing)
    return tuple(Family(*key[:-1], standings=tuple(group), executed=key[-1]) for key, group in groups.items())


def pages(family: Family) -> tuple[Family, ...]:
    """The family in parts that fit one picture, where each panel has a drawing of its own.

    Of a very large family the first `MOST_PAGES`; the last of them says how many panels are in the tables alone.
    """
    every, size = family.standings, PANELS_PER_PAGE
    if len(every) <= size:
        return (family,)
    starts = range(0, len(every), size)[:MOST_PAGES]
    left = len(every) - size * len(starts)
    parts = [
        msgspec.structs.replace(family, standings=every[start : start + size], page=f"{number} of {len(starts)}")
        for number, start in enumerate(starts, start=1)
    ]
    if left > 0:
        words = f"{parts[-1].page}; {left} more {'panel is' if left == 1 else 'panels are'} in the tables alone"
        parts[-1] = msgspec.structs.replace(parts[-1], page=words)
    return tuple(parts)


def sweeps(standings: Sequence[Standing]) -> tuple[Sweep, ...]:
    """Every dimension that is swept, all else equal. Height and width that grow together are one axis, H."""
    shapes = [(_shape(standing.case), standing) for standing in standings]
    found: list[Sweep] = []
    for axis in dict.fromkeys(name for shape, _ in shapes for name in shape):
        groups: dict[str, dict[float, Standing]] = {}
        for shape, standing in shapes:
            if axis in shape:
                fixed = ", ".join(f"{name}={value}" for name, value in shape.items() if name != axis)
                groups.setdefault(fixed, {}).setdefault(float(shape[axis]), standing)
        found += [
            Sweep(axis, fixed, tuple(sorted(group.items(), key=lambda item: item[0])))
            for fixed, group in groups.items()
            if len(group) >= FEWEST_SWEPT
        ]
    return tuple(found)


def _shape(case: Case) -> dict[str, float | Fraction]:
    shape: dict[str, float | Fraction] = dict(case.dims)
    if shape.get("H") and shape.get("W"):
        shape["W/H"] = Fraction(case.dims["W"], case.dims["H"])
        del shape["W"]
    if case.spread is not None and math.isfinite(case.spread):
        shape["spread"] = case.spread
    if case.seed:
        shape["seed"] = case.seed
    return shape
