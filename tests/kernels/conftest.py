"""What kernels are tested in: Triton's interpreter, and threads of either kind for the CPU's."""

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor

import pytest
import torch
from hypothesis import settings
from interpreting import call, start

from opbench.kernels.cpu import launch


@pytest.fixture(scope="session")
def interpreted():
    """`interpreted(function, *arguments)` calls a module's function where Triton kernels are interpreted.

    In a process of its own, since the interpreter is chosen as triton is imported.
    """
    pytest.importorskip("triton", reason="triton is not installed")
    profile = settings()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, start, (profile.max_examples, profile.derandomize)) as pool:
        before = os.environ.get("TRITON_INTERPRET")
        os.environ["TRITON_INTERPRET"] = "1"
        try:
            pool.submit(abs, 0).result()  # the process starts, with this environment
        finally:
            if before is None:
                del os.environ["TRITON_INTERPRET"]
            else:
                os.environ["TRITON_INTERPRET"] = before
        yield lambda function, *arguments: pool.submit(call, function, arguments).result()


@pytest.fixture(params=["torch's threads", "helpers"])
def threads(request, monkeypatch):
    """Sets the number of threads, and makes small problems worth sharing."""
    if request.param == "helpers":
        monkeypatch.setattr(launch, "team", lambda: None)
    elif launch.team() is None:
        pytest.skip("this build of torch has no GNU OpenMP")
    monkeypatch.setattr(launch, "WORTH_A_THREAD", 1)
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)
