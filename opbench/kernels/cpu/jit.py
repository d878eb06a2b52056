"""Compiles kernels for the machine they run on, and keeps the machine code in the user's cache folder.

A compiled kernel is named by everything that determines it (the sources of this folder, its parameters, the processor
and its features, the LLVM version), so a stale one can't be met. Where the cache folder can't be written, kernels are
compiled once per process instead.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import stat
import sys
import tempfile
import threading
from functools import cache
from pathlib import Path
from typing import Any

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
    llvm, machine, version = processor.machine()
    text = repr((module, name, parameters, machine.triple, version, processor.host(), _sources()))
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


def _read(file: Path) -> bytes | None:
    """The code in a cache file, or None where there is none, it was cut short, or somebody else may have written it.

    Machine code is run as it is found: it is taken only from a folder and a file that this user owns and nobody else
    can write to. The file is looked at once it is open, so that no other can take its place meanwhile.
    """
    try:
        with file.open("rb") as stream:
            if not (_own(file.parent.stat()) and _own(os.fstat(stream.fileno()))):
                return None
            content = stream.read()
    except OSError:
        return None
    digest, code = content[:32], content[32:]
    return code if hashlib.sha256(code).digest() == digest else None


def _own(status: os.stat_result) -> bool:
    """Whether a file is this user's and nobody else's to write to, where the system knows users."""
    if not hasattr(os, "getuid"):
        return True
    return status.st_uid == os.getuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def clear_cache() -> int:
    """Empties the cache folder; how many kernels were in it. Raises OSError where it can't be emptied."""
    folder = cache_folder()
    files = sorted(folder.glob("*.o")) if folder and folder.is_dir() else []
    for file in files:
        file.unlink(missing_ok=True)
    return len(files)


def _write(file: Path, code: bytes) -> None:
    """Readers see the whole file or none; without a writable folder there is no cache."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not _own(file.parent.stat()):
            return
        handle, temporary = tempfile.mkstemp(dir=file.parent)
        with os.fdopen(handle, "wb") as stream:
            stream.write(hashlib.sha256(code).digest() + code)
        os.replace(temporary, file)
    except OSError:
        return


if hasattr(os, "register_at_fork"):
    # A fork waits for a compilation in another thread: its child would find this lock, and LLVM's, held for ever.
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)
