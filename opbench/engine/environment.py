"""Where a run is taken: machine, GPU, versions, threads, commit. Everything a reader needs to distrust a number."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
from pathlib import Path

import torch

import opbench
from opbench.engine import gpu
from opbench.engine.git import GitError, git
from opbench.measure import cores, disturbance
from opbench.process.memory import total_bytes
from opbench.schema import Environment

# Whose commit an environment names, where opbench runs from its repository.
OWN_CHECKOUT = "opbench's own checkout"
_PACKAGES = ("torch", "triton", "numpy", "numba", "llvmlite", "scipy", "fvcore", "torchvision", "mmcv", "opbench")


def environment(seen: cores.CoreCount | None = None) -> Environment:
    """Reads the environment of this process. `seen`: its cores, where they have been looked at already."""
    commit, dirty, about = commit_here()
    seen = seen or cores.look()
    with contextlib.closing(disturbance.KernelCounters()) as kernel:
        watching = disturbance.described(kernel)
    return Environment(
        machine=platform.machine(),
        cpu=cpu_name(),
        cores=os.cpu_count() or 1,
        threads=torch.get_num_threads(),
        memory_bytes=total_bytes(),
        gpu=torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.release()}",
        commit=commit,
        dirty=dirty,
        versions={name: version for name in _PACKAGES if (version := installed_version(name))},
        details={
            "torch cpu capability": torch.backends.cpu.get_cpu_capability(),
            "affinity": ",".join(map(str, sorted(os.sched_getaffinity(0))))
            if hasattr(os, "sched_getaffinity")
            else "not reported on this platform",
            "load before": f"{os.getloadavg()[0]:.2f}" if hasattr(os, "getloadavg") else "not reported",
            "commit of": about,
            **cores.described(seen),
            **watching,
            **_gpu_details(),
        },
        share=seen.share,
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


def cpu_name() -> str:
    """The processor, as the system names it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def installed_version(name: str) -> str | None:
    """The version of an installed package, None of one that is not."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def commit_here() -> tuple[str | None, bool | None, str]:
    """(commit, dirty flag, whose they are or why there are none).

    Of opbench's own checkout where it runs from one. Installed by pip it is no part of any repository, wherever the
    environment it is installed in may be: then it is the repository that the command runs in.
    """
    root = Path(opbench.__file__).resolve().parents[1]
    own = (root / ".git").exists()
    folder = root if own else Path.cwd()
    try:
        commit = git(folder, "rev-parse", "HEAD")
        dirty = bool(git(folder, "status", "--porcelain", "--untracked-files=no"))
        shallow = git(folder, "rev-parse", "--is-shallow-repository") == "true"
    except (GitError, OSError) as error:
        return None, None, f"none recorded: {error}"
    whose = OWN_CHECKOUT if own else "the repository that the command ran in"
    return commit, dirty, f"{whose}, a shallow clone: commits before it are not known" if shallow else whose
