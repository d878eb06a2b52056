"""The processor this runs on: what its vector unit offers, and LLVM's code generator for it.

Needs llvmlite alone: no compiler, no numba. It is loaded when it is first asked whether kernels can be compiled.
"""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from opbench.errors import said

if TYPE_CHECKING:
    import torch


# Why no exporter can write a kernel down for another runtime.
UNEXPORTABLE = "it is machine code of opbench's own"
# Its code generator takes opaque pointers alone, as the kernels have them, from this release on.
LEAST_LLVMLITE = (0, 45)


def missing() -> str | None:
    """Why kernels can't be compiled here, or None. Asked before every call: llvmlite is loaded once, to find out."""
    if importlib.util.find_spec("llvmlite") is None:
        return "llvmlite is not installed (pip install llvmlite)"
    if sys.maxsize < 2**32:
        return "needs a 64-bit Python"
    if not _looked:
        _looked.append(_broken())
    return _looked[0]


_looked: list[str | None] = []


def _broken() -> str | None:
    """What is wrong with the llvmlite that is installed, or None."""
    try:
        import llvmlite
        import llvmlite.binding
        import llvmlite.ir
    except Exception as error:  # a package that was cut short, or for another Python, raises anything
        return f"llvmlite is installed and can't be loaded: {said(error)} (pip install --force-reinstall llvmlite)"
    found = tuple(int(part) for part in llvmlite.__version__.split(".")[:2] if part.isdigit())
    if found < LEAST_LLVMLITE:
        least = ".".join(map(str, LEAST_LLVMLITE))
        return f"llvmlite {llvmlite.__version__} is too old: {least} is needed (pip install -U llvmlite)"
    return None


@dataclass(frozen=True)
class VectorUnit:
    """What the processor's vector unit offers: bytes in a register, and how many registers."""

    vector_bytes: int
    registers: int

    @property
    def sums(self) -> int:
        """Registers that hold sums in an inner loop; the rest is left to operands."""
        return 24 if self.registers >= 32 else 10

    def lanes(self, dtype: torch.dtype) -> int:
        """Numbers in a vector that is computed with: bfloat16 and float16 are computed with in float32."""
        return self.vector_bytes // max(dtype.itemsize, 4)


@cache
def target() -> VectorUnit:
    """The processor this runs on."""
    llvm, _, _ = machine()
    _, features = host()
    if all(f"+{name}" in features for name in ("avx512f", "avx512bw", "avx512dq", "avx512vl")):
        return VectorUnit(64, 32)
    if "+avx2" in features and "+fma" in features:
        return VectorUnit(32, 16)
    return VectorUnit(16, 32 if llvm.get_process_triple().startswith(("aarch64", "arm64")) else 16)


@cache
def machine() -> tuple[Any, Any, tuple[int, ...]]:
    """LLVM itself, a code generator for this processor, and LLVM's version."""
    reason = missing()
    if reason is not None:
        raise ImportError(f"the CPU kernels can't be compiled: {reason}")
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    name, features = host()
    triple = llvm.Target.from_triple(llvm.get_process_triple())
    generator = triple.create_target_machine(cpu=name, features=",".join(features), opt=3, jit=True)
    return llvm, generator, llvm.llvm_version_info


@cache
def host() -> tuple[str, list[str]]:
    """The processor's name and features, in LLVM's words."""
    import llvmlite.binding as llvm

    try:
        features = llvm.get_host_cpu_features().flatten()
    except RuntimeError:  # LLVM can't tell on every system; the name alone says most of it
        features = ""
    return llvm.get_host_cpu_name(), features.split(",")
