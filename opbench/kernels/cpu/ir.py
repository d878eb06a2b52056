"""A small vocabulary for writing SIMD loops in Python: each call emits LLVM instructions.

A kernel is one function `void kernel(int64 *arguments)`. Scalars, pointers and vectors are `Value`s whose Python
operators emit arithmetic; `loop`, `when`, `choose` and `tasks` are control flow. Sums of products go through `fma`, so
that they round the same way wherever they stand.

Longer than 300 lines because one class is the vocabulary: its methods are short, and use each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from llvmlite import ir

from opbench.kernels.cpu.launch import ACTIVE, CHUNK, COUNTER, SCRATCH, SCRATCH_BYTES, TASKS, TICKET
from opbench.kernels.cpu.processor import VectorUnit

I16, I32, I64 = ir.IntType(16), ir.IntType(32), ir.IntType(64)
F16, F32, F64 = ir.HalfType(), ir.FloatType(), ir.DoubleType()
PTR = ir.PointerType()


class Value:
    """An SSA value. Python numbers on the other side of an operator become constants of its type."""

    __slots__ = ("kernel", "llvm")

    def __init__(self, kernel: Kernel, llvm: Any) -> None:
        self.kernel = kernel
        self.llvm = llvm

    @property
    def type(self) -> Any:
        """Its LLVM type."""
        return self.llvm.type

    def _other(self, other: Value | int | float) -> Any:
        return other.llvm if isinstance(other, Value) else self.kernel.constant(other, self.type).llvm

    def _binary(self, other: Value | int | float, integer: str, floating: str) -> Value:
        name = floating if is_float(self.type) else integer
        return Value(self.kernel, getattr(self.kernel.builder, name)(self.llvm, self._other(other)))

    def __add__(self, other: Value | int | float) -> Value:
        if self.type == PTR:
            offset = other.llvm if isinstance(other, Value) else ir.Constant(I64, other)
            return Value(self.kernel, self.kernel.builder.gep(self.llvm, [offset], source_etype=ir.IntType(8)))
        return self._binary(other, "add", "fadd")

    def __sub__(self, other: Value | int | float) -> Value:
        return self._binary(other, "sub", "fsub")

    def __mul__(self, other: Value | int | float) -> Value:
        return self._binary(other, "mul", "fmul")

    def __truediv__(self, other: Value | float) -> Value:
        return self._binary(other, "", "fdiv")

    def __floordiv__(self, other: Value | int) -> Value:
        return self._binary(other, "sdiv", "")

    def __mod__(self, other: Value | int) -> Value:
        return self._binary(other, "srem", "")

    def __and__(self, other: Value | int) -> Value:
        return self._binary(other, "and_", "")

    def __or__(self, other: Value | int) -> Value:
        return self._binary(other, "or_", "")

    def __lshift__(self, other: int) -> Value:
        return self._binary(other, "shl", "")

    def __rshift__(self, other: int) -> Value:
        return self._binary(other, "lshr", "")

    def _compare(self, symbol: str, other: Value | int | float) -> Value:
        emit = self.kernel.builder.fcmp_ordered if is_float(self.type) else self.kernel.builder.icmp_signed
        return Value(self.kernel, emit(symbol, self.llvm, self._other(other)))

    def __lt__(self, other: Value | int | float) -> Value:
        return self._compare("<", other)

    def __le__(self, other: Value | int | float) -> Value:
        return self._compare("<=", other)

    def __gt__(self, other: Value | int | float) -> Value:
        return self._compare(">", other)

    def __ge__(self, other: Value | int | float) -> Value:
        return self._compare(">=", other)

    def below(self, other: Value) -> Value:
        """Whether 0 <= self < other, in one unsigned comparison."""
        return Value(self.kernel, self.kernel.builder.icmp_unsigned("<", self.llvm, self._other(other)))

    def equals(self, other: Value | int | float) -> Value:
        """False where either side is NaN."""
        return self._compare("==", other)

    def differs(self, other: Value | int | float) -> Value:
        """True also where either side is NaN."""
        if is_float(self.type):
            return Value(self.kernel, self.kernel.builder.fcmp_unordered("!=", self.llvm, self._other(other)))
        return self._compare("!=", other)


class Variable:
    """A place that loops may overwrite; LLVM turns it into a register."""

    def __init__(self, kernel: Kernel, initial: Value) -> None:
        self.kernel = kernel
        self.type = initial.type
        with kernel.builder.goto_entry_block():
            self.place = kernel.builder.alloca(self.type)
        self.set(initial)

    def get(self) -> Value:
        """What it holds now."""
        return Value(self.kernel, self.kernel.builder.load(self.place, typ=self.type))

    def set(self, value: Value) -> None:
        """Overwrites what it holds."""
        self.kernel.builder.store(value.llvm, self.place)


class Kernel:
    """One function being written."""

    def __init__(self, name: str, target: VectorUnit) -> None:
        self.target = target
        self.module = ir.Module(name)
        self.function = ir.Function(self.module, ir.FunctionType(ir.VoidType(), [PTR]), name)
        self.builder = ir.IRBuilder(self.function.append_basic_block("entry"))
        body = self.function.append_basic_block("body")
        self.builder.branch(body)  # variables are put in front of this branch
        self.builder.position_at_end(body)
        self.arguments = Value(self, self.function.args[0])
        self._claim(ACTIVE, self.constant(1))

    def finish(self) -> str:
        """The text of the module."""
        self.builder.fence("seq_cst")  # streamed stores are ordered by nothing else
        self._claim(ACTIVE, self.constant(-1))
        self.builder.ret_void()
        return str(self.module)

    # --- scalars, vectors, memory

    def constant(self, value: float, type: Any = I64) -> Value:
        """A number, in every lane of a vector type."""
        if isinstance(type, ir.VectorType):
            return Value(self, ir.Constant(type, [ir.Constant(type.element, value)] * type.count))
        return Value(self, ir.Constant(type, value))

    def argument(self, index: int, type: Any = I64) -> Value:
        """One of the 64-bit words that the kernel is called with."""
        return self.load(self.arguments + index * 8, type)

    def load(self, place: Value, type: Any) -> Value:
        """What lies at a place; vectors may start at any element."""
        return Value(self, self.builder.load(place.llvm, typ=type, align=natural_alignment(type)))

    def store(self, value: Value, place: Value) -> None:
        """Puts a value at a place; vectors may start at any element."""
        self.builder.store(value.llvm, place.llvm, align=natural_alignment(value.type))

    def stream(self, value: Value, place: Value) -> None:
        """Stores a whole vector past the caches; the place must be a multiple of the vector's size."""
        bits = value.type.count * natural_alignment(value.type)
        store = self.builder.store(value.llvm, place.llvm, align=bits)
        store.set_metadata("nontemporal", self.module.add_metadata([ir.Constant(I32, 1)]))

    def splat(self, scalar: Value, lanes: int) -> Value:
        """A scalar in every lane."""
        vector = ir.VectorType(scalar.type, lanes)
        one = self.builder.insert_element(ir.Constant(vector, ir.Undefined), scalar.llvm, ir.Constant(I32, 0))
        return self.shuffle(Value(self, one), Value(self, one), [0] * lanes)

    def iota(self, lanes: int, type: Any = I64) -> Value:
        """0, 1, ... lanes-1."""
        return Value(self, ir.Constant(ir.VectorType(type, lanes), [ir.Constant(type, i) for i in range(lanes)]))

    def shuffle(self, a: Value, b: Value, picks: Sequence[int]) -> Value:
        """The picked lanes of a and b laid end to end."""
        mask = ir.Constant(ir.VectorType(I32, len(picks)), [ir.Constant(I32, p) for p in picks])
        return Value(self, self.builder.shuffle_vector(a.llvm, b.llvm, mask))

    def select(self, condition: Value, then: Value, otherwise: Value) -> Value:
        """Lane by lane; one condition may decide for all."""
        return Value(self, self.builder.select(condition.llvm, then.llvm, otherwise.llvm))

    def minimum(self, a: Value, b: Value | int) -> Value:
        """The smaller; of a NaN and another number, b."""
        b = b if isinstance(b, Value) else self.constant(b, a.type)
        return self.select(a < b, a, b)

    def maximum(self, a: Value, b: Value | int) -> Value:
        """The larger; of a NaN and another number, b."""
        b = b if isinstance(b, Value) else self.constant(b, a.type)
        return self.select(a > b, a, b)

    def convert(self, value: Value, type: Any) -> Value:
        """Between integer widths (signed), from integer to float, from float to integer, between float widths."""
        source, target = is_float(value.type), is_float(type)
        if source and target:
            name = "fpext" if float_bits(type) > float_bits(value.type) else "fptrunc"
        elif source or target:
            name = "sitofp" if target else "fptosi"
        else:
            name = "sext" if scalar_of(type).width > scalar_of(value.type).width else "trunc"
        return Value(self, getattr(self.builder, name)(value.llvm, type))

    def bitcast(self, value: Value, type: Any) -> Value:
        """The same bits, read as another type."""
        return Value(self, self.builder.bitcast(value.llvm, type))

    def address(self, pointer: Value) -> Value:
        """A pointer as a number."""
        return Value(self, self.builder.ptrtoint(pointer.llvm, I64))

    def pointer(self, address: Value) -> Value:
        """A number as a pointer."""
        return Value(self, self.builder.inttoptr(address.llvm, PTR))

    def intrinsic(self, name: str, result: Any, *operands: Value) -> Value:
        """Calls an LLVM intrinsic by its full name."""
        function = self.module.globals.get(name)
        if function is None:
            function = ir.Function(self.module, ir.FunctionType(result, [o.type for o in operands]), name)
        return Value(self, self.builder.call(function, [o.llvm for o in operands]))

    def fma(self, a: Value, b: Value, c: Value) -> Value:
        """a * b + c, rounded once where the machine can."""
        return self.intrinsic(f"llvm.fmuladd.{suffix(a.type)}", a.type, a, b, c)

    def floor(self, a: Value) -> Value:
        """Rounds down."""
        return self.intrinsic(f"llvm.floor.{suffix(a.type)}", a.type, a)

    def masked_load(self, place: Value, type: Any, lanes_on: Value) -> Value:
        """Lanes that are off read 0 and touch no memory."""
        name = f"llvm.masked.load.{suffix(type)}.p0"
        align = Value(self, ir.Constant(I32, natural_alignment(type)))
        return self.intrinsic(name, type, place, align, lanes_on, self.constant(0, type))

    def masked_store(self, value: Value, place: Value, lanes_on: Value) -> None:
        """Lanes that are off touch no memory."""
        name = f"llvm.masked.store.{suffix(value.type)}.p0"
        align = Value(self, ir.Constant(I32, natural_alignment(value.type)))
        self.intrinsic(name, ir.VoidType(), value, place, align, lanes_on)

    def prefetch(self, place: Value, *, write: bool = False) -> None:
        """Asks for the cache line at a place that may lie anywhere, even outside the tensor."""
        how = (Value(self, ir.Constant(I32, c)) for c in (int(write), 3, 1))
        self.intrinsic("llvm.prefetch.p0", ir.VoidType(), place, *how)

    # --- whole-vector rearrangements

    def deinterleave(self, vectors: Sequence[Value]) -> list[Value]:
        """s vectors holding a0 b0 .. a1 b1 .. -> one vector of the a, one of the b, ..."""
        s, lanes = len(vectors), vectors[0].type.count
        return [self._pick(vectors, [(t * s + b) for t in range(lanes)]) for b in range(s)]

    def interleave(self, vectors: Sequence[Value]) -> list[Value]:
        """The inverse of `deinterleave`."""
        s, lanes = len(vectors), vectors[0].type.count
        order = [b * lanes + t for t in range(lanes) for b in range(s)]
        return [self._pick(vectors, order[m * lanes : (m + 1) * lanes]) for m in range(s)]

    def _pick(self, vectors: Sequence[Value], order: Sequence[int]) -> Value:
        """Lane t of the result is lane `order[t]` of the vectors laid end to end."""
        lanes = vectors[0].type.count
        result = vectors[0]
        if len(vectors) == 1 and list(order) == list(range(lanes)):
            return result
        for v in range(1, max(len(vectors), 2)):
            second = vectors[v] if v < len(vectors) else vectors[0]
            picks = []
            for t, source in enumerate(order):
                vector, lane = divmod(source, lanes)
                picks.append(lanes + lane if vector == v else (lane if v == 1 else t))
            result = self.shuffle(result, second, picks)
        return result

    def sums(self, vectors: Sequence[Value]) -> Value:
        """The sums over the lanes of at most as many vectors as they have lanes, as the lanes of one vector.

        A tree that adds halves of pairs of vectors. The result has the next power of two of lanes.
        """
        batch = list(vectors)
        while len(batch) & (len(batch) - 1):
            batch.append(batch[-1])
        block = batch[0].type.count  # lanes that still belong to one sum
        while len(batch) > 1:
            batch = [self._add_halves([a, b], block) for a, b in zip(batch[::2], batch[1::2], strict=True)]
            block //= 2
        total = batch[0]
        while block > 1:
            total = self._add_halves([total], block)
            block //= 2
        return total

    def _add_halves(self, vectors: Sequence[Value], block: int) -> Value:
        lanes = vectors[0].type.count
        starts = [v * lanes + b for v in range(len(vectors)) for b in range(0, lanes, block)]
        low = [start + t for start in starts for t in range(block // 2)]
        high = [pick + block // 2 for pick in low]
        a, b = vectors[0], vectors[-1]
        return self.shuffle(a, b, low) + self.shuffle(a, b, high)

    def reduced(self, vector: Value, combine: Callable[[Value, Value], Value]) -> Value:
        """All lanes combined into one number, half of them with the other half."""
        while (lanes := vector.type.count) > 1:
            halves = (range(lanes // 2), range(lanes // 2, lanes))
            vector = combine(*(self.shuffle(vector, vector, half) for half in halves))
        return self.extract(vector, 0)

    def extract(self, vector: Value, lane: int) -> Value:
        """One lane."""
        return Value(self, self.builder.extract_element(vector.llvm, ir.Constant(I32, lane)))

    def all(self, condition: Value) -> Value:
        """Whether a condition holds in every lane."""
        bits = ir.IntType(condition.type.count)
        packed = self.bitcast(condition, bits)
        return packed.equals(Value(self, ir.Constant(bits, -1)))

    # --- control flow

    def variable(self, initial: Value) -> Variable:
        """A new variable; where this stands in a loop, it is set again in every round."""
        return Variable(self, initial)

    @contextmanager
    def loop(self, start: Value | int, stop: Value | int, step: Value | int = 1) -> Iterator[Value]:
        """`for i in range(start, stop, step)`."""
        start = start if isinstance(start, Value) else self.constant(start)
        stop = stop if isinstance(stop, Value) else self.constant(stop)
        step = step if isinstance(step, Value) else self.constant(step)
        builder = self.builder
        before = builder.block
        head, body, after = (builder.append_basic_block(name) for name in ("head", "loop", "after"))
        builder.branch(head)
        builder.position_at_end(head)
        index = builder.phi(I64)
        index.add_incoming(start.llvm, before)
        builder.cbranch(builder.icmp_signed("<", index, stop.llvm), body, after)
        builder.position_at_end(body)
        yield Value(self, index)
        following = builder.add(index, step.llvm)
        index.add_incoming(following, builder.block)
        builder.branch(head)
        builder.position_at_end(after)

    @contextmanager
    def when(self, condition: Value) -> Iterator[None]:
        """`if condition:`"""
        with self.builder.if_then(condition.llvm):
            yield

    def choose(self, condition: Value, emit: Callable[[bool], None]) -> None:
        """Emits the same code twice, specialised: `emit(True)` runs where the condition holds, else `emit(False)`."""
        with self.builder.if_else(condition.llvm) as (then, otherwise):
            with then:
                emit(True)
            with otherwise:
                emit(False)

    @contextmanager
    def tasks(self) -> Iterator[Value]:
        """Each task number once, shared out among the threads that run this function, in chunks, first come first."""
        builder = self.builder
        total, chunk = self.argument(TASKS), self.argument(CHUNK)
        head, body, after = (builder.append_basic_block(name) for name in ("claim", "claimed", "finished"))
        builder.branch(head)
        builder.position_at_end(head)
        first = self._claim(COUNTER, chunk)
        builder.cbranch((first < total).llvm, body, after)
        builder.position_at_end(body)
        with self.loop(first, self.minimum(first + chunk, total)) as task:
            yield task
        builder.branch(head)
        builder.position_at_end(after)

    def scratch(self) -> Value:
        """Working memory of the thread's own."""
        ticket = self._claim(TICKET, self.constant(1))
        return self.argument(SCRATCH, PTR) + ticket * self.argument(SCRATCH_BYTES)

    def _claim(self, index: int, amount: Value) -> Value:
        place = self.arguments + index * 8
        return Value(self, self.builder.atomic_rmw("add", place.llvm, amount.llvm, "seq_cst"))


def scalar_of(type: Any) -> Any:
    """The type of a lane."""
    return type.element if isinstance(type, ir.VectorType) else type


def is_float(type: Any) -> bool:
    """Whether lanes are floating point."""
    return scalar_of(type) in (F16, F32, F64)


def float_bits(type: Any) -> int:
    """Bits in a lane of a floating type."""
    return {F16: 16, F32: 32, F64: 64}[scalar_of(type)]


def natural_alignment(type: Any) -> int:
    """The alignment of one element: vectors may start anywhere."""
    scalar = scalar_of(type)
    if scalar == PTR:
        return 8
    return (float_bits(scalar) if is_float(scalar) else max(8, scalar.width)) // 8


def suffix(type: Any) -> str:
    """How LLVM spells a type in the name of an intrinsic: v16f32."""
    scalar = scalar_of(type)
    name = f"f{float_bits(scalar)}" if is_float(scalar) else f"i{scalar.width}"
    return f"v{type.count}{name}" if isinstance(type, ir.VectorType) else name
