"""What a process could have of its machine's cores, which times depend on as much as on the cores themselves."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec


class CoreShare(msgspec.Struct, frozen=True):
    """`allowed` by affinity and cpuset: how many, as the cores of a machine are alike, and not which.

    `physical` of them share no core with another allowed one; None where the system doesn't say. `quota` is the
    control group's, in cores' worth of time; None: no limit. `governor` is the clock's, `hyperthreads` "on" or "off";
    "" where the system doesn't say.
    """

    allowed: int
    physical: int | None = None
    quota: float | None = None
    governor: str = ""
    hyperthreads: str = ""

    def limited(self, cores: int) -> bool:
        """Whether it is less than a machine of so many cores."""
        return self.allowed < cores or (self.quota is not None and self.quota < cores)


def shares_differ(before: CoreShare | None, after: CoreShare | None) -> Iterator[str]:
    """In what two shares differ, each as "allowed cores 1 -> 2"; what one of them doesn't say is no difference."""
    if before is None or after is None:
        return
    if before.allowed != after.allowed:
        yield f"allowed cores {before.allowed} -> {after.allowed}"
    elif before.physical and after.physical and before.physical != after.physical:
        yield f"physical cores among the {before.allowed} allowed {before.physical} -> {after.physical}"
    if before.quota != after.quota:
        yield f"quota {_cores(before.quota)} -> {_cores(after.quota)}"
    for name, old, new in (
        ("the clock's governor", before.governor, after.governor),
        ("hyperthreads", before.hyperthreads, after.hyperthreads),
    ):
        if old and new and old != new:
            yield f"{name} {old} -> {new}"


def _cores(quota: float | None) -> str:
    return "none" if quota is None else f"{quota:.3g} cores"
