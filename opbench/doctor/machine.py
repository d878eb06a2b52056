"""The machine: what decides whether a time that is taken on it now can be trusted."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from opbench.doctor.nouns import DoctorLine, State
from opbench.errors import said
from opbench.measure import disturbance
from opbench.measure.cores import FREE_BELOW, CoreCount, look
from opbench.plural import counted

_NO_TURBO = "echo 1 | sudo tee /sys/devices/system/cpu/intel_pstate/no_turbo (AMD: 0 into cpufreq/boost)"


def machine() -> Iterator[DoctorLine]:
    """Load and cores, clocks, limits, what of disturbance can be watched, the cache folder, the GPU."""
    cores = look()
    for read in (_load, _free_cores, _affinity, _governor, _turbo, _cgroup):
        yield _guarded(read.__name__.strip("_").replace("_", " "), lambda read=read: read(cores))  # type: ignore[misc]
    yield _guarded("memory", _memory)
    yield _guarded("disturbance", _disturbance)
    yield _guarded("kernel cache", _cache)
    yield _guarded("GPU", _gpu)


def _guarded(name: str, read: Callable[[], DoctorLine]) -> DoctorLine:
    try:
        return read()
    except Exception as error:
        return _line(name, "note", f"can't be told: {said(error)}")


def _line(name: str, state: State, found: str, cure: str = "") -> DoctorLine:
    return DoctorLine("machine", name, state, found, cure=cure)


def _load(cores: CoreCount) -> DoctorLine:
    if not hasattr(os, "getloadavg"):
        return _line("load", "note", "this system doesn't tell it")
    load = os.getloadavg()[0]
    calm = load < cores.allowed / 2
    return _line(
        "load",
        "fine" if calm else "note",
        f"{load:.2f} over the last minute, on {counted(cores.allowed, 'core')}",
        "" if calm else "measure when the machine is idle: `uptime` tells when",
    )


def _free_cores(cores: CoreCount) -> DoctorLine:
    busy = "how busy they are can't be seen" if cores.busy is None else f"{cores.busy:.1f} busy with other processes"
    fits = cores.busy is not None and cores.busy <= FREE_BELOW
    found = f"{cores.free} of {cores.allowed} free now ({busy})"
    return _line("free cores", "fine" if fits else "note", found, "" if fits else "--threads auto takes the free ones")


def _affinity(cores: CoreCount) -> DoctorLine:
    every = os.cpu_count() or cores.allowed
    all_of_them = cores.allowed >= every
    found = f"this process may use {'all' if all_of_them else f'{cores.allowed} of'} {counted(every, 'core')}"
    if cores.hyperthreads == "on" and cores.physical is not None:
        found += f", {cores.physical} of them physical"
    cure = "" if all_of_them else "deliberate (taskset, a container)? else start it without"
    return _line("affinity", "fine" if all_of_them else "note", found, cure)


def _governor(cores: CoreCount) -> DoctorLine:
    if not cores.governor:
        return _line("governor", "note", "not shown here, as in most virtual machines: clocks may vary unseen")
    fine = cores.governor == "performance"
    cure = "" if fine else "sudo cpupower frequency-set -g performance"
    return _line("governor", "fine" if fine else "note", f"{cores.governor!r}", cure)


def _turbo(cores: CoreCount) -> DoctorLine:
    if not cores.turbo:
        return _line("turbo", "note", "not shown here")
    fine = cores.turbo == "off"
    found = "off" if fine else "on: the clock falls as the processor warms up"
    return _line("turbo", "fine" if fine else "note", found, "" if fine else _NO_TURBO)


def _cgroup(cores: CoreCount) -> DoctorLine:
    if cores.quota is None:
        return _line("cgroup", "fine", "no CPU quota")
    cure = "raise the container's CPU limit, or --threads of no more than that"
    return _line("cgroup", "note", f"a quota of {cores.quota:.3g} cores: threads beyond it are halted", cure)


def _memory() -> DoctorLine:
    from opbench.process.memory import free_bytes, total_bytes

    free = free_bytes() / 2**30
    cure = "" if free >= 2 else "end what holds it; a run kills what grows beyond nine tenths of it"
    return _line("memory", "fine" if free >= 2 else "note", f"{free:.1f} of {total_bytes() / 2**30:.1f} GiB free", cure)


def _disturbance() -> DoctorLine:
    with contextlib.closing(disturbance.KernelCounters()) as kernel:
        found = disturbance.described(kernel)["disturbance"]
    words = {
        "schedstat": "each thread's waits for a core, by the kernel's own count (schedstat)",
        "switches": "context switches alone: waits for a core are estimated from them",
    }
    source, _, rest = found.partition(";")
    fine = source == "schedstat"
    cure = "" if fine else "a kernel with CONFIG_SCHED_INFO, and /proc readable in the container"
    return _line(
        "disturbance",
        "fine" if fine else "note",
        f"watched by {words.get(source, source)}" + (f";{rest}" if rest else ""),
        cure,
    )


def _cache() -> DoctorLine:
    from opbench.kernels.cpu.jit import cache_folder

    folder = cache_folder()
    if folder is None:
        return _line("kernel cache", "note", "this user has no home: kernels are compiled anew in each process")
    if not folder.exists():
        above = next(one for one in (folder, *folder.parents) if one.exists())
        return _writable(above, f"{folder} (made on the first run)")
    count = len(list(folder.glob("*.o")))
    return _writable(folder, f"{folder}, {counted(count, 'kernel')}")


def _writable(folder: Path, found: str) -> DoctorLine:
    if os.access(folder, os.W_OK):
        return _line("kernel cache", "fine", found)
    cure = f"give it to yourself: sudo chown -R $USER {folder}, or set XDG_CACHE_HOME"
    return _line("kernel cache", "note", f"{found}: can't be written, so each process compiles anew", cure)


def _gpu() -> DoctorLine:
    import torch

    if torch.cuda.is_available():
        return _line("GPU", "fine", torch.cuda.get_device_name())
    built = torch.version.cuda
    if built is None:
        return _line("GPU", "note", "none that this torch, built for the CPU alone, could use")
    return _line("GPU", "note", f"torch, built for CUDA {built}, sees none; where there is one, `nvidia-smi` says why")
