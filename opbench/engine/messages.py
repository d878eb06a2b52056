"""What the run and its worker say to each other: frozen data, one JSON line each.

The run gives one assignment at a time; the worker answers `Began`, then whatever the work is, then its result, which
has the assignment's number. Who
is being called is not said in lines but in the heartbeat (`steps.py`), because it changes with every sample.
"""

from __future__ import annotations

import msgspec

from opbench.engine.judging.messages import AskJudge
from opbench.measure.cores import CoreCount
from opbench.schema import Case, Device, DType, Environment, FirstCall, Panel, ProbedPanel, Record, Settings, Yardstick


class Survey(msgspec.Struct, frozen=True, tag=True):
    """Read the environment and measure the yardsticks of these devices and dtypes, within so many bytes.

    `cores`: as they were before the run began to work; None has them looked at.
    """

    yardsticks: tuple[tuple[Device, DType], ...]
    memory_bytes: int | None = None
    cores: CoreCount | None = None


class Measure(msgspec.Struct, frozen=True, tag=True):
    """Measure a panel, or what is left of it without the contenders that brought a worker down.

    `calls_per_sample[method][contender]` is what an earlier visit calibrated: later ones keep to it. `counting` is
    off in them: counts and memory are the same in every process. A case that needs more than `memory_bytes`
    is named before it runs. `best` are the machine's fastest probes so far (integers, copy, product, in seconds).
    `answers` is the file in which the first visit keeps a sample of the definition's answers for the later ones; ""
    keeps none. `judged_apart`: outputs are handed to the judge, where the definition is one of opbench's own.
    For `linger_seconds` the process waits before it answers: what it has been left with may strike late.
    """

    panel: Panel
    settings: Settings
    memory_bytes: int
    calls_per_sample: dict[str, dict[str, int]] = {}
    counting: bool = True
    replica: int = 0
    best: tuple[float, float, float] | None = None
    linger_seconds: float = 0.0
    answers: str = ""
    judged_apart: bool = False


class CallFirst(msgspec.Struct, frozen=True, tag=True):
    """Time the first call of a case, in processes of its own."""

    case: Case


class Assignment(msgspec.Struct, frozen=True):
    """One piece of work. `extensions` are imported and threads set before it, once per process."""

    number: int
    work: Survey | Measure | CallFirst
    extensions: tuple[str, ...] = ()
    threads: int | None = None


class Began(msgspec.Struct, frozen=True, tag=True):
    """The process `pid` has taken the assignment."""

    number: int
    pid: int


class Surveyed(msgspec.Struct, frozen=True, tag=True):
    """The result of a `Survey`; `called_seconds` went into the yardsticks."""

    environment: Environment
    yardsticks: tuple[Yardstick, ...]
    called_seconds: float
    number: int = 0


class PanelMeasured(msgspec.Struct, frozen=True, tag=True):
    """The result of a `Measure`: one record per case. `worn`: the process is no longer fit for another panel."""

    records: tuple[Record, ...]
    called_seconds: float
    worn: bool = False
    probes: ProbedPanel | None = None
    best: tuple[float, float, float] | None = None
    number: int = 0


class CalledFirst(msgspec.Struct, frozen=True, tag=True):
    """The result of a `CallFirst`, and the seconds that it took."""

    first_call: FirstCall
    called_seconds: float
    number: int = 0


class Ended(msgspec.Struct, frozen=True, tag=True):
    """The fork server's report that the process `pid` is gone; `code` as subprocess has it: negative for a signal."""

    pid: int
    code: int


Message = Began | AskJudge | Surveyed | PanelMeasured | CalledFirst | Ended
