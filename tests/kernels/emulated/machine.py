"""A processor that isn't there: in a test, kernels are compiled for it, and run on it, instead of on this one."""

from __future__ import annotations

import ctypes
import importlib
import shutil
import struct
import subprocess
from pathlib import Path

import llvmlite.binding as llvm
import torch

from opbench.kernels.cpu import carafe, dysample, jit, launch, sampling_call
from opbench.kernels.cpu.ir import Kernel
from opbench.kernels.cpu.processor import VectorUnit

TRIPLE = "aarch64-unknown-linux-gnu"
DRIVER = Path(__file__).with_name("driver.c")
COMPILERS = ("aarch64-linux-gnu-gcc", "aarch64-linux-gnu-gcc-12", "aarch64-linux-gnu-gcc-13")
EMULATORS = ("qemu-aarch64-static", "qemu-aarch64")


def _first(names: tuple[str, ...]) -> str | None:
    return next(filter(None, map(shutil.which, names)), None)


def missing() -> str | None:
    """Why 64-bit ARM can't be emulated here, or None."""
    if _first(EMULATORS) is None:
        return "qemu-user is not installed (Debian: qemu-user-static)"
    if _first(COMPILERS) is None:
        return "a C compiler for aarch64 is not installed (Debian: gcc-aarch64-linux-gnu, libc6-dev-arm64-cross)"
    return None


class _Counted(Kernel):
    """A kernel that knows how many arguments it is called with."""

    words = 0

    def argument(self, index: int, *type):
        """One of the 64-bit words that the kernel is called with."""
        self.words = max(self.words, index + 1)
        return super().argument(index, *type)


class Machine:
    """Compiles, links and calls kernels; `called` names those that were, in order."""

    def __init__(self, folder: Path, processor: str = "generic", unit: VectorUnit | None = None) -> None:
        self.folder, self.processor = folder, processor
        self.unit = unit or VectorUnit(16, 32)
        self.programs: dict[int, tuple[Path, int, str]] = {}
        self.ranges: dict[int, int] = {}
        self.called: list[str] = []
        llvm.initialize_all_targets()
        llvm.initialize_all_asmprinters()

    def take_over(self, monkeypatch) -> None:
        """Puts itself in place of the processor that tests run on, with three threads."""
        monkeypatch.setattr(jit, "_addresses", {})
        monkeypatch.setattr(jit, "_load", self.load)
        for module in (carafe, sampling_call, dysample):
            monkeypatch.setattr(module, "target", lambda: self.unit)
        monkeypatch.setattr(launch, "WORTH_A_THREAD", 1)
        monkeypatch.setattr(launch, "_function", lambda address: lambda values: self.run(address, values, 1))
        monkeypatch.setattr(launch, "team", lambda: self.parallel)
        monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
        pointer = torch.Tensor.data_ptr

        def noted(tensor: torch.Tensor) -> int:
            storage = tensor.untyped_storage()
            self.ranges[storage.data_ptr()] = storage.nbytes()
            return pointer(tensor)

        monkeypatch.setattr(torch.Tensor, "data_ptr", noted)

    def object_code(self, module: str, name: str, *parameters) -> tuple[bytes, int]:
        """What a kernel is compiled to, as a function `kernel`, and how many words it is called with."""
        machine = llvm.Target.from_triple(TRIPLE).create_target_machine(
            cpu=self.processor, opt=3, reloc="pic", codemodel="small"
        )
        written = _Counted("kernel", self.unit)
        getattr(importlib.import_module(module), name)(written, *parameters)
        code = llvm.parse_assembly(written.finish())
        code.triple = TRIPLE
        code.verify()
        passes = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=2))
        passes.getModulePassManager().run(code, passes)
        return bytes(machine.emit_object(code)), written.words

    def load(self, module: str, name: str, *parameters) -> int:
        """A kernel's number, which stands for its address."""
        number = len(self.programs) + 1
        code, words = self.object_code(module, name, *parameters)
        driver, kernel, program = (self.folder / file for file in ("driver.o", f"{number}.o", f"{number}"))
        compiler = _first(COMPILERS)
        if not driver.exists():
            subprocess.run([compiler, "-O1", "-c", DRIVER, "-o", driver], check=True)
        kernel.write_bytes(code)
        # Only the driver's own calls are there to link with, and no mathematics.
        subprocess.run([compiler, "-static", "-pthread", driver, kernel, "-o", program], check=True)
        self.programs[number] = (program, words, f"{module.rpartition('.')[2]}.{name}")
        return number

    def parallel(self, address: int, values: int, threads: int, flags: int) -> None:
        """In place of the OpenMP runtime's function of these arguments."""
        _, words, _ = self.programs[address]
        self.run(address, (ctypes.c_int64 * words).from_address(values), threads)

    def run(self, address: int, values, threads: int) -> None:
        """Calls a kernel over there, with the memory that its arguments point into."""
        program, words, name = self.programs[address]
        arguments = list(values)[:words]
        pointed = [
            (start, size)
            for start, size in self.ranges.items()
            if any(start <= argument <= start + size for argument in arguments[launch.TASKS + 1 :])
        ]
        self.ranges.clear()
        numbers = [threads, words, len(pointed), *arguments, *(number for block in pointed for number in block)]
        into, out = self.folder / "in", self.folder / "out"
        out.unlink(missing_ok=True)
        memory = b"".join(ctypes.string_at(start, size) for start, size in pointed)
        into.write_bytes(struct.pack(f"<{len(numbers)}q", *numbers) + memory)
        done = subprocess.run([_first(EMULATORS), program, into, out], capture_output=True, timeout=600)
        assert done.returncode == 0, f"{name}, emulated, ended with {done.returncode}: {done.stderr.decode()[-500:]}"
        left, at = out.read_bytes(), 0
        for start, size in pointed:
            ctypes.memmove(start, left[at : at + size], size)
            at += size
        values[launch.COUNTER] = values[launch.TASKS]
        self.called.append(name)
