"""What a suite holds: workloads with the source of their dimensions, and what contenders are meant to reach on them."""

from __future__ import annotations

from typing import Literal

import msgspec

from opbench.schema.words import Device, DType, MemoryFormat, Mode, Setting


class Workload(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Named dimensions of a task, with the source they come from; `settings` are operators' own, by operator.

    `across_runtimes`: a panel for each operator, in torch and the other `runtimes`, and none of rivals. `unless` is a
    task that this one stands in for: nothing is planned where a panel of it is.
    """

    task: str
    name: str
    source: str
    dims: dict[str, int]
    contenders: tuple[str, ...] = ()
    dtypes: tuple[DType, ...] = ()
    devices: tuple[Device, ...] = ()
    modes: tuple[Mode, ...] = ()
    spreads: tuple[float, ...] = ()
    runtimes: tuple[str, ...] = ("torch",)
    memory_formats: tuple[MemoryFormat, ...] = ("contiguous",)
    across_runtimes: bool = False
    settings: dict[str, dict[str, Setting]] = {}
    unless: str = ""


Quantity = Literal["speed-up", "slow-down", "roofline", "memory", "first-call-cold", "first-call-cached"]


class Target(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a contender is meant to reach on a workload: `at_least` or `at_most`.

    An operator without brackets (`carafe`) is its fastest implementation there. The panel is the one that is executed
    by `runtime`; `across_runtimes` means that of one operator in several runtimes, and `against` its row in torch.

    speed-up: latency of `against` (else of the baseline) over the contender's. slow-down: the same the other way up.
    roofline: latency over the least time that the machine's yardsticks allow. memory: inputs, parameters and peak over
    the closed form's least bytes.
    first-call-*: seconds of the first call in a fresh process, nothing compiled yet, or from the compiler's cache.
    """

    quantity: Quantity
    task: str
    workload: str
    contender: str
    against: str = ""
    mode: Mode = "inference"
    dtype: DType = "float32"
    device: Device = "cpu"
    runtime: str = "torch"
    across_runtimes: bool = False
    at_least: float | None = None
    at_most: float | None = None


class Suite(msgspec.Struct, frozen=True):
    """A named list of workloads: what one run measures, how precisely unless told otherwise, and what is hoped for.

    `least_rounds` are measured however long they take: an interval needs a few, even of a very slow baseline.
    `replicas`: visits of each panel; None leaves it to how many panels there are.
    """

    name: str
    title: str
    workloads: tuple[Workload, ...]
    precision: float = 0.01
    budget_seconds: float = 6.0
    least_rounds: int = 1
    replicas: int | None = None
    targets: tuple[Target, ...] = ()
