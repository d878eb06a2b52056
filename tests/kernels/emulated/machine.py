"""A processor that isn't there: in a test, kernels are compiled for it, and run on it, instead of on this one."""

from __future__ import annotations

import ctypes
import importlib
import shutil
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

import llvmlite.binding as llvm
import torch

from opbench.kernels.cpu import carafe, dysample, jit, launch, sampling_call
from opbench.kernels.cpu.ir import Kernel
from opbench.kernels.cpu.processor import VectorUnit

DRIVER = Path(__file__).with_name("driver.c")


@dataclass(frozen=True)
class Architecture:
    """What kernels are compiled for, by LLVM's names, which compilers link them, and which programs then run them."""

    triple: str
    processor: str
    unit: VectorUnit
    compilers: tuple[str, ...]
    runners: tuple[str, ...]
    packages: str

    def compiler(self) -> str | None:
        """The first compiler that is installed."""
        return next(filter(None, map(shutil.which, self.compilers)), None)

    def runner(self) -> str | None:
        """The first program that is installed."""
        return next(filter(None, map(shutil.which, self.runners)), None)

    def missing(self) -> str | None:
        """Why it can't be emulated here, or None."""
        lacking = [
            names[0]
            for names, found in ((self.runners, self.runner()), (self.compilers, self.compiler()))
            if found is None
        ]
        return f"{' and '.join(lacking)} not installed (Debian: {self.packages})" if lacking else None


def arm(processor: str = "generic") -> Architecture:
    """64-bit ARM, emulated."""
    return Architecture(
        "aarch64-unknown-linux-gnu",
        processor,
        VectorUnit(16, 32),
        ("aarch64-linux-gnu-gcc", "aarch64-linux-gnu-gcc-12", "aarch64-linux-gnu-gcc-13"),
        ("qemu-aarch64-static", "qemu-aarch64"),
        "qemu-user-static gcc-aarch64-linux-gnu libc6-dev-arm64-cross",
    )


class _Counted(Kernel):
    """A kernel that knows how many arguments it is called with."""

    words = 0

    def argument(self, index: int, *type):
        """One of the 64-bit words that the kernel is called with."""
        self.words = max(self.words, index + 1)
        return super().argument(index, *type)


class Machine:
    """Compiles, links and calls kernels; `called` names those that were, in order."""

    threads = 3
    options: tuple[str, ...] = ()

    def __init__(self, folder: Path, architecture: Architecture) -> None:
        self.folder, self.architecture = folder, architecture
        self.programs: dict[int, tuple[Path, int, str]] = {}
        self.ranges: dict[int, int] = {}
        self.called: list[str] = []
        llvm.initialize_all_targets()
        llvm.initialize_all_asmprinters()

    def take_over(self, monkeypatch) -> None:
        """Puts itself in place of the processor that tests run on."""
        monkeypatch.setattr(jit, "_addresses", {})
        monkeypatch.setattr(jit, "_load", self.load)
        for module in (carafe, sampling_call, dysample):
            monkeypatch.setattr(module, "target", lambda: self.architecture.unit)
        monkeypatch.setattr(launch, "WORTH_A_THREAD", 1)
        monkeypatch.setattr(launch, "_function", lambda address: lambda values: self.run(address, values, 1))
        monkeypatch.setattr(launch, "team", lambda: self.parallel)
        monkeypatch.setattr(torch, "get_num_threads", lambda: self.threads)
        pointer = torch.Tensor.data_ptr

        def noted(tensor: torch.Tensor) -> int:
            storage = tensor.untyped_storage()
            self.ranges[storage.data_ptr()] = storage.nbytes()
            return pointer(tensor)

        monkeypatch.setattr(torch.Tensor, "data_ptr", noted)

    def compiled(self, module: str, name: str, *parameters):
        """What LLVM makes of a kernel, as a function `kernel`; its code generator; how many words it is called with."""
        architecture = self.architecture
        machine = llvm.Target.from_triple(architecture.triple).create_target_machine(
            cpu=architecture.processor, opt=3, reloc="pic", codemodel="small"
        )
        written = _Counted("kernel", architecture.unit)
        getattr(importlib.import_module(module), name)(written, *parameters)
        code = llvm.parse_assembly(written.finish())
        code.triple = architecture.triple
        code.verify()
        passes = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=2))
        passes.getModulePassManager().run(code, passes)
        return code, machine, written.words

    def load(self, module: str, name: str, *parameters) -> int:
        """A kernel's number, which stands for its address."""
        number = len(self.programs) + 1
        code, machine, words = self.compiled(module, name, *parameters)
        driver, kernel, program = (self.folder / file for file in ("driver.o", f"{number}.o", f"{number}"))
        compiler = self.architecture.compiler()
        if not driver.exists():
            subprocess.run([compiler, "-O1", "-c", DRIVER, "-o", driver], check=True)
        kernel.write_bytes(bytes(machine.emit_object(code)))
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
        arguments += [0] * (words - len(arguments))  # a forward kernel names the gradients' places, and uses none
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
        command = [self.architecture.runner(), *self.options, program, into, out]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, f"{name}, emulated, ended with {done.returncode}: {done.stderr[-500:]}"
        self.said(name, done.stderr)
        left, at = out.read_bytes(), 0
        for start, size in pointed:
            ctypes.memmove(start, left[at : at + size], size)
            at += size
        values[launch.COUNTER] = values[launch.TASKS]
        self.called.append(name)

    def said(self, name: str, text: str) -> None:
        """What the program that ran a kernel said of it."""
