"""What the CPU's kernels cost in instructions, on any machine: `python tests/bench/instructions.py -o FILE.md`.

For each kernel and shape: instructions executed for a vector of multiply-adds (32-byte code, callgrind), and the cycles
that llvm-mca predicts for a round of the hot loop (64-byte code). Nothing is timed, so a busy machine does as well;
`--only TEXT` takes the problems whose name holds it. Needs valgrind, gcc and llvm-mca.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import llvmlite.binding as llvm
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "kernels"))
from emulated import counting

import opbench.kernels.cpu.carafe
import opbench.kernels.cpu.dcnv3
import opbench.kernels.cpu.dysample
import opbench.kernels.cpu.sampling  # noqa: F401  (enters the operations)
from opbench.verify import gate

HEAD = """# Instructions of the CPU's kernels

**Nothing here was timed.** Written by `python tests/bench/instructions.py -o results/cpu-facts/instructions.md`:
counts, and predictions from a processor's documented ports. They hold of LLVM {llvm} (in llvmlite) and llvm-mca {mca};
`tests/kernels/test_instructions.py` holds them.

- *instructions*: all that a call of the kernel executes, the code for 32-byte vectors (haswell), one thread.
- *each*: instructions for a vector of 8 multiply-adds, of which the operator's closed form gives the number. 1 is what
  the arithmetic alone would take. For `move`, which lays an image out by pixels, 8 numbers that are moved.
- *hot loop*: instructions of a round of the innermost loop that does the work, the code for 64-byte vectors
  (icelake-server); *vectors* multiplied in it; *spills* to and from the stack.
- *cycles*: of a round, predicted, with all data in the first-level cache; *a vector*: the same for one vector that is
  multiplied, of which two ports make 0.5 the least. `move` multiplies nothing.

