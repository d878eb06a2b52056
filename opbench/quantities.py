"""What is measured, one row a quantity. Tables, charts, exports, comparison, history and the dashboard read these rows.

To add a quantity, add a row to `QUANTITIES`: it then appears wherever `MEDIA` says. Names that other programs read (a
column of the CSV, a metric, a key of a digest) follow from the row's key and title; a row that was published under
another name says so in `names`, and None there keeps it out of that medium.

Longer than 300 lines because it is one table, which is read as one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from opbench.schema import Record
from opbench.statistics.ratios import Quartiles, Ratio

# How a number is written, by `report.numbers.figure`.
Style = Literal["count", "macs", "size", "seconds", "ratio", "plain"]
# What decides that a figure changed: nothing but equality, statistics of its samples, or the verdict.
Channel = Literal["deterministic", "time", "verdict"]
# (value, low, high): of seconds the quartiles, of a ratio the 95 % interval.
TimedFigure = tuple[float, float, float]


class Timed(Protocol):
    """What a timing method found out about one case."""

    @property
    def latency(self) -> Quartiles | None:
        """Of the seconds a call takes."""

    @property
    def ratio(self) -> Ratio | None:
        """To the baseline of the panel."""


# eq=False: a row is itself alone, so that tables of rows can be keyed by them.
@dataclass(frozen=True, kw_only=True, eq=False)
class Quantity:
    """One thing that is measured of a case.

    `key` names it, as in a digest and in the CSV; `title` heads its column for people and `label` its axis. `part` is
    the part of a record that holds it under its key, unless `figure` computes it; a quantity in time has `timed`
    instead. `allocated`: what torch's allocator says, so it holds of one version of torch and of one way to measure it,
    and may be predicted. `dispatched`: of the operations that torch dispatches, so it holds of one version of torch.
    `recent`: older documents have none, and a table in which no row has it goes without. `training`: there is none in
    inference. `help` is a sentence for whoever reads the metric, `note` one for below a table that shows it.
    """

    key: str
    title: str
    unit: str
    style: Style
    channel: Channel
    help: str
    label: str = ""
    note: str = ""
    part: Literal["counts", "memory", ""] = ""
    figure: Callable[[Record], float | None] | None = None
    timed: Callable[[Timed], TimedFigure | None] | None = None
    less_is_better: bool = False
    allocated: bool = False
    dispatched: bool = False
    recent: bool = False
    training: bool = False
    names: Mapping[str, str | None] = field(default_factory=dict)

    def of(self, record: Record | None) -> float | None:
        """The figure of one record; None where it was not measured."""
        if record is None:
            return None
        if self.figure:
            return self.figure(record)
        found: float | None = getattr(getattr(record, self.part, None), self.key, None)
        return found

    def of_timing(self, timing: Timed) -> TimedFigure | None:
        """The figure of one timing method with its ends; None where it was not timed."""
        return self.timed(timing) if self.timed else None

    def name(self, medium: str) -> str | None:
        """What it is called in a medium of `MEDIA`; None where it is not part of that."""
        return self.names[medium] if medium in self.names else MEDIA[medium](self)


def _stem(of: Quantity, mark: str) -> str:
    """The title as an identifier, the unit at its end where it is bytes."""
    return mark.join([*of.title.lower().split(), *([of.unit] if of.unit == "bytes" else [])])


# medium -> what a quantity is called there unless it says otherwise. `{mode}` stands for inference or training.
MEDIA: Mapping[str, Callable[[Quantity], str | None]] = {
    # the columns of the comparison of a workload in both modes, of a single panel, of the terminal and of a README
    "contest": lambda of: of.title if of.training else f"{of.title} ({{mode}})",
    "panel": lambda of: of.title,
    "terminal": lambda of: of.title,
    "readme": lambda of: None,
    # the legend of the chart of memory
    "memory chart": lambda of: of.title if of.allocated else None,
    # the key of a row of the dashboard, and whether its tables and charts offer it
    "dashboard": lambda of: of.key,
    "dashboard views": lambda of: of.title,
    # keys, columns and measures that other programs read
    "digest": lambda of: of.key,
    "compare": lambda of: of.key.removesuffix("_bytes").replace("_", "-"),
    "csv": lambda of: of.key,
    "pytest-benchmark": lambda of: of.key,
    "bencher": lambda of: _stem(of, "-"),
    "asv": lambda of: "_".join(of.title.lower().split()),
    "asv type": lambda of: "memory" if of.unit == "bytes" else "track",
    "openmetrics": lambda of: f"opbench_{_stem(of, '_')}",
    "github-action": lambda of: of.title if of.less_is_better else None,
}


def _seconds(timing: Timed) -> TimedFigure | None:
    found = timing.latency
    return (found.median_seconds, found.lower_seconds, found.upper_seconds) if found else None


def _ratio(timing: Timed) -> TimedFigure | None:
    found = timing.ratio
    return (found.value, found.low, found.high) if found else None


def _artifact_bytes(record: Record) -> float | None:
    return record.artifact.bytes if record.artifact else None


def _largest_error(record: Record) -> float | None:
    found = [verdict.max_error for verdict in (record.verdict, record.final_verdict) if verdict]
    # NaN compares as neither larger nor smaller; it is the worst of all.
    return max(found, key=lambda value: (value != value, value), default=None)


RATIO = Quantity(
    key="ratio",
    title="latency vs baseline",
    label="latency against the baseline",
    unit="ratio",
    style="ratio",
    channel="time",
    help="Latency over that of the panel's baseline.",
    timed=_ratio,
    less_is_better=True,
    names={
        "bencher": "latency-ratio", "asv": "latency_ratio", "openmetrics": "opbench_latency_ratio",
        "github-action": "latency ratio",
    },
)  # fmt: skip
SECONDS = Quantity(
    key="seconds",
    title="median latency",
    unit="seconds",
    style="seconds",
    channel="time",
    help="Median time of a call.",
    timed=_seconds,
    less_is_better=True,
    names={
        "dashboard": "median", "bencher": "latency", "asv": "latency", "asv type": "time",
        "openmetrics": "opbench_latency_seconds", "github-action": "latency",
    },
)  # fmt: skip
PARAMS = Quantity(
    key="params",
    title="params",
    label="parameters",
    unit="parameters",
    style="count",
    channel="deterministic",
    help="Learnable parameters.",
    part="counts",
    names={"contest": "params", "readme": "params", "openmetrics": "opbench_parameters"},
)
MACS = Quantity(
    key="macs",
    title="MACs",
    label="MACs (1 MAC = 2 FLOPs)",
    unit="MACs",
    style="macs",
    channel="deterministic",
    help="Multiply-accumulates of a call; one is two FLOPs.",
    note="1 MAC = 2 FLOPs.",
    part="counts",
    names={"panel": "MACs ({mode})", "readme": "MACs / FLOPs ({mode})"},
)
# Published where it has been so far: the other names of a quantity that follows from the dimensions tell nothing new.
MIN_BYTES = Quantity(
    key="min_bytes",
    title="least traffic",
    unit="bytes",
    style="size",
    channel="deterministic",
    help="Bytes of a forward call's inputs, parameters and outputs, each moved once.",
    part="counts",
    names={
        "dashboard": "traffic", "compare": "min-bytes",
        **dict.fromkeys((
            "contest", "panel", "terminal", "dashboard views", "digest", "pytest-benchmark", "bencher", "asv",
            "openmetrics", "github-action",
        )),
    },
)  # fmt: skip
PEAK = Quantity(
    key="peak_bytes",
    title="peak memory",
    label="peak memory above inputs and parameters",
    unit="bytes",
    style="size",
    channel="deterministic",
    help="Peak above inputs and parameters.",
    note="Memory is above inputs and parameters.",
    part="memory",
    less_is_better=True,
    allocated=True,
    names={
        "readme": "peak memory ({mode})", "memory chart": "peak", "dashboard": "peak", "asv type": "peakmemory",
    },
)  # fmt: skip
SAVED = Quantity(
    key="saved_bytes",
    title="saved for backward",
    label="memory saved for backward",
    unit="bytes",
    style="size",
    channel="deterministic",
    help="Kept from forward for backward.",
    part="memory",
    less_is_better=True,
    allocated=True,
    training=True,
    names={"terminal": None, "dashboard": "saved"},
)
# At 80 columns the terminal has no room for it.
HELD = Quantity(
    key="held_bytes",
    title="held memory",
    label="memory of inputs, parameters and buffers",
    unit="bytes",
    style="size",
    channel="deterministic",
    help="Bytes of the inputs, parameters and buffers themselves.",
    note="Held memory is that of the inputs, parameters and buffers themselves.",
    part="memory",
    less_is_better=True,
    names={"terminal": None},
)
# At 80 columns the terminal has no room for it either.
TRAFFIC = Quantity(
    key="traffic_bytes",
    title="traffic",
    label="traffic of the implementation",
    unit="bytes",
    style="size",
    channel="deterministic",
    help="Bytes that the operations of a call read and write.",
    note="Traffic: bytes that the implementation's operations read and write; caches answer some of it.",
    part="counts",
    less_is_better=True,
    dispatched=True,
    recent=True,
    names={"terminal": None},
)
ARTIFACT = Quantity(
    key="artifact_bytes",
    title="artifact",
    label="size of the exported artifact",
    unit="bytes",
    style="size",
    channel="deterministic",
    help="Bytes of what an exporter has written for the runtime.",
    note="Artifact: what an exporter has written for the runtime; torch executes none.",
    figure=_artifact_bytes,
    less_is_better=True,
    dispatched=True,
    recent=True,
    names={"terminal": None},
)
# An error belongs to a verdict, whose columns the exports have apart; the tables show it last.
ERROR = Quantity(
    key="error",
    title="max error",
    label="max error, eps·Σ|terms|",
    unit="eps·Σ|terms|",
    style="plain",
    channel="verdict",
    help="Largest error of the output against the float64 definition.",
    figure=_largest_error,
    less_is_better=True,
    names={
        "contest": "max error (eps·Σ|terms|)", "panel": "max error (eps·Σ|terms|)",
        "dashboard views": "max error, eps·Σ|terms|",
        **dict.fromkeys((
            "terminal", "digest", "compare", "csv", "pytest-benchmark", "bencher", "asv", "openmetrics",
            "github-action",
        )),
    },
)  # fmt: skip

QUANTITIES: tuple[Quantity, ...] = (
    RATIO,
    SECONDS,
    PARAMS,
    MACS,
    MIN_BYTES,
    PEAK,
    SAVED,
    HELD,
    TRAFFIC,
    ARTIFACT,
    ERROR,
)


def published(medium: str, *channels: Channel) -> tuple[tuple[Quantity, str], ...]:
    """Each quantity of the channels (without any: all of them) that a medium has, and its name there."""
    chosen = (one for one in QUANTITIES if not channels or one.channel in channels)
    return tuple((one, name) for one in chosen if (name := one.name(medium)) is not None)


def exact(medium: str) -> tuple[tuple[Quantity, str], ...]:
    """The deterministic quantities of a medium, by name."""
    return published(medium, "deterministic")
