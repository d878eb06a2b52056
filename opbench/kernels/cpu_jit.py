"""Compiles kernels for the machine they run on, and keeps the machine code in the user's cache folder.

Needs llvmlite alone: no compiler, no numba. A compiled kernel is named by everything that determines it (the sources
of this folder, its parameters, the processor and its features, the LLVM version), so a stale one can't be met. Where
the cache folder can't be written, kernels are compiled once per process instead.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import sys
import tempfile
import threading
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

_lock = threading.Lock()
_addresses: dict[tuple[Any, ...], int] = {}
_engines: list[Any] = []  # machine code lives as long as its engine


def missing() -> str | None:
    """Why kernels can't be compiled here, or None."""
    if importlib.util.find_spec("llvmlite") is None:
        return "llvmlite is not installed (pip install llvmlite)"
    if sys.maxsize < 2**32:
        return "needs a 64-bit Python"
    return None


def kernel(module: str, name: str, *parameters: Any) -> int:
    """The address of the machine code of `void name(int64 *arguments)`, as `module.name(kernel, *parameters)` emits it.

    The module is imported only to compile.
    """
    key = (module, name, *parameters)
    address = _addresses.get(key)
    if address is None:
        with _lock:
            address = _addresses.get(key)
            if address is None:
                address = _addresses[key] = _load(*key)
    return address


@dataclass(frozen=True)
class Target:
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
def target() -> Target:
    """The processor this runs on."""
    llvm, _, _ = _machine()
    _, features = _processor()
    if all(f"+{name}" in features for name in ("avx512f", "avx512bw", "avx512dq", "avx512vl")):
        return Target(64, 32)
    if "+avx2" in features and "+fma" in features:
        return Target(32, 16)
    return Target(16, 32 if llvm.get_process_triple().startswith(("aarch64", "arm64")) else 16)


def cache_folder() -> Path | None:
    """Where compiled kernels are kept: the platform's folder for a user's cached files, if there is such a user."""
    try:
        home = Path.home()
    except RuntimeError:
        return None
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = home / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
    return base / "opbench" / "kernels"


def _load(module: str, name: str, *parameters: Any) -> int:
    llvm, machine, version = _machine()
    text = repr((module, name, parameters, machine.triple, version, _processor(), _sources()))
    folder = cache_folder()
    file = folder / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:32]}.o" if folder else None
    code = _read(file) if file else None
    if code is None:
        code = _compile(module, name, *parameters)
        if file:
            _write(file, code)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    _engines.append(engine)
    address: int = engine.get_function_address(name)
    return address


def _compile(module: str, name: str, *parameters: Any) -> bytes:
    from opbench.kernels.cpu_ir import Kernel

    llvm, machine, _ = _machine()
    kernel = Kernel(name, target())
    getattr(importlib.import_module(module), name)(kernel, *parameters)
    code = llvm.parse_assembly(kernel.finish())
    code.verify()
    options = llvm.create_pipeline_tuning_options(speed_level=2)
    passes = llvm.create_pass_builder(machine, options)
    passes.getModulePassManager().run(code, passes)
    return bytes(machine.emit_object(code))


@cache
def _machine() -> tuple[Any, Any, tuple[int, ...]]:
    """LLVM itself, a code generator for this processor, and LLVM's version."""
    reason = missing()
    if reason is not None:
        raise ImportError(f"the CPU kernels can't be compiled: {reason}")
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    name, features = _processor()
    triple = llvm.Target.from_triple(llvm.get_process_triple())
    machine = triple.create_target_machine(cpu=name, features=",".join(features), opt=3, jit=True)
    return llvm, machine, llvm.llvm_version_info


@cache
def _processor() -> tuple[str, list[str]]:
    """The processor's name and features, in LLVM's words."""
    import llvmlite.binding as llvm

    try:
        features = llvm.get_host_cpu_features().flatten()
    except RuntimeError:  # LLVM can't tell on every system; the name alone says most of it
        features = ""
    return llvm.get_host_cpu_name(), features.split(",")


@cache
def _sources() -> str:
    files = sorted(Path(__file__).parent.glob("cpu_*.py"))
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()


def _read(file: Path) -> bytes | None:
    """The code in a cache file, or None where there is none or it was cut short."""
    try:
        content = file.read_bytes()
    except OSError:
        return None
    digest, code = content[:32], content[32:]
    return code if hashlib.sha256(code).digest() == digest else None


def _write(file: Path, code: bytes) -> None:
    """Readers see the whole file or none; without a writable folder there is no cache."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, temporary = tempfile.mkstemp(dir=file.parent)
        with os.fdopen(handle, "wb") as stream:
            stream.write(hashlib.sha256(code).digest() + code)
        os.replace(temporary, file)
    except OSError:
        return


if hasattr(os, "register_at_fork"):
    # A fork waits for a compilation in another thread: its child would find this lock, and LLVM's, held for ever.
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)
