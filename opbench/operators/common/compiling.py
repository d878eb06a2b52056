"""torch.compile for cores: whether it can work here, and one compilation per kind of call."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from opbench.kernels.fused import fused
from opbench.operators.common.looking import once


@once
def missing() -> str | None:
    """Why torch.compile can't build CPU code here, or None."""
    default = {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++")
    compiler = os.environ.get("CXX", default)
    if shutil.which(compiler) is None:
        return f"torch.compile needs a C++ compiler: {compiler!r} is not on the PATH (install one, or set CXX)"
    header = Path(sysconfig.get_paths()["include"]) / "Python.h"
    if not header.is_file():
        return f"torch.compile needs Python's C headers: {header} does not exist (install the python dev package)"
    return None


def compiled_apart(function: Callable[..., torch.Tensor]) -> Callable[..., Any]:
    """`function` compiled for the first shapes it meets, independently of every other compilation of it.

    Compiled variants are kept, searched and limited per code object, and past the limit torch falls back to eager
    code: a code object of its own for each kind of call avoids both, and fullgraph makes any fallback an error.
    """
    own = types.FunctionType(
        function.__code__.replace(), function.__globals__, function.__name__, function.__defaults__
    )
    return fused(function, torch.compile(own, dynamic=False, fullgraph=True))
