"""Triton's interpreter: a process of its own, since the interpreter is chosen as triton is imported."""

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

import pytest
import torch
from hypothesis import settings


def _start(examples, derandomize):
    """In the new process: kernels run on the CPU, and Hypothesis as in the old one."""
    from triton.runtime import interpreter

    torch.set_num_threads(1)
    # Checking every integer for overflow takes longer than the rest.
    builder = interpreter.interpreter_builder
    builder.options = replace(builder.options, sanitize_overflow=False)
    settings.register_profile("interpreted", max_examples=examples, derandomize=derandomize, deadline=None)
    settings.load_profile("interpreted")


def _call(function, arguments):
    """Errors travel as text: those of hypothesis and of relations can't be pickled."""
    try:
        return function(*arguments)
    except AssertionError as error:
        raise AssertionError(f"{type(error).__name__}: {error}") from None


@pytest.fixture(scope="session")
def interpreted():
    """`interpreted(function, *arguments)` calls a module's function where Triton kernels are interpreted."""
    pytest.importorskip("triton", reason="triton is not installed")
    profile = settings()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, _start, (profile.max_examples, profile.derandomize)) as pool:
        before = os.environ.get("TRITON_INTERPRET")
        os.environ["TRITON_INTERPRET"] = "1"
        try:
            pool.submit(abs, 0).result()  # the process starts, with this environment
        finally:
            if before is None:
                del os.environ["TRITON_INTERPRET"]
            else:
                os.environ["TRITON_INTERPRET"] = before
        yield lambda function, *arguments: pool.submit(_call, function, arguments).result()
