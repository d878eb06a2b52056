"""For the GitHub action "github-action-benchmark": an array of {name, value, unit, range, extra}.

The action reads one file for figures of which less is better, another for those of which more is
(`tool: customSmallerIsBetter`, `customBiggerIsBetter`), and ties points of a chart together by name alone: names hold
no number that may change from run to run. `range` is text that it shows beside the value.

Nor does a unit change from run to run: the action compares the bare values, and converts units of time alone. It
follows from how much a case has to move, so that small ones have microseconds and KiB, large ones milliseconds and MiB.

It shows all entries in one comment, and a comment that is too long is an error. So without `--select` only the
quantities that fit are written, the ratio first; which ones follows from the names, never from the figures.

Source: https://github.com/benchmark-action/github-action-benchmark
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from opbench.quantities import MACS, RATIO, SECONDS, exact, published
from opbench.report import numbers
from opbench.report.escape import visible
from opbench.report.exports.rows import ExportedCase, ExportedRun, as_json, finite, timed
from opbench.schema import Run

Entry = dict[str, object]
Entries = Callable[[ExportedCase, Run], Iterator[tuple[str, Entry]]]

# What a comment on GitHub can hold, in characters, less what stands around the rows.
COMMENT = 65_536
_AROUND = 1_536
# What a row of the comment has beside its name: the figure now and before, and their quotient.
_ROW, _ROW_WITH_RANGE = 60, 120
# Least traffic from which on a case is a large one.
_LARGE_BYTES = 1 << 20
# The quantities of which more is better, what decides first.
_SPEED_UP, _MAC_RATE = _BIGGER_ORDER = ("speed-up", "MAC rate")


def smaller_is_better(run: ExportedRun) -> tuple[bytes, str]:
    """Latency, its ratio to the panel's baseline, and bytes; and in a sentence what is left out, or ""."""
    return _chosen(run, _smaller, _smaller_order())


def bigger_is_better(run: ExportedRun) -> tuple[bytes, str]:
    """How many times as fast as the panel's baseline, and MACs a second; and in a sentence what is left out, or ""."""
    return _chosen(run, _bigger, _BIGGER_ORDER)


def _smaller_order() -> tuple[str, ...]:
    """The quantities of which less is better, what decides first."""
    told = dict(published("github-action", "time"))
    return (told[RATIO], told[SECONDS], *(title for _, title in exact("github-action")))


def _chosen(run: ExportedRun, entries: Entries, order: Sequence[str]) -> tuple[bytes, str]:
    """The entries that fit, as JSON, and a sentence of those that don't, or of a comment that would be too long.

    `order` is that in which quantities are kept.
    """
    # As they come of each case: a reader has all of one case together.
    pairs = [pair for one in run.passed for pair in entries(one, run.run)]
    wanted, left_out = _kept(pairs, order, selected=bool(run.selection.patterns))
    return as_json(wanted), left_out


def _kept(pairs: Sequence[tuple[str, Entry]], order: Sequence[str], *, selected: bool) -> tuple[list[Entry], str]:
    groups: dict[str, list[Entry]] = {name: [] for name in order}
    for quantity, entry in pairs:
        groups[quantity].append(entry)
    everything = [entry for _, entry in pairs]
    if _length(everything) <= COMMENT - _AROUND:
        return everything, ""
    if selected:
        return everything, f"{len(everything)} entries make a longer comment than GitHub takes: select fewer"
    present = [name for name in order if groups[name]]
    kept: list[str] = []
    for quantity in present:
        if _length([entry for name in (*kept, quantity) for entry in groups[name]]) <= COMMENT - _AROUND:
            kept.append(quantity)
    # Where not even the first of them is kept: as many of its entries as there is room for.
    wanted = [entry for name, entry in pairs if name in kept] if kept else _fitting(groups[present[0]])
    gone = ", ".join(name for name in present if name not in kept)
    left = len(everything) - len(wanted)
    return wanted, (
        f"{left} of {len(everything)} entries are left out, as a comment holds no more: {gone} "
        "(--select names the cases that you want whole)"
    )


