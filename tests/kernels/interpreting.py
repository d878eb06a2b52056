"""What the interpreter's process does; a module of its own, for functions travel to it by their module's name."""

from dataclasses import replace

import torch
from hypothesis import settings


def start(examples, derandomize):
    """In the new process: kernels run on the CPU, and Hypothesis as in the old one."""
    from triton.runtime import interpreter

    torch.set_num_threads(1)
    # Checking every integer for overflow takes longer than the rest.
    builder = interpreter.interpreter_builder
    builder.options = replace(builder.options, sanitize_overflow=False)
    settings.register_profile("interpreted", max_examples=examples, derandomize=derandomize, deadline=None)
    settings.load_profile("interpreted")


def call(function, arguments):
    """Errors travel as text: those of hypothesis and of relations can't be pickled."""
    try:
        return function(*arguments)
    except AssertionError as error:
        raise AssertionError(f"{type(error).__name__}: {error}") from None
