"""Small kernels that tests compile."""

from llvmlite import ir

from opbench.kernels.cpu.element import Element
from opbench.kernels.cpu.exponential import exponential
from opbench.kernels.cpu.ir import F32, PTR, Kernel
from opbench.kernels.cpu.launch import FIRST

VECTOR = ir.VectorType(F32, 8)


def rearranged(kernel: Kernel, s: int, way: str) -> None:
    """s vectors of 8 numbers from one place to another, through `interleave`, `deinterleave` or `sums`."""
    source, target = kernel.argument(FIRST, PTR), kernel.argument(FIRST + 1, PTR)
    vectors = [kernel.load(source + m * 32, VECTOR) for m in range(s)]
    if way == "sums":
        kernel.store(kernel.sums(vectors), target)
    else:
        for m, vector in enumerate(getattr(kernel, way)(vectors)):
            kernel.store(vector, target + m * 32)


def counted(kernel: Kernel) -> None:
    """Adds 1 to the number of each task."""
    target = kernel.argument(FIRST, PTR)
    with kernel.tasks() as task:
        place = target + task * 8
        kernel.store(kernel.load(place, task.type) + 1, place)


def powers(kernel: Kernel, dtype: str) -> None:
    """e to the power of 4,016 numbers."""
    e = Element(kernel, dtype)
    source, target = kernel.argument(FIRST, PTR), kernel.argument(FIRST + 1, PTR)
    with kernel.loop(0, 4016 * e.bytes, e.lanes * e.bytes) as place:
        e.store(exponential(kernel, e.load(source + place, e.lanes)), target + place)
