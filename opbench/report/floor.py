"""Floors as tables: a GPU and a panel each, never without the words that say what they are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from opbench.floor.floors import Floor, ordered
from opbench.floor.gpus import GPU
from opbench.quantities import MACS, MIN_BYTES, TRAFFIC
from opbench.report import numbers
from opbench.report.table import Table

NOTE = (
    "None of these is a latency, measured or predicted. A floor is the least time that the rates of the data sheet "
    "allow. Cold: inputs, parameters and outputs moved once (in training twice) at the memory rate, or the MACs at the "
    "arithmetic rate, whichever takes longer. Hot: the MACs alone, as caches serve a hot run. A way to compute that "
    "multiplies less (Winograd's, of a convolution) has a lower one. Uncached time is what the implementation's "
    "operations read and write, at the memory rate; it is no floor, as caches answer some of it. 1 MAC = 2 FLOPs."
)


def tables(found: Iterable[Floor], asked: Mapping[str, GPU]) -> Iterator[Table]:
    """One for each GPU and panel."""
    header = (
        "contender", MIN_BYTES.title, MACS.title, "floor, cold run", "bound by", "floor, hot run", TRAFFIC.title,
        "uncached time (no floor)",
    )  # fmt: skip
    for (name, panel), floors in ordered(list(found)).items():
        yield Table(header, tuple(map(_row, floors)), NOTE, title=f"{asked[name].title}: {panel}")


def sources(asked: Mapping[str, GPU]) -> list[str]:
    """Where the rates are from, a line for each GPU."""
    return [
        f"{name}: {numbers.rate(gpu.bytes_per_second, 'bytes/second')}; {gpu.source}" for name, gpu in asked.items()
    ]


def _row(floor: Floor) -> tuple[str, ...]:
    unseen = floor.note or numbers.NOT_MEASURED
    return (
        floor.contender,
        numbers.size(floor.least_bytes),
        numbers.macs(floor.macs),
        numbers.seconds(floor.cold_seconds),
        floor.bound_by,
        numbers.seconds(floor.hot_seconds, missing="no rate"),
        numbers.size(floor.traffic_bytes, missing=unseen),
        numbers.seconds(floor.uncached_seconds, missing=numbers.NOT_MEASURED),
    )
