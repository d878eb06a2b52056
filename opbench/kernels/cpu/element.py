"""How kernels see tensors: where an element lies, and a dtype as vectors of the type it is computed in.

bfloat16 and float16 are computed with in float32: widened as they are read, rounded as they are written.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from llvmlite import ir

from opbench.kernels.cpu.ir import F16, F32, F64, I16, I32, PTR, Kernel, Value


@dataclass(frozen=True)
class Tensor:
    """A tensor argument: where it begins and its strides in bytes."""

    start: Value
    strides: tuple[Value, ...]

    def at(self, *index: Value | int) -> Value:
        """The place of one element."""
        place = self.start
        for stride, i in zip(self.strides, index, strict=True):
            place = place + stride * i
        return place


def tensor_argument(kernel: Kernel, index: int, dims: int = 4) -> Tensor:
    """A pointer and then its strides, from argument `index` on."""
    return Tensor(kernel.argument(index, PTR), tuple(kernel.argument(index + 1 + d) for d in range(dims)))


class Element:
    """One dtype: how it lies in memory and what it is computed in."""

    def __init__(self, kernel: Kernel, dtype: str) -> None:
        self.kernel = kernel
        self.dtype = dtype
        self.bytes = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}[dtype]
        self.compute = F64 if dtype == "float64" else F32
        self.compute_bytes = 8 if dtype == "float64" else 4
        self.stored = {"float64": F64, "float32": F32, "bfloat16": I16, "float16": I16}[dtype]
        self.lanes = kernel.target.vector_bytes // self.compute_bytes

    def vector(self, lanes: int) -> Any:
        """The vector type that arithmetic is done in."""
        return ir.VectorType(self.compute, lanes)

    def zero(self, lanes: int) -> Value:
        """A vector of zeros."""
        return self.kernel.constant(0.0, self.vector(lanes))

    def load(self, place: Value, lanes: int, lanes_on: Value | None = None) -> Value:
        """A vector from memory, as computed with; lanes that are off read 0 and touch no memory."""
        type = ir.VectorType(self.stored, lanes)
        raw = self.kernel.load(place, type) if lanes_on is None else self.kernel.masked_load(place, type, lanes_on)
        return self._widen(raw)

    def store(self, value: Value, place: Value, lanes_on: Value | None = None, *, stream: bool = False) -> None:
        """The inverse of `load`; `stream` goes past the caches."""
        raw = self._narrow(value)
        if lanes_on is not None:
            self.kernel.masked_store(raw, place, lanes_on)
        elif stream:
            self.kernel.stream(raw, place)
        else:
            self.kernel.store(raw, place)

    def _widen(self, raw: Value) -> Value:
        k, lanes = self.kernel, raw.type.count
        if self.dtype == "bfloat16":
            bits = Value(k, k.builder.zext(raw.llvm, ir.VectorType(I32, lanes))) << 16
            return k.bitcast(bits, self.vector(lanes))
        if self.dtype == "float16":
            half = k.bitcast(raw, ir.VectorType(F16, lanes))
            return k.convert(half, self.vector(lanes))
        return raw

    def _narrow(self, value: Value) -> Value:
        """Rounds to nearest, ties to even."""
        k, lanes = self.kernel, value.type.count
        short, wide = ir.VectorType(I16, lanes), ir.VectorType(I32, lanes)
        if self.dtype == "bfloat16":
            bits = k.bitcast(value, wide)
            rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
            quiet = (bits >> 16) | 0x40  # rounding would turn some NaN into infinity
            return k.convert(k.select(value.differs(value), quiet, rounded), short)
        if self.dtype == "float16":
            half = k.convert(value, ir.VectorType(F16, lanes))
            return k.bitcast(half, short)
        return value
