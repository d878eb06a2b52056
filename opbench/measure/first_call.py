"""The first call of a case, which compiles: measured in fresh processes, with empty caches and with filled ones.

A process of its own per sample, because nothing compiled can be forgotten in this one. Compilers keep their caches
under folders that the environment names, so a child is given empty ones; its successor finds them filled. Building
the case, importing torch and opbench are not part of the call.
"""

from __future__ import annotations

import os
import site
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence

import msgspec
import torch

from opbench import registry
from opbench.build import build
from opbench.process.channel import serve
from opbench.process.child import Child
from opbench.process.death import Death
from opbench.schema import Case, FirstCall
from opbench.verify.gate import call

SAMPLES = 3
_WORKER = "opbench.measure.first_call"
LIMIT_SECONDS = 300.0
# Where caches lie: of the CPU kernels on each platform, of inductor, of triton.
_CACHES = ("HOME", "XDG_CACHE_HOME", "LOCALAPPDATA", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")


class FirstCallJob(msgspec.Struct, frozen=True):
    """What a process is to call, with how many threads."""

    case: Case
    threads: int
    extensions: tuple[str, ...]


class FirstCallTime(msgspec.Struct, frozen=True, tag=True):
    """The first call took so long."""

    seconds: float


class FirstCallRaised(msgspec.Struct, frozen=True, tag=True):
    """The contender, or building it, raised this."""

    message: str


def measure_first_call(case: Case, extensions: Sequence[str] = ()) -> FirstCall:
    """Times the first call of the case in `SAMPLES` pairs of processes. A child that fails is named in the note."""
    job = FirstCallJob(case, torch.get_num_threads(), tuple(extensions))
    cold: list[float] = []
    cached: list[float] = []
    for _ in range(SAMPLES):
        with tempfile.TemporaryDirectory() as folder:
            for samples in (cold, cached):
                answer = _in_fresh_process(job, folder)
                if not isinstance(answer, FirstCallTime):
                    return FirstCall(case.id, tuple(cold), tuple(cached), answer.message)
                samples.append(answer.seconds)
    return FirstCall(case.id, tuple(cold), tuple(cached))


def _in_fresh_process(job: FirstCallJob, folder: str) -> FirstCallTime | FirstCallRaised | Death:
    # Packages installed for the user alone are found from HOME, too.
    environment = os.environ | dict.fromkeys(_CACHES, folder) | {"PYTHONUSERBASE": site.getuserbase()}
    # A worker starts this process, and whoever ends the worker's group is to end this one as well.
    with Child[FirstCallTime | FirstCallRaised](
        ["-m", _WORKER], FirstCallTime | FirstCallRaised, environment=environment, own_group=False
    ) as child:
        child.send(job)
        return child.receive(LIMIT_SECONDS)


def _first_call(job: FirstCallJob) -> Iterator[FirstCallTime | FirstCallRaised]:
    torch.set_num_threads(job.threads)
    registry.load()
    try:
        for path in job.extensions:
            registry.load_file(path)
        built = build(job.case)
        begin = time.perf_counter()
        call(built)
        if job.case.device == "cuda":
            torch.cuda.synchronize()
        yield FirstCallTime(time.perf_counter() - begin)
    except Exception as error:  # a contender may raise anything; the note on its first call says what
        yield FirstCallRaised(traceback.format_exception_only(error)[-1].strip())


if __name__ == "__main__":
    serve(FirstCallJob, _first_call)
