"""What a conformance check asks for and finds: frozen data, the same for people, for `--json` and between processes."""

from __future__ import annotations

import math
from typing import Any, Literal

import msgspec

from opbench.relations import Tier
from opbench.schema import Device, DType

# holds, or: unsupported (the target refused every example), silent (the fixed options leave nothing to draw),
# fails (a counterexample), hangs and died (the process had to be replaced), not-run (for the reason in `message`).
Status = Literal["holds", "unsupported", "silent", "fails", "hangs", "died", "not-run"]
BAD: frozenset[Status] = frozenset({"fails", "hangs", "died"})
# right, fragile: exit code 0; wrong: 1; not judged: 2.
VerdictWord = Literal["right", "fragile", "wrong", "not judged"]
# A call of more elements, of sizes that a person gave, is judged by its first and its last image alone, so that the
# definition needs neither long nor much; and it may take so many seconds.
LARGE = 1 << 22
LARGE_CALL_SECONDS = 180.0
# So long the checker's own part may take between two calls: its start, the definition.
OWN_SECONDS = 180.0
# The relations of `--compile` and `--export`, and so long one call may take there: minutes are usual.
DEPLOYED = frozenset(("torch-compile", "torch-export", "onnx"))
DEPLOYED_SECONDS = 600.0
# Of a call of no more elements a limit that is reached says that it hangs. What loops in Python over more may be right.
SMALL = 1 << 14


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to check. `only` names properties; empty means all of them. `skip` names those the target doesn't promise,
    `forward_only` leaves out all that ask for gradients.

    `shape` is a call's own sizes, as in N=8,C=256,H=80,W=80, tried before all others. `path` are folders from which the
    target may import. `first` stops at the first failure: of a statement about the function, unless `strict` counts
    what is fragile as well. `compile` and `export` also try the
    target under torch.compile, and exported by torch.export and to ONNX.

    `properties` replaces the operator's own: "package.module:NAME" of a tuple of `Relation`.
    """

    target: str
    operator: str
    device: Device = "cpu"
    dtypes: tuple[DType, ...] = ()
    fix: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    forward_only: bool = False
    seed: int = 0
    quick: bool = False
    properties: str = ""
    shape: str = ""
    path: tuple[str, ...] = ()
    first: bool = False
    strict: bool = False
    compile: bool = False
    export: bool = False


class Limits(msgspec.Struct, frozen=True):
    """How far a check goes. A call that takes longer than `call_seconds` is ended: a small one that had `hang_seconds`
    hangs, of any other nothing is judged. After `faults` deaths it is enough.

    `examples` are those of one property in the first dtype, `further_examples` in every other. A walk through sizes
    has `size_seconds` beside the `search_seconds`, most of them in the first dtype; `thin` leaves out rungs there too.
    """

    examples: int
    further_examples: int
    search_seconds: float
    shrink_seconds: float
    call_seconds: float
    import_seconds: float
    faults: int
    memory_bytes: int = 4 << 30
    size_seconds: float = 1.0
    thin: bool = True
    hang_seconds: float = 12.0


QUICK = Limits(
    examples=12,
    further_examples=4,
    search_seconds=10.0,
    shrink_seconds=1.5,
    call_seconds=12.0,
    import_seconds=30.0,
    faults=1,
    size_seconds=5.0,
)
FULL = Limits(
    examples=50,
    further_examples=15,
    search_seconds=85.0,
    shrink_seconds=8.0,
    call_seconds=20.0,
    import_seconds=120.0,
    faults=3,
    size_seconds=34.0,
    thin=False,
)


class Values(msgspec.Struct, frozen=True):
    """A tensor of a counterexample. `values` is None where it is too large to read; NaN and infinities are strings."""

    shape: tuple[int, ...]
    dtype: str
    stride: tuple[int, ...]
    values: Any = None


class Counterexample(msgspec.Struct, frozen=True):
    """One call of the target: `target(**tensors, **options)`."""

    tensors: dict[str, Values]
    options: dict[str, Any]

    @property
    def elements(self) -> int:
        """Of all its inputs."""
        return sum(math.prod(tensor.shape) for tensor in self.tensors.values())


class Refusal(msgspec.Struct, frozen=True):
    """Options at which the target said that it can't, and what it said."""

    options: dict[str, Any]
    message: str


class Attempted(msgspec.Struct, frozen=True):
    """One way to find the operator in a target, and what it came to. By the one that `fits` the target is judged."""

    name: str
    said: str
    fits: bool = False


