"""Triton's interpreter: a process of its own, since the interpreter is chosen as triton is imported."""

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor

import pytest
from hypothesis import settings
from interpreting import call, start


@pytest.fixture(scope="session")
def interpreted():
    """`interpreted(function, *arguments)` calls a module's function where Triton kernels are interpreted."""
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
