"""What a check without an operator asks for and finds: frozen data, for people, for `--json`, between processes."""

from __future__ import annotations

from typing import Literal

import msgspec

from opbench.conformance.findings import VerdictWord
from opbench.relations import Tier
from opbench.schema import Device

# kept, broken, or: unsupported (torch itself can't here), not-run (for the reason in `message`).
PromiseStatus = Literal["kept", "broken", "unsupported", "not-run"]
Shape = tuple[int, ...]


class PromiseRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to check. `shape` holds some of N, C, H and W; `only` and `skip` name promises.

    `compile` and `export` add what becomes of it under torch.compile, and exported by torch.export and to ONNX.
    """

    target: str
    arguments: tuple[str, ...] = ()
    shape: dict[str, int] = {}
    device: Device = "cpu"
    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    forward_only: bool = False
    seed: int = 0
    path: tuple[str, ...] = ()
    compile: bool = False
    export: bool = False


class Patience(msgspec.Struct, frozen=True):
    """How far a check goes, in seconds and bytes. `faults` deaths are enough.

    A call longer than `call` is ended: a small one that had `hang` seconds hangs, of any other nothing is judged.
    """

    call: float = 8.0
    hang: float = 8.0
    importing: float = 30.0
    trying: float = 18.0
    faults: int = 2
    memory_bytes: int = 6 << 30


class CodeLine(msgspec.Struct, frozen=True):
    """A line of the target's own file, counted from 1."""

    file: str
    line: int
    text: str


class PromiseResult(msgspec.Struct, frozen=True):
    """One promise. `shape` is the smallest input tried that shows it broken, `advice` what to do about it."""

    promise: str
    tier: Tier
    statement: str
    status: PromiseStatus
    message: str = ""
    shape: Shape | None = None
    where: CodeLine | None = None
    advice: str = ""
    seconds: float = 0.0


class Promises(msgspec.Struct, frozen=True):
    """The outcome of one check. `constructed` is the call that made the module, `shapes` the inputs it accepted."""

    request: PromiseRequest
    constructed: str
    shapes: tuple[Shape, ...]
    promises: tuple[PromiseResult, ...]
    notes: tuple[str, ...]
    seconds: float

    @property
    def wrong(self) -> tuple[PromiseResult, ...]:
        """The broken promises that no module may break."""
        return tuple(one for one in self.promises if one.status == "broken" and one.tier == "wrong")

    @property
    def fragile(self) -> tuple[PromiseResult, ...]:
        """The broken promises that leave it right, as far as it goes."""
        return tuple(one for one in self.promises if one.status == "broken" and one.tier == "fragile")

    @property
    def kept(self) -> tuple[PromiseResult, ...]:
        """The promises that were tried and hold."""
        return tuple(one for one in self.promises if one.status == "kept")

    @property
    def verdict(self) -> VerdictWord:
        """The answer in a word."""
        if self.wrong:
            return "wrong"
        if any(one.status == "not-run" and one.tier == "wrong" for one in self.promises) or not (
            self.kept or self.fragile
        ):
            return "not judged"
        return "fragile" if self.fragile else "right"

    @property
    def conformant(self) -> bool:
        """Whether nothing is wrong and something was tried."""
        return self.verdict in ("right", "fragile")


# --- What the checking process is told, and says, in order ----------------------------------------------------------


class PromiseJob(msgspec.Struct, frozen=True):
    """A request, as far as it is left to do: `done` names the promises that earlier processes tried."""

    request: PromiseRequest
    seconds: float
    done: tuple[str, ...] = ()


class PlannedPromise(msgspec.Struct, frozen=True):
    """A promise that will be tried."""

    name: str
    tier: Tier
    statement: str


class ModuleBuilt(msgspec.Struct, frozen=True, tag=True):
    """The module was constructed, and how; what it will be held to."""

    constructed: str
    notes: tuple[str, ...]
    plan: tuple[PlannedPromise, ...]


class ShapesAccepted(msgspec.Struct, frozen=True, tag=True):
    """The inputs that the module takes, smallest first."""

    shapes: tuple[Shape, ...]
    notes: tuple[str, ...]


class PromiseStarted(msgspec.Struct, frozen=True, tag=True):
    """A promise is being tried at this shape; if nothing more is heard, this is where the process was lost."""

    promise: str
    shape: Shape | None


class PromiseTried(msgspec.Struct, frozen=True, tag=True):
    """A promise was tried."""

    result: PromiseResult
    notes: tuple[str, ...] = ()


class PromisesTried(msgspec.Struct, frozen=True, tag=True):
    """Nothing is left to try."""


PromiseMessage = ModuleBuilt | ShapesAccepted | PromiseStarted | PromiseTried | PromisesTried
