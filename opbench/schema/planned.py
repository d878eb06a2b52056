"""What a run is going to measure: cases, the panels they are measured in, and what was planned away."""

from __future__ import annotations

import msgspec

from opbench.schema.suites import Target
from opbench.schema.words import Device, DType, Mode, Setting

DEFAULT_RUNTIME = "torch"
DEFAULT_MEMORY_FORMAT = "contiguous"


def spread_part(spread: float) -> str:
    """An offset spread as it stands in a case's id."""
    return f"spread={spread:g}px"


def runtime_part(runtime: str) -> str:
    """What executes a case, as it stands in a contender of a panel of several runtimes."""
    return f"runtime={runtime}"


# gc=False: it can't be part of a cycle, and histories hold hundreds of thousands.
class Case(msgspec.Struct, frozen=True, gc=False):
    """One contender on one workload in one dtype, device and mode; `id` is stable across runs and machines.

    `settings` are all of the operator's own. `variant` is what tells the contender from the same one as it is by
    default: settings that were asked for, and its own offset spread in a task that has none ("spread=2px").
    `across_runtimes`: its panel holds one operator in several runtimes, so that its runtime is part of the contender.
    """

    task: str
    workload: str
    operator: str
    implementation: str
    dims: dict[str, int]
    dtype: DType
    device: Device
    mode: Mode
    spread: float | None = None
    seed: int = 0
    settings: dict[str, Setting] = {}
    variant: tuple[str, ...] = ()
    runtime: str = DEFAULT_RUNTIME
    memory_format: str = DEFAULT_MEMORY_FORMAT
    across_runtimes: bool = False

    @property
    def named(self) -> str:
        """`operator[implementation]`, whatever its settings, spread and runtime are."""
        return f"{self.operator}[{self.implementation}]"

    @property
    def contender(self) -> str:
        """`operator[implementation]` and its variant: `carafe[shift-add]`, `dysample[cpu]/spread=2px`."""
        away = self.across_runtimes and self.runtime != DEFAULT_RUNTIME
        executed = (runtime_part(self.runtime),) if away else ()
        return "/".join((self.named, *self.variant, *executed))

    @property
    def unusual_format(self) -> str:
        """The memory format where it is not the default one, else ""."""
        return "" if self.memory_format == DEFAULT_MEMORY_FORMAT else self.memory_format

    @property
    def executed(self) -> str:
        """In what its panel is executed, where that is not torch in its default memory format: "onnxruntime"."""
        runtime = "across runtimes" if self.across_runtimes else self.runtime
        return ", ".join(filter(None, ("" if runtime == DEFAULT_RUNTIME else runtime, self.unusual_format)))

    @property
    def panel_id(self) -> str:
        """What the case shares with everything it is measured against."""
        parts = [self.task, self.workload, self.dtype, self.device, self.mode]
        if self.across_runtimes:
            parts.append(f"across={self.operator}")
        elif self.runtime != DEFAULT_RUNTIME:
            parts.append(self.runtime)
        if self.unusual_format:
            parts.append(self.unusual_format)
        if self.spread is not None and spread_part(self.spread) not in self.variant:
            parts.append(spread_part(self.spread))
        if self.seed:
            parts.append(f"seed={self.seed}")
        return "/".join(parts)

    @property
    def id(self) -> str:
        """The one stable name of the case."""
        return f"{self.panel_id}/{self.contender}"


class Panel(msgspec.Struct, frozen=True, gc=False):
    """All cases that differ only in contender: measured together, interleaved, in one process. Baseline first."""

    id: str
    source: str
    baseline: str
    cases: tuple[Case, ...]

    @property
    def sizes(self) -> dict[str, Setting]:
        """The dimensions of its cases, and the operators' own settings that no two of them have differently."""
        found: dict[str, Setting] = dict(self.cases[0].dims)
        named = [item for case in self.cases for item in case.settings.items()]
        values: dict[str, set[Setting]] = {}
        for name, value in named:
            values.setdefault(name, set()).add(value)
        return {**found, **{name: value for name, value in named if len(values[name]) == 1}}


class Skipped(msgspec.Struct, frozen=True, gc=False):
    """A case that was planned away, and why."""

    case: str
    reason: str

    @property
    def contender(self) -> str:
        """The contender, its variant included: from the last part of the id that names an implementation."""
        parts = self.case.split("/")
        named = max((place for place, part in enumerate(parts) if part.endswith("]")), default=len(parts) - 1)
        return "/".join(parts[named:])

    @property
    def panel(self) -> str:
        """The id of the panel."""
        return self.case[: -len(self.contender)].rstrip("/")


class Plan(msgspec.Struct, frozen=True):
    """Which cases a run will measure, and which it can't."""

    suite: str
    panels: tuple[Panel, ...]
    skipped: tuple[Skipped, ...]
    targets: tuple[Target, ...] = ()