| kernel and call | instructions | each | hot loop | vectors | spills | cycles | a vector |
| --- | --- | --- | --- | --- | --- | --- | --- |
"""


@dataclass(frozen=True)
class Problem:
    """A call and its gradients: `call` returns what it computes; multiply-adds of it, and of each of its gradients."""

    name: str
    call: Callable[[], object]
    macs: int
    numbers: int


def _carafe(n: int, c: int, h: int, w: int, dtype: torch.dtype, last: bool) -> Problem:
    k, s = 5, 2
    x = torch.ones(n, c, h, w, dtype=dtype)
    grad = torch.ones(n, c, s * h, s * w, dtype=dtype)
    if last:
        x, grad = (t.contiguous(memory_format=torch.channels_last) for t in (x, grad))
    mask = torch.ones(n, k * k, s * h, s * w, dtype=dtype)

    def call() -> None:
        torch.ops.opbench.carafe_cpu(x, mask, k, 1, s)
        torch.ops.opbench.carafe_cpu_backward(grad, x, mask, k, 1, s, [True, True])

    shape = f"{n}x{c}x{h}x{w} k=5 s=2 {_of(dtype)}{' channels last' if last else ''}"
    return Problem(f"carafe {shape}", call, n * c * h * w * (k * s) ** 2, x.numel())


def _dcnv3(n: int, c: int, h: int, w: int, g: int, dtype: torch.dtype) -> Problem:
    generator = torch.Generator().manual_seed(0)
    x = torch.ones(n, h, w, c, dtype=dtype)
    offset = (2 * torch.randn(n, h, w, g * 18, generator=generator)).to(dtype)
    mask = torch.ones(n, h, w, g * 9, dtype=dtype)
    settings = (3, 1, 1, 1, g, 1.0, False)

    def call() -> None:
        torch.ops.opbench.dcnv3_cpu(x, offset, mask, *settings)
        torch.ops.opbench.dcnv3_cpu_backward(x, x, offset, mask, *settings, [True, True, True])

    return Problem(f"dcnv3 {n}x{h}x{w}x{c} G={g} 2 px {_of(dtype)}", call, n * h * w * c * 9 * 4, x.numel())


def _dysample(n: int, c: int, h: int, w: int, g: int) -> Problem:
    generator = torch.Generator().manual_seed(0)
    x = torch.ones(n, c, h, w)
    offset = 0.25 * torch.randn(n, 2 * g * 4, h, w, generator=generator)
    grad = torch.ones(n, c, 2 * h, 2 * w)

    def call() -> None:
        torch.ops.opbench.dysample_cpu(x, offset, 2, g)
        torch.ops.opbench.dysample_cpu_backward(grad, x, offset, 2, g, [True, True])

    return Problem(f"dysample {n}x{c}x{h}x{w} s=2 G={g} float32", call, n * c * h * w * 4 * 4, x.numel())


def _positions(n: int, c: int, h: int, w: int, points: int) -> Problem:
    generator = torch.Generator().manual_seed(0)
    x, out = torch.ones(n, h, w, c), torch.ones(n, h, w, c)
    positions = torch.rand(n, h, w, points * 2, generator=generator) * min(h, w)

    def call() -> None:
        torch.ops.opbench.sampling_cpu(x, positions, None, 1, "border", "x")
        torch.ops.opbench.sampling_cpu_backward(out, x, positions, None, 1, "border", "x", [True, True, False])

    return Problem(f"positions {n}x{h}x{w}x{c} P={points} float32", call, n * h * w * c * points * 4, x.numel())


def _of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


# Multiply-adds of a 32-byte vector: narrow types are computed with in float32.
LANES = 8
F32, BF16, F16 = torch.float32, torch.bfloat16, torch.float16
# The shapes of the suite `kernels`, and the necks' of YOLOv8n; small ones in narrow types.
PROBLEMS: tuple[Callable[[], Problem], ...] = (
    lambda: _carafe(1, 256, 64, 64, F32, False),
    lambda: _carafe(1, 256, 64, 64, F32, True),
    lambda: _carafe(1, 256, 20, 20, F32, False),
    lambda: _carafe(1, 128, 40, 40, F32, False),
    lambda: _carafe(1, 64, 20, 20, BF16, False),
    lambda: _carafe(1, 64, 20, 20, F16, False),
    lambda: _dcnv3(1, 64, 56, 56, 4, F32),
    lambda: _dcnv3(1, 128, 80, 80, 8, F32),
    lambda: _dcnv3(2, 256, 40, 40, 16, F32),
    lambda: _dcnv3(1, 64, 20, 20, 4, BF16),
    lambda: _dcnv3(1, 64, 20, 20, 4, F16),
    lambda: _dysample(1, 256, 20, 20, 4),
    lambda: _dysample(1, 128, 40, 40, 4),
    lambda: _positions(1, 64, 40, 40, 9),
    lambda: _positions(1, 64, 40, 40, 1),
)  # fmt: skip


def rows(problem: Problem) -> list[str]:
    """A line of the table for each kernel that the call and its gradients launch."""
    with tempfile.TemporaryDirectory() as folder:
        # Fresh memory is the same every time: what follows a block's last sample decides how that is read.
        with pytest.MonkeyPatch.context() as patched, gate.poisoned():
            counted = counting.Counted(Path(folder))
            counted.take_over(patched)
            problem.call()
        with pytest.MonkeyPatch.context() as patched:
            written = counting.Written(Path(folder))
            written.take_over(patched)
            problem.call()
    found, seen = [], set()
    assert [name for name, _ in counted.instructions] == [name for name, _ in written.kernels]
    for (name, instructions), (_, assembly) in zip(counted.instructions, written.kernels, strict=True):
        kernel = name.partition(".")[2]
        if (kernel, instructions) in seen:  # an image that is laid out again for a gradient
            continue
        back = " back" if kernel == "move" and any(other == "move" for other, _ in seen) else ""
        seen.add((kernel, instructions))
        each = instructions * LANES / (problem.numbers if kernel == "move" else problem.macs)
        cells = [f"{problem.name}: {kernel}{back}", f"{instructions:,}", f"{each:.2f}"]
        loop = None if kernel == "move" else counting.hot(assembly)
        if loop is None:
            cells += [""] * 5
        else:
            cycles = counting.predicted(loop)
            cells += [len(loop.lines), loop.vectors, loop.spills, f"{cycles:.1f}", f"{cycles / loop.vectors:.2f}"]
        found.append(f"| {' | '.join(map(str, cells))} |")
    return found


def head() -> str:
    """What stands before the table's lines."""
    return HEAD.format(llvm=".".join(map(str, llvm.llvm_version_info)), mca=counting.version())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--only", default="", help="problems whose name holds this")
    arguments = parser.parse_args()
    for needed in (counting.AVX2.missing(), counting.AVX512.runner() is None and "llvm-mca is not installed"):
        if needed:
            parser.error(needed)
    lines = []
    for make in PROBLEMS:
        problem = make()
        if arguments.only in problem.name:
            lines += rows(problem)
            print(problem.name, file=sys.stderr)
    text = head() + "\n".join(lines) + "\n"
    if arguments.output is None:
        sys.stdout.write(text)
    else:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
