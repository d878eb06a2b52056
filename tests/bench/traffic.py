"""Whether an implementation's traffic is what it really asks of memory: counted, and by a simulated cache.

    python tests/bench/traffic.py -o FILE.md

Each contender of both slots and both cores that runs on the CPU is called once under callgrind, valgrind's tool with
cachegrind's cache simulation: 32 KiB and then 128 KiB, on the AVX2 code, one thread. The input takes four times as
much, and a few rows of it fit. Simulated is what passes between the last cache and memory: lines that were read, and
modified lines that were written back. A line that is only written is fetched as well; nobody asked for that, so it
isn't counted. What the same call asks for at 8x8 is taken off: that is the interpreter's. Compiled contenders
are left out: a compiler under valgrind takes hours, as all cases together do (`--only PATTERN` chooses some).
"""

from __future__ import annotations

import argparse
import ctypes
import mmap
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch

from opbench import registry
from opbench.build import Built, build
from opbench.measure.traffic import count_traffic
from opbench.schema import Case

CACHES = ("--I1=32768,8,64", "--D1=32768,8,64", "--LL=131072,8,64")
VALGRIND = (
    "valgrind", "--tool=callgrind", "--instr-atstart=no", "--cache-sim=yes", "--simulate-wb=yes", *CACHES,
)  # fmt: skip
LINE = 64
TOLERANCE = 0.25
SIZES = {
    "upsample2x": {"N": 1, "C": 32},
    "conv3x3": {"N": 1, "C": 32, "G": 2},
    "carafe_core": {"N": 1, "C": 32, "k": 5, "g": 1, "s": 2},
    "dcnv3_core": {"N": 1, "C": 32, "G": 2},
}
# No powers of two: planes would fall into the same sets of a cache.
LARGE, SMALL = (130, 33), (8, 8)
# Requests to callgrind, as valgrind/callgrind.h numbers them.
_TOOL = (ord("C") << 24) | (ord("T") << 16)
DUMP_AS, START, STOP = _TOOL + 3, _TOOL + 4, _TOOL + 5


def request(number: int, text: bytes = b"") -> None:
    """What valgrind.h's macro is on x86-64; outside valgrind it does nothing."""
    buffer = ctypes.create_string_buffer(text)
    arguments = (ctypes.c_uint64 * 6)(number, ctypes.addressof(buffer) if text else 0, 0, 0, 0, 0)
    _call_valgrind(ctypes.addressof(arguments))


def _machine_code() -> tuple[mmap.mmap, object]:
    """mov rax, rdi; xor edx, edx; rol rdi by 3, 13, 61 and 51; xchg rbx, rbx; mov rax, rdx; ret."""
    code = bytes.fromhex("4889f8 31d2 48c1c703 48c1c70d 48c1c73d 48c1c733 4887db 4889d0 c3")
    page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(code)
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    return page, ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_uint64)(address)


_PAGE, _call_valgrind = _machine_code()


def cases(pattern: str) -> Iterator[Case]:
    """Each contender, in inference and training; the definitions are not called."""
    registry.load()
    for task_name, sizes in SIZES.items():
        task = registry.tasks()[task_name]
        for operator in registry.operators(task_name).values():
            for name, implementation in operator.implementations.items():
                known = "cpu" in implementation.devices and not implementation.compiles and not implementation.missing()
                for mode in ("inference", "training"):
                    case = Case(
                        task_name, "large", operator.name, name, {**task.defaults, **sizes}, "float32", "cpu", mode, 0.5
                    )
                    if known and re.search(pattern, f"{task_name}/{case.contender}/{mode}"):
                        yield case


def sized(case: Case, size: tuple[int, int]) -> Built:
    """The case at a height and width of its image."""
    dims = {**case.dims, "H": size[0], "W": size[1]}
    return build(Case(case.task, "sized", case.operator, case.implementation, dims, "float32", "cpu", case.mode, 0.5))


def work(pattern: str) -> None:
    """Under valgrind: calls each case once with the simulation on."""
    torch.set_num_threads(1)
    for case in cases(pattern):
        for size in (SMALL, LARGE):
            built = sized(case, size)
            once(built)
            request(START)
            once(built)
            request(STOP)
            request(DUMP_AS, f"{size[0]}x{size[1]} {case.task}/{case.contender}/{case.mode}".encode())


def once(built: Built) -> None:
    """One call, without grad in inference."""
    if built.grad_output is None:
        with torch.no_grad():
            built.module(*built.inputs)
    else:
        torch.autograd.grad(built.module(*built.inputs), built.leaves(), built.grad_output, allow_unused=True)


def simulated(pattern: str) -> dict[str, dict[tuple[int, int], int]]:
    """Bytes between the last cache and memory, by case and size."""
    with tempfile.TemporaryDirectory() as folder:
        out = f"--callgrind-out-file={folder}/out"
        command = [*VALGRIND, out, sys.executable, __file__, "--worker", "--only", pattern]
        subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
        found: dict[str, dict[tuple[int, int], int]] = {}
        for dump in sorted(Path(folder).glob("out*")):
            text = dump.read_text()
            named = re.search(r"^desc: Trigger: Client Request: (\d+)x(\d+) (\S+)", text, re.M)
            events, totals = (re.search(rf"^{key}: (.*)$", text, re.M) for key in ("events", "totals"))
            if named is None or events is None or totals is None:
                continue
            counted = dict(zip(events[1].split(), map(int, totals[1].split()), strict=False))
            lines = counted["DLmr"] + sum(counted.get(name, 0) for name in ("ILdmr", "DLdmr", "DLdmw"))
            found.setdefault(named[3], {})[int(named[1]), int(named[2])] = LINE * lines
        return found


def table(pattern: str) -> str:
    """Counted and simulated bytes of each case, side by side."""
    lines = ["| case | counted, MB | simulated, MB | simulated / counted |", "| --- | --- | --- | --- |"]
    found, apart = simulated(pattern), []
    for case in cases(pattern):
        name = f"{case.task}/{case.contender}/{case.mode}"
        counts = [count_traffic(sized(case, size)) for size in (LARGE, SMALL)]
        if name not in found or None in counts:
            continue
        counted = counts[0] - counts[1]
        asked = found[name][LARGE] - found[name][SMALL]
        apart.append(abs(asked / counted - 1))
        lines.append(f"| `{name}` | {counted / 1e6:.2f} | {asked / 1e6:.2f} | {asked / counted:.2f} |")
    within = sum(one <= TOLERANCE for one in apart)
    return "\n".join([*lines, "", f"{within} of {len(apart)} within {TOLERANCE:.0%}."])


def main() -> None:
    """Runs valgrind over the contenders and prints the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default="", help="a regular expression of TASK/CONTENDER/MODE")
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.worker:
        work(asked.only)
        return
    said = table(asked.only)
    print(said)
    if asked.output:
        version = subprocess.run(["valgrind", "--version"], capture_output=True, text=True, check=True).stdout.strip()
        command = f"python tests/bench/traffic.py --only '{asked.only}' -o {asked.output}"
        about = f"{__doc__.split(chr(10) * 2, 2)[2]}\n`{command}`\n\n{version}, torch {torch.__version__}, float32, "
        asked.output.write_text(f"# Traffic, counted and simulated\n\n{about}32 channels at 130x33.\n\n{said}\n")


if __name__ == "__main__":
    main()
