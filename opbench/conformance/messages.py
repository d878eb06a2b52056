"""What the process that tries a target is told, and what it says, in order."""

from __future__ import annotations

from typing import Any

import msgspec

from opbench.conformance.findings import Attempted, Counterexample, Limits, Refusal, Request, Result
from opbench.relations import Tier
from opbench.schema import DType

Step = tuple[str, DType]


class Job(msgspec.Struct, frozen=True):
    """A request, as far as it is left to do: `done` are the steps (property, dtype) that earlier processes took."""

    request: Request
    limits: Limits
    seconds: float
    done: tuple[Step, ...] = ()


class TargetNext(msgspec.Struct, frozen=True, tag=True):
    """The target is about to be imported: what took time until now was the checker's own start."""


class TargetImported(msgspec.Struct, frozen=True, tag=True):
    """The target is imported; the operator is looked for in it."""


class Planned(msgspec.Struct, frozen=True, tag=True):
    """Every (property, dtype) that will be tried, and what the target is held to. No step: it can't be judged."""

    judged_as: str
    steps: tuple[Step, ...]
    statements: dict[str, str]
    tiers: dict[str, Tier]
    notes: tuple[str, ...]
    attempts: tuple[Attempted, ...] = ()


class Started(msgspec.Struct, frozen=True, tag=True):
    """A property is being tried."""

    property: str
    dtype: DType


class Calling(msgspec.Struct, frozen=True, tag=True):
    """The target is about to be called; if nothing more is heard, this is the call that did it."""

    call: Counterexample


class Returned(msgspec.Struct, frozen=True, tag=True):
    """No call of the target is outstanding: what takes time from here on is the definition."""


class Tried(msgspec.Struct, frozen=True, tag=True):
    """A property was tried. `accepted` are the different options at which the target answered."""

    result: Result
    accepted: tuple[dict[str, Any], ...]
    refusals: tuple[Refusal, ...]


class Finished(msgspec.Struct, frozen=True, tag=True):
    """Nothing is left to try."""


Message = TargetNext | TargetImported | Planned | Started | Calling | Returned | Tried | Finished
