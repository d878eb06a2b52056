"""Compiles kernels for the machine they run on, and keeps the machine code in the user's cache folder.

A compiled kernel is named by everything that determines it (the sources of this folder, its parameters, the processor
and its features, the LLVM version), so a stale one can't be met. Where the cache folder can't be written, kernels are
compiled once per process instead.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import threading
from functools import cache
from pathlib import Path
from typing import Any

from opbench import user_cache
from opbench.kernels.cpu import processor
from opbench.kernels.cpu.processor import target

_lock = threading.Lock()
_addresses: dict[tuple[Any, ...], int] = {}
_engines: list[Any] = []  # machine code lives as long as its engine


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


def cache_folder() -> Path | None:
    """Where compiled kernels are kept: the platform's folder for a user's cached files, if there is such a user."""
    return user_cache.folder("kernels")


def _load(module: str, name: str, *parameters: Any) -> int:
    llvm, machine, version = processor.machine()
    text = repr((module, name, parameters, machine.triple, version, processor.host(), _sources()))
    folder = cache_folder()
    file = folder / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:32]}.o" if folder else None
    code = user_cache.read(file) if file else None
    if code is None:
        code = _compile(module, name, *parameters)
        if file:
            user_cache.write(file, code)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    _engines.append(engine)
    address: int = engine.get_function_address(name)
    return address


def _compile(module: str, name: str, *parameters: Any) -> bytes:
    from opbench.kernels.cpu.ir import Kernel  # loads llvmlite

    llvm, machine, _ = processor.machine()
    kernel = Kernel(name, target())
    getattr(importlib.import_module(module), name)(kernel, *parameters)
    code = llvm.parse_assembly(kernel.finish())
    code.verify()
    options = llvm.create_pipeline_tuning_options(speed_level=2)
    passes = llvm.create_pass_builder(machine, options)
    passes.getModulePassManager().run(code, passes)
    return bytes(machine.emit_object(code))


@cache
def _sources() -> str:
    files = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()


def clear_cache() -> int:
    """Empties the cache folder; how many kernels were in it. Raises OSError where it can't be emptied."""
    folder = cache_folder()
    if folder is None or not folder.is_dir():
        return 0
    files = sorted(folder.glob("*.o"))
    for file in files:
        file.unlink(missing_ok=True)
    user_cache.clear_left(folder, 0.0)
    return len(files)


if hasattr(os, "register_at_fork"):
    # A fork waits for a compilation in another thread: its child would find this lock, and LLVM's, held for ever.
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)
