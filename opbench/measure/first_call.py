"""The first call of a case, which compiles: measured in fresh processes, with empty caches and with filled ones.

A process of its own per sample, because nothing compiled can be forgotten in this one. Compilers keep their caches
under folders that the environment names, so a child is given empty ones; its successor finds them filled. Building
the case, importing torch and opbench are not part of the call.
"""

from __future__ import annotations

import os
import site
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

import msgspec
import torch

from opbench import registry
from opbench.build import build
from opbench.schema import Case, FirstCall
from opbench.verify.gate import call

SAMPLES = 3
LIMIT_SECONDS = 300.0
# Where caches lie: of the CPU kernels on each platform, of inductor, of triton.
_CACHES = ("HOME", "XDG_CACHE_HOME", "LOCALAPPDATA", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")


class _Job(msgspec.Struct):
    case: Case
    threads: int
    extensions: tuple[str, ...]


def measure_first_call(case: Case, extensions: Sequence[str] = ()) -> FirstCall:
    """Times the first call of the case in `SAMPLES` pairs of processes. A child that fails is named in the note."""
    job = msgspec.json.encode(_Job(case, torch.get_num_threads(), tuple(extensions)))
    cold: list[float] = []
    cached: list[float] = []
    try:
        for _ in range(SAMPLES):
            with tempfile.TemporaryDirectory() as folder:
                cold.append(_in_fresh_process(job, folder))
                cached.append(_in_fresh_process(job, folder))
    except subprocess.TimeoutExpired:
        return FirstCall(case.id, tuple(cold), tuple(cached), f"took longer than {LIMIT_SECONDS:.0f} s")
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip().splitlines() or [f"exit code {error.returncode}"])[-1]
        return FirstCall(case.id, tuple(cold), tuple(cached), last)
    return FirstCall(case.id, tuple(cold), tuple(cached))


def _in_fresh_process(job: bytes, folder: str) -> float:
    child = subprocess.run(
        [sys.executable, "-m", "opbench.measure.first_call"],
        input=job.decode(),
        # Packages installed for the user alone are found from HOME, too.
        env=os.environ | dict.fromkeys(_CACHES, folder) | {"PYTHONUSERBASE": site.getuserbase()},
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=True,
    )
    # A contender may print: the figure is the last line.
    return float(child.stdout.splitlines()[-1])


def _child(job: _Job) -> float:
    torch.set_num_threads(job.threads)
    registry.load()
    for path in job.extensions:
        registry.load_file(path)
    built = build(job.case)
    begin = time.perf_counter()
    call(built)
    if job.case.device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begin


if __name__ == "__main__":
    print(_child(msgspec.json.decode(sys.stdin.read(), type=_Job)))
