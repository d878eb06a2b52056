"""What two environments differ in, and which channels of a comparison don't survive it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import msgspec

from opbench.analyse.compare.nouns import OPERATORS
from opbench.quantities import exact
from opbench.schema import Environment, shares_differ

Kind = Literal["machine", "threads", "versions"]
KINDS: tuple[Kind, ...] = ("machine", "threads", "versions")

# What is compared all the same: parameters and MACs are the same everywhere. What torch allocates and dispatches is
# the same on every machine, but of one version of it.
_ALLOCATED = tuple(name for of, name in exact("compare") if of.allocated)
_DISPATCHED = (*(name for of, name in exact("compare") if of.dispatched), OPERATORS)
_LEAVES_OUT: dict[Kind, tuple[str, ...]] = {
    "machine": ("time",),
    "threads": ("time",),
    "versions": ("time", *_ALLOCATED, *_DISPATCHED),
}
# The version under comparison is no difference of the surroundings.
_SUBJECT = "opbench"


class Difference(msgspec.Struct, frozen=True):
    """One way in which two environments differ: what, as "before -> after", and the channels it takes out."""

    kind: Kind
    what: tuple[str, ...]
    leaves_out: tuple[str, ...]

    def said(self, overruled: bool) -> str:
        """The sentence for the report."""
        differs = f"{self.kind} differs ({', '.join(self.what)})"
        if overruled:
            return f"{differs}; compared all the same, as asked: a change may come from that"
        return f"{differs}; left out: {', '.join(self.leaves_out)} (`--across {self.kind}` compares all the same)"


def differences(base: Environment, head: Environment) -> tuple[Difference, ...]:
    """Every difference that matters, in the order of `KINDS`."""
    found: dict[Kind, list[str]] = {
        "machine": list(_machine(base, head)),
        "threads": [f"{base.threads} -> {head.threads}"] if base.threads != head.threads else [],
        "versions": list(_versions(base, head)),
    }
    return tuple(Difference(kind, tuple(what), _leaves_out(kind, base, head)) for kind, what in found.items() if what)


def _leaves_out(kind: Kind, base: Environment, head: Environment) -> tuple[str, ...]:
    """A caching allocator's peak depends on the GPU as well: the workspaces that libraries choose for it."""
    extra = _ALLOCATED if kind == "machine" and base.gpu != head.gpu and base.gpu and head.gpu else ()
    return (*_LEAVES_OUT[kind], *extra)


def _machine(base: Environment, head: Environment) -> Iterator[str]:
    for name in ("machine", "cpu", "cores", "gpu"):
        before, after = getattr(base, name), getattr(head, name)
        if before != after:
            yield f"{name} {before} -> {after}"
    yield from shares_differ(base.share, head.share)


def _versions(base: Environment, head: Environment) -> Iterator[str]:
    before = {**base.versions, "python": base.python}
    after = {**head.versions, "python": head.python}
    for name in sorted({*before, *after} - {_SUBJECT}):
        if before.get(name) != after.get(name):
            yield f"{name} {before.get(name, 'absent')} -> {after.get(name, 'absent')}"
