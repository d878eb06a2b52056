"""Cores: how many this process may use, how many of them are free, and whether its threads fit.

More threads than free cores is the commonest way to a wrong number: each parallel region then waits for the core that
somebody else has. What is allowed comes from the affinity and the cgroup's quota, what is taken from a short look at
how busy the allowed cores are while this process sleeps.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

from opbench.measure.disturbance import cgroup_file
from opbench.measure.pinning import is_sibling
from opbench.measure.system_files import line, text
from opbench.schema import CoreShare

LOOK_SECONDS = 0.3
# A core of which others use less than this is free: daemons that wake up now and then.
FREE_BELOW = 0.15


class CoreCount(NamedTuple):
    """`allowed` by affinity; the cgroup's `quota` (None: no limit); `busy` with others (None: not to be seen).

    `physical`: how many of the allowed ones share no core with another; None where the system doesn't say.
    """

    allowed: int
    quota: float | None
    busy: float | None
    governor: str = ""
    turbo: str = ""
    physical: int | None = None
    hyperthreads: str = ""

    @property
    def free(self) -> int:
        """Cores that threads may have to themselves, at least one."""
        most = min(float(self.allowed), math.inf if self.quota is None else self.quota)
        return max(1, math.floor(most - (self.busy or 0.0) + FREE_BELOW))

    @property
    def share(self) -> CoreShare:
        """What doesn't change from minute to minute."""
        return CoreShare(self.allowed, self.physical, self.quota, self.governor, self.hyperthreads)


def look(
    proc: Path = Path("/proc"),
    system: Path = Path("/sys"),
    sleep: Callable[[float], None] = time.sleep,
    affinity: Callable[[], set[int]] | None = None,
) -> CoreCount:
    """The cores now; takes `LOOK_SECONDS`. Raises nothing: what the machine doesn't say is None or empty."""
    allowed = affinity() if affinity else _affinity()
    before = _times(proc, allowed)
    sleep(LOOK_SECONDS)
    after = _times(proc, allowed)
    return CoreCount(
        allowed=len(allowed),
        quota=_quota(proc, system / "fs" / "cgroup"),
        busy=_busy(before, after),
        governor=line(system / f"devices/system/cpu/cpu{min(allowed)}/cpufreq/scaling_governor"),
        turbo=_turbo(system / "devices/system/cpu"),
        physical=_physical(allowed, system / "devices/system/cpu"),
        hyperthreads={"1": "on", "0": "off"}.get(line(system / "devices/system/cpu/smt/active"), ""),
    )


def sentence(cores: CoreCount, threads: int) -> str:
    """Threads against free cores in one line; "" where they fit and nothing else is amiss."""
    said = []
    if threads > cores.free:
        where = [f"{cores.allowed} allowed"]
        if cores.quota is not None:
            where.append(f"a quota of {cores.quota:.3g}")
        if cores.busy is not None and cores.busy > FREE_BELOW:
            where.append(f"{cores.busy:.1f} busy with other processes")
        said.append(
            f"{threads} threads on {cores.free} free core{'' if cores.free == 1 else 's'} ({', '.join(where)}): "
            "regions will wait for each other; use --threads auto, or another hour"
        )
    if cores.governor not in ("", "performance"):
        said.append(f"the clock's governor is {cores.governor!r}, not 'performance'")
    return "; ".join(said)


def fitting(asked: int | Literal["auto"] | None, say: Callable[[str], None], cores: CoreCount) -> int | None:
    """The number of threads that was asked for; what doesn't fit the free cores is said."""
    count = cores.free if asked == "auto" else asked
    if said := sentence(cores, count or _torch_s_own(cores)):
        say(f"note: {said}")
    return count


def _torch_s_own(cores: CoreCount) -> int:
    """How many threads torch takes by itself: as many as cores, unless OpenMP is told otherwise."""
    told = os.environ.get("OMP_NUM_THREADS", "")
    return int(told) if told.isascii() and told.isdigit() and int(told) > 0 else cores.allowed


def described(cores: CoreCount) -> Mapping[str, str]:
    """For the environment."""
    busy = "not to be seen" if cores.busy is None else f"{cores.busy:.2f}"
    quota = "" if cores.quota is None else f", quota {cores.quota:.3g}"
    found = {"cores": f"{cores.allowed} allowed{quota}, {busy} busy with others, {cores.free} free"}
    if cores.governor:
        found["governor"] = cores.governor
    if cores.turbo:
        found["turbo"] = cores.turbo
    if cores.hyperthreads:
        several = f", {cores.physical} of the allowed cores are physical" if cores.physical is not None else ""
        found["hyperthreads"] = cores.hyperthreads + (several if cores.hyperthreads == "on" else "")
    return found


def _affinity() -> set[int]:
    if hasattr(os, "sched_getaffinity"):
        return set(os.sched_getaffinity(0))
    return set(range(os.cpu_count() or 1))


def _times(proc: Path, allowed: set[int]) -> dict[int, tuple[int, int]]:
    """(ticks at work, ticks in all) of each allowed core."""
    found = {}
    for row in text(proc / "stat").splitlines():
        name, *fields = row.split()
        if name.startswith("cpu") and name[3:].isdigit() and int(name[3:]) in allowed and len(fields) >= 8:
            ticks = [int(value) for value in fields[:8]]
            found[int(name[3:])] = sum(ticks) - ticks[3] - ticks[4], sum(ticks)  # idle and iowait are no work
    return found


def _busy(before: Mapping[int, tuple[int, int]], after: Mapping[int, tuple[int, int]]) -> float | None:
    shares = []
    for core in before.keys() & after.keys():
        every = after[core][1] - before[core][1]
        if every > 0:
            shares.append((after[core][0] - before[core][0]) / every)
    return sum(shares) if shares else None


def _quota(proc: Path, cgroup: Path) -> float | None:
    """Cores' worth of time a period: `cpu.max` of cgroup v2, `cpu.cfs_quota_us` of v1."""
    second = cgroup_file(proc, cgroup, "cpu.max")
    if second is not None:
        quota, _, period = line(second).partition(" ")
        return int(quota) / int(period) if quota.isdigit() and period.isdigit() and int(period) else None
    first = cgroup_file(proc, cgroup, "cpu.cfs_quota_us")
    if first is None:
        return None
    quota, period = line(first), line(first.with_name("cpu.cfs_period_us"))
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() and int(period) else None


def _physical(allowed: set[int], cpu: Path) -> int | None:
    if not all(line(cpu / f"cpu{core}" / "topology" / "thread_siblings_list") for core in allowed):
        return None
    return sum(not is_sibling(core, allowed, cpu) for core in allowed)


def _turbo(cpu: Path) -> str:
    if no_turbo := line(cpu / "intel_pstate" / "no_turbo"):
        return "off" if no_turbo == "1" else "on"
    boost = line(cpu / "cpufreq" / "boost")
    return {"1": "on", "0": "off"}.get(boost, "")
