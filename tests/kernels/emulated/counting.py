"""Instructions instead of time: those that a kernel executes, counted, and the cycles of its hot loop, predicted.

`Counted` runs the code for 32-byte vectors under valgrind's callgrind, which counts every instruction of the kernel.
Valgrind knows no AVX-512: of the code for 64-byte vectors `predicted` takes the hot loop, and llvm-mca says how many
cycles a processor's documented ports need for it, with all data in the first-level cache. Both are the same on every
machine with the same LLVM, as llvmlite brings it, and the same llvm-mca.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from emulated.machine import Architecture, Machine
from opbench.kernels.cpu.processor import VectorUnit

MCA = "llvm-mca"
AVX2 = Architecture(
    "x86_64-unknown-linux-gnu", "haswell", VectorUnit(32, 16), ("gcc", "cc"), ("valgrind",), "valgrind gcc"
)
AVX512 = Architecture("x86_64-unknown-linux-gnu", "icelake-server", VectorUnit(64, 32), (), (MCA,), "llvm")
_COLLECTED = re.compile(r"Collected : (\d+)")


class Counted(Machine):
    """Calls kernels on one thread under callgrind; `instructions` of each, by name, in the order of the calls."""

    threads = 1
    options = ("--tool=callgrind", "--callgrind-out-file=/dev/null", "--toggle-collect=kernel")

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, AVX2)
        self.instructions: list[tuple[str, int]] = []

    def said(self, name: str, text: str) -> None:
        """Takes the count from what callgrind says."""
        found = _COLLECTED.search(text)
        assert found, f"callgrind said no count: {text[-500:]}"
        self.instructions.append((name, int(found[1])))


class Written(Machine):
    """Calls nothing: `kernels` are the assembly of those that would have been called, by name, in order."""

    threads = 1

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, AVX512)
        self.kernels: list[tuple[str, str]] = []
        self.assembly: dict[int, str] = {}

    def load(self, module: str, name: str, *parameters) -> int:
        """Compiles and keeps the assembly."""
        code, machine, words = self.compiled(module, name, *parameters)
        number = len(self.programs) + 1
        self.programs[number] = (self.folder, words, f"{module.rpartition('.')[2]}.{name}")
        self.assembly[number] = machine.emit_assembly(code)
        return number

    def run(self, address: int, values, threads: int) -> None:
        """Notes the call."""
        self.kernels.append((self.programs[address][2], self.assembly[address]))


# --- The hot loop -----------------------------------------------------------------------------------------------------

_LABEL = re.compile(r"^(\.L\w+):")
_JUMP = re.compile(r"^\s+j\w+\s+(\.L\w+)")
_MULTIPLY = re.compile(r"^\s+v(fn?madd\d+|mul)p[sd]\s")
_MASKED = re.compile(r"%k[1-7]\}|vmaskmov")


@dataclass(frozen=True)
class Loop:
    """A loop with none inside: its instructions as they lie, and how many loops it lies in."""

    lines: tuple[str, ...]
    depth: int

    @property
    def vectors(self) -> int:
        """Vectors that are multiplied, and added or not."""
        return sum(bool(_MULTIPLY.match(line)) for line in self.lines)

    @property
    def spills(self) -> int:
        """Vectors that go to or come from the stack."""
        return sum("(%rsp)" in line and "mm" in line for line in self.lines)

    @property
    def masked(self) -> bool:
        """Whether it treats the edge of an image."""
        return any(_MASKED.search(line) for line in self.lines)


def loops(assembly: str) -> list[Loop]:
    """The innermost loops of a kernel, each from its label to the last jump back to it, in order."""
    labels: dict[str, int] = {}
    ends: dict[int, int] = {}
    lines = assembly.splitlines()
    for at, line in enumerate(lines):
        if label := _LABEL.match(line):
            labels[label[1]] = at
        elif (jump := _JUMP.match(line)) and jump[1] in labels:
            ends[labels[jump[1]]] = at
    spans = sorted(ends.items())
    found = []
    for start, end in spans:
        if any(start < other <= end for other, _ in spans):
            continue
        depth = sum(other <= start and end <= last for other, last in spans)
        body = (line.split("#")[0].rstrip() for line in lines[start : end + 1] if line.startswith("\t"))
        found.append(Loop(tuple(line for line in body if line.strip() and not line.lstrip().startswith(".")), depth))
    return found


def hot(assembly: str) -> Loop | None:
    """The loop that a kernel is in most of the time: of those that multiply one without edges, deep, and long.

    Of equals it is the shortest: where kernels are written twice, the longer one is the exception.
    """
    found = [loop for loop in loops(assembly) if loop.vectors]
    return max(found, key=lambda loop: (not loop.masked, loop.depth, loop.vectors, -len(loop.lines)), default=None)


def predicted(loop: Loop) -> float:
    """Cycles of a round of a loop, by llvm-mca, when rounds follow each other and no branch within is taken."""
    rounds = 200
    command = [shutil.which(MCA) or MCA, "-mtriple=x86_64", f"-mcpu={AVX512.processor}", f"-iterations={rounds}"]
    body = "\n".join(loop.lines) + "\n"
    said = subprocess.run(command, input=body, capture_output=True, text=True, check=True, timeout=60).stdout
    found = re.search(r"^Total Cycles:\s+(\d+)", said, re.MULTILINE)
    assert found, said
    return int(found[1]) / rounds


def version() -> str:
    """Of llvm-mca: `14.0.6`."""
    said = subprocess.run([MCA, "--version"], capture_output=True, text=True, check=True, timeout=60).stdout
    found = re.search(r"version ([\d.]+)", said)
    return found[1] if found else "of no known version"