class Result(msgspec.Struct, frozen=True):
    """One property in one dtype. `examples` were accepted by the target; `seconds` is wall time.

    `worst_ratio` is the largest |error| / bound on any of them; None where the property compares exactly, or nothing.
    Of one that holds, `message` says how far a walk through sizes got. `tier` is what its failure makes of the target,
    and `cause` a sentence that it shares with others that fail for the same reason; "" where none is known.
    """

    property: str
    statement: str
    dtype: DType
    status: Status
    examples: int = 0
    message: str = ""
    counterexample: Counterexample | None = None
    seconds: float = 0.0
    worst_ratio: float | None = None
    tier: Tier = "wrong"
    cause: str = ""
    cut: int = 0  # examples that the time did not suffice for


class Unsupported(msgspec.Struct, frozen=True):
    """Option values that the target refused whenever it met them: no fault, but not checked either."""

    options: dict[str, list[Any]]
    dtypes: list[DType]
    message: str


class Conformance(msgspec.Struct, frozen=True):
    """The outcome of one check. `judged_as` names what the target was held to, such as "carafe (function)".

    `attempts` are the ways that were tried to find the operator in a module, in order, by name first.
    """

    request: Request
    judged_as: str
    results: tuple[Result, ...]
    unsupported: tuple[Unsupported, ...]
    refused: str
    notes: tuple[str, ...]
    seconds: float
    attempts: tuple[Attempted, ...] = ()

    @property
    def inside(self) -> str:
        """What was found in a module that does not fit by name, in a sentence; "" for anything else."""
        return next((one.said for one in self.attempts[1:] if one.fits), "")

    @property
    def relations(self) -> tuple[str, ...]:
        """The names of the properties, in order."""
        return tuple(dict.fromkeys(result.property for result in self.results))

    @property
    def failing(self) -> tuple[str, ...]:
        """The names of the properties that do not hold, in order."""
        return tuple(dict.fromkeys(result.property for result in self.results if result.status in BAD))

    def broken(self, tier: Tier) -> tuple[str, ...]:
        """The names of the properties that do not hold and make the target that, in order; wrong beats fragile."""
        tiers = {(result.property, result.tier) for result in self.results if result.status in BAD}
        return tuple(
            name
            for name in self.failing
            if (name, tier) in tiers and not (tier == "fragile" and (name, "wrong") in tiers)
        )

    @property
    def wrong(self) -> tuple[str, ...]:
        """The names of the properties that don't hold and say that another function is computed."""
        return self.broken("wrong")

    @property
    def fragile(self) -> tuple[str, ...]:
        """The names of the properties that don't hold, though what is computed on ordinary inputs is right."""
        return self.broken("fragile")

    @property
    def verdict(self) -> VerdictWord:
        """The answer in a word."""
        if self.wrong:
            return "wrong"
        stopped = self.request.first and self.fragile
        if self.refused or (self.left_out and not stopped) or not (self.holding or self.fragile):
            return "not judged"
        return "fragile" if self.fragile else "right"

    @property
    def left_out(self) -> tuple[str, ...]:
        """The names of the properties that were tried in no dtype because of what happened before, in order."""
        tried = {result.property for result in self.results if result.status != "not-run"}
        return tuple(name for name in self.relations if name not in tried)

    @property
    def holding(self) -> tuple[str, ...]:
        """The names of the properties that hold wherever they could be tried, and could be somewhere."""
        held = {result.property for result in self.results if result.status == "holds"}
        return tuple(name for name in self.relations if name in held and name not in self.failing)

    @property
    def examples(self) -> int:
        """How many calls were judged."""
        return sum(result.examples for result in self.results)

    @property
    def worst_ratios(self) -> dict[str, float | None]:
        """The largest |error| / bound of each property in any dtype; None where it compares exactly, or nothing."""
        found: dict[str, float | None] = dict.fromkeys(self.relations)
        for result in self.results:
            if result.worst_ratio is not None:
                found[result.property] = max(found[result.property] or 0.0, result.worst_ratio)
        return found

    @property
    def worst_ratio(self) -> float | None:
        """The largest |error| / bound of all properties; None where nothing was compared within a bound."""
        return max((ratio for ratio in self.worst_ratios.values() if ratio is not None), default=None)

    @property
    def conformant(self) -> bool:
        """Whether something was checked and nothing was wrong."""
        return self.verdict in ("right", "fragile")


def plain(value: Any) -> Any:
    """Builtins in which what JSON has no number for is a string: "NaN", "Infinity", "-Infinity"."""
    match value:
        case dict():
            return {key: plain(item) for key, item in value.items()}
        case list() | tuple():
            return [plain(item) for item in value]
        case float() if not math.isfinite(value):
            return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
        case _:
            return value