def _fitting(entries: Sequence[Entry]) -> list[Entry]:
    """The first of the entries, as many as a comment holds."""
    room, found = COMMENT - _AROUND, []
    for entry in entries:
        room -= _length([entry])
        if room < 0:
            break
        found.append(entry)
    return found


def _length(entries: Sequence[Entry]) -> int:
    """About how long the rows of a comment are; of the figures it matters only whether there is a range."""
    return sum(len(str(entry["name"])) + (_ROW_WITH_RANGE if "range" in entry else _ROW) for entry in entries)


def _smaller(one: ExportedCase, run: Run) -> Iterator[tuple[str, Entry]]:
    """(quantity, entry)."""
    extra, told = _extra(one, run), dict(published("github-action", "time"))
    unit, in_seconds, size_unit, in_bytes = _units(one)
    for name, method in timed(one):
        timing = one.row.timing(method)
        if timing.ratio and not one.row.is_baseline and finite(timing.ratio.value):
            ratio = _rounded(timing.ratio.value)
            yield told[RATIO], _entry(f"{name} {told[RATIO]}", ratio, "x", numbers.ratio(timing.ratio), extra)
    for name, method in timed(one):
        timing = one.row.timing(method)
        if timing.latency:
            ends = (timing.latency.lower_seconds, timing.latency.upper_seconds)
            low, high = (f"{end / in_seconds:.4g}" for end in ends)
            value = _rounded(timing.latency.median_seconds / in_seconds)
            yield told[SECONDS], _entry(f"{name} {told[SECONDS]}", value, unit, f"{low} to {high} (quartiles)", extra)
    for of, title in exact("github-action"):
        figure = of.of(one.row.record)
        if figure is not None:
            yield title, _entry(f"{one.name} {title}", _rounded(figure / in_bytes), size_unit, "", extra)


def _bigger(one: ExportedCase, run: Run) -> Iterator[tuple[str, Entry]]:
    extra = _extra(one, run)
    macs = MACS.of(one.row.record)
    for name, method in timed(one):
        timing = one.row.timing(method)
        if timing.ratio and not one.row.is_baseline and finite(timing.ratio.value) and timing.ratio.value > 0:
            ends = [numbers.plain(1 / end if end else float("inf")) for end in (timing.ratio.high, timing.ratio.low)]
            speed_up = _rounded(1 / timing.ratio.value)
            yield _SPEED_UP, _entry(f"{name} {_SPEED_UP}", speed_up, "x", f"[{', '.join(ends)}]", extra)
        if timing.latency and macs:
            rate = _rounded(macs / timing.latency.median_seconds / 1e9)
            yield _MAC_RATE, _entry(f"{name} {_MAC_RATE}", rate, "GMAC/s", "", extra)


def _units(one: ExportedCase) -> tuple[str, float, str, int]:
    """The case's unit of time and its seconds, its unit of memory and its bytes."""
    counts = one.row.record.counts if one.row.record else None
    if counts and counts.min_bytes < _LARGE_BYTES:
        return "us", 1e-6, "KiB", 1 << 10
    return "ms", 1e-3, "MiB", 1 << 20


def _rounded(value: float) -> float:
    """To six digits: more than any interval here tells apart."""
    return float(f"{value:.6g}")


def _entry(name: str, value: float, unit: str, range_: str, extra: str) -> Entry:
    told = {"range": range_} if range_ else {}
    return {"name": name, "value": value, "unit": unit, **told, "extra": extra}


def _extra(one: ExportedCase, run: Run) -> str:
    """What the chart's tooltip says: where it was measured and against what."""
    where = run.environment
    lines = (
        f"baseline: {one.standing.panel.baseline or 'none'}",
        f"machine: {where.cpu}, {where.threads} threads" + (f", {where.gpu}" if where.gpu else ""),
        f"torch: {where.versions.get('torch', 'unknown')}",
    )
    return "\n".join(visible(line, 200) for line in lines)
