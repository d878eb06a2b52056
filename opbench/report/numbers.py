"""The only place where a number becomes text. A missing number becomes a word that says why, never a blank or a 0.

Three significant digits, with the unit beside the number. Times, MACs and rates take decimal prefixes (k, M, G), memory
takes binary ones (KiB, MiB, GiB). One MAC is two FLOPs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from opbench.quantities import Quantity, Style
from opbench.statistics.ratios import Ratio

NOT_MEASURED = "not measured"

_TIMES = ((1e-9, "ns"), (1e-6, "µs"), (1e-3, "ms"), (1.0, "s"))
_COUNTS = ((1.0, ""), (1e3, "k"), (1e6, "M"), (1e9, "G"), (1e12, "T"), (1e15, "P"))
_SIZES = ((1.0, "B"), (2.0**10, "KiB"), (2.0**20, "MiB"), (2.0**30, "GiB"), (2.0**40, "TiB"))

Units = Sequence[tuple[float, str]]


def seconds(value: float | None, missing: str = NOT_MEASURED) -> str:
    """A time: `812 ns`, `4.05 ms`, `1.00 s`."""
    return _scaled(value, _TIMES, missing)


def size(value: float | None, missing: str = NOT_MEASURED) -> str:
    """Bytes: `0 B`, `512 B`, `34.0 MiB`."""
    return _scaled(value, _SIZES, missing, whole=True)


def macs(value: float | None, missing: str = NOT_MEASURED) -> str:
    """Multiply-accumulates: `0`, `152 M`, `4.72 G`; the unit is said by the heading."""
    return _scaled(value, _COUNTS, missing, whole=True)


def rate(value: float | None, unit: str, missing: str = NOT_MEASURED) -> str:
    """A speed of `unit` (`bytes/second`, `macs/second`): `14.2 Gbytes/second` is written `14.2 GB/s`."""
    return _scaled(value, [(step, prefix + _RATES.get(unit, unit)) for step, prefix in _COUNTS], missing)


_RATES = {"bytes/second": "B/s", "macs/second": "MAC/s"}


def exactly(value: int | None, missing: str = NOT_MEASURED) -> str:
    """A count to its last digit: `74,148`."""
    return missing if value is None else f"{value:,}"


def ratio(value: Ratio | None, missing: str = NOT_MEASURED) -> str:
    """`3.21x [3.15, 3.28]`; an interval of too few rounds, or of one visit of several, says so."""
    if value is None:
        return missing
    if not math.isfinite(value.value):
        return f"{_words(value.value)} ratio"
    if value.method == "one-round":
        return f"{plain(value.value)}x [1 round, no interval]"
    if not 1e-3 <= value.value < 1e6:
        return f"{plain(value.value)}x [{plain(value.low)}, {plain(value.high)}]"
    places = _decimals(value.value, value.high - value.low)
    few = {"range": f" ({value.rounds} rounds)", "one-visit": " (1 visit)"}.get(value.method, "")
    return f"{_fixed(value.value, places)}x [{_fixed(value.low, places)}, {_fixed(value.high, places)}]{few}"


def change(value: float, low: float, high: float) -> str:
    """A quotient of times as a change with its interval: `+10.2 % [+8.1, +12.3]`; tenfold and beyond as a factor."""
    if not all(map(math.isfinite, (value, low, high))) or high > 10:
        return f"{plain(value)}x [{plain(low)}, {plain(high)}]"
    middle, *ends = (f"{100 * (quotient - 1):+.1f}" for quotient in (value, low, high))
    return f"{middle} % [{', '.join(ends)}]"


def signed(value: int) -> str:
    """A difference of counts to its last digit: `+74,148`, `-2,304`, `+0`."""
    return f"{value:+,}"


def relative(after: float | None, before: float | None, missing: str = NOT_MEASURED) -> str:
    """By how much one is more than the other: `+4.4 %`, `-27.0 %`; tenfold and beyond as a factor, `12.3x`."""
    if after is None or not before:
        return missing
    quotient = after / before
    return f"{plain(quotient)}x" if quotient >= 10 else f"{100 * (quotient - 1):+.1f} %"


def estimate(value: float, low: float, high: float, places: int, *, signed: bool = False) -> str:
    """A figure with its interval, all to as many decimals: `31.42 [31.20, 31.64]`; signed: `+0.42 [-0.03, +0.87]`."""
    sign = "+" if signed else ""

    def text(number: float) -> str:
        return f"{number:{sign}.{places}f}" if math.isfinite(number) else _words(number)

    return f"{text(value)} [{text(low)}, {text(high)}]"


def share(part: float | None, whole: float | None, missing: str = NOT_MEASURED) -> str:
    """`part` of `whole` in percent: `42 %`, `0.13 %`."""
    if part is None or not whole:
        return missing
    return f"{plain(100 * part / whole, digits=2)} %"


def plain(value: float | None, missing: str = NOT_MEASURED, digits: int = 3) -> str:
    """A bare number with `digits` significant digits: `0.412`, `1.3e-05`, `infinite`."""
    if value is None:
        return missing
    if not math.isfinite(value):
        return _words(value)
    if value == 0:
        return "0"
    if not 1e-3 <= abs(value) < 1e6:
        return f"{value:.{digits - 1}e}"
    return _fixed(value, _decimals(value, digits=digits))


def figure(of: Quantity, value: float | None, missing: str = NOT_MEASURED) -> str:
    """A figure of a quantity, as its row says that it is written."""
    return missing if value is None else _STYLES[of.style](value)


_STYLES: Mapping[Style, Callable[[Any], str]] = {
    "count": exactly,
    "macs": macs,
    "size": size,
    "seconds": seconds,
    "ratio": lambda value: f"{plain(value)}x",
    "plain": plain,
}


def _scaled(value: float | None, units: Units, missing: str, whole: bool = False) -> str:
    """The largest unit that leaves at least 1 after rounding to three digits; below the first unit, decimals of it."""
    if value is None:
        return missing
    if not math.isfinite(value):
        return _words(value)
    if value == 0:
        return f"0 {units[0][1]}".strip()
    # 999.6 µs rounds to 1.00 ms: choose the unit after rounding.
    index = max((i for i, (step, _) in enumerate(units) if float(f"{abs(value) / step:.3g}") >= 1), default=0)
    step, unit = units[index]
    scaled = value / step
    exact = whole and index == 0 and float(scaled).is_integer()
    return f"{_fixed(scaled, 0 if exact else _decimals(scaled))} {unit}".strip()


def _decimals(value: float, width: float = math.inf, digits: int = 3) -> int:
    """Decimals that show `digits` significant digits of `value`, and more where an interval is narrower (up to 4)."""
    places = digits - 1 - _magnitude(value, digits)
    if 0 < width < math.inf:
        places = max(places, min(4, -_magnitude(width)))
    return max(0, places)


def _magnitude(value: float, digits: int = 3) -> int:
    """The power of ten of the first digit, after rounding to `digits` digits: 2 for 99.96."""
    return int(f"{value:.{digits - 1}e}".partition("e")[2])


def _fixed(value: float, places: int) -> str:
    return f"{value:.{places}f}" if math.isfinite(value) else _words(value)


def _words(value: float) -> str:
    return "not a number" if math.isnan(value) else "infinite" if value > 0 else "minus infinite"
