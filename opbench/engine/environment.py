"""Where a run is taken: machine, GPU, versions, threads, commit. Everything a reader needs to distrust a number."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

import torch

from opbench.engine import gpu
from opbench.measure import cores, disturbance
from opbench.process.memory import total_bytes
from opbench.schema import Environment

_PACKAGES = ("torch", "triton", "numpy", "numba", "llvmlite", "scipy", "fvcore", "torchvision", "mmcv", "opbench")


def environment(seen: cores.CoreCount | None = None) -> Environment:
    """Reads the environment of this process. `seen`: its cores, where they have been looked at already."""
    commit, dirty = _git()
    with contextlib.closing(disturbance.KernelCounters()) as kernel:
        watching = disturbance.described(kernel)
    return Environment(
        machine=platform.machine(),
        cpu=_cpu_name(),
        cores=os.cpu_count() or 1,
        threads=torch.get_num_threads(),
        memory_bytes=total_bytes(),
        gpu=torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.release()}",
        commit=commit,
        dirty=dirty,
        versions={name: version for name in _PACKAGES if (version := _version(name))},
        details={
            "torch cpu capability": torch.backends.cpu.get_cpu_capability(),
            "affinity": ",".join(map(str, sorted(os.sched_getaffinity(0))))
            if hasattr(os, "sched_getaffinity")
            else "not reported on this platform",
            "load before": f"{os.getloadavg()[0]:.2f}" if hasattr(os, "getloadavg") else "not reported",
            **cores.described(seen or cores.look()),
            **watching,
            **_gpu_details(),
        },
    )


def _gpu_details() -> dict[str, str]:
    if not torch.cuda.is_available():
        return {"gpu": "none: not measured on a GPU"}
    properties = torch.cuda.get_device_properties(0)
    return {
        "compute capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": str(properties.multi_processor_count),
        "l2 bytes": str(properties.L2_cache_size),
        "gpu memory bytes": str(properties.total_memory),
        "cuda": str(torch.version.cuda),
        "tf32 in convolutions": str(torch.backends.cudnn.allow_tf32),
        "cudnn benchmark mode": str(torch.backends.cudnn.benchmark),
        **gpu.state(f"GPU-{properties.uuid}"),
    }


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git() -> tuple[str | None, bool | None]:
    """Commit and dirty flag of the checkout opbench runs from; None where it isn't one."""
    folder = Path(__file__).parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        return git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.SubprocessError):
        return None, None
