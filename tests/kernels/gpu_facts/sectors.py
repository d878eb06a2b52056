"""What programs ask of memory: distinct sectors of 32 bytes, by the addresses that Triton's interpreter sees.

Two figures, both exact. *Distinct* sectors of a program, summed over programs: what passes between the L2 and an L1
that keeps what its program has read, and nothing for the next one. *Asked* sectors of a warp's instruction, summed over
instructions: what the L1 answers. The latter takes a layout for each access, by where it stands in the source.

Runs where kernels are interpreted (TRITON_INTERPRET=1).
"""

import inspect
import sys
from collections import defaultdict
from contextlib import contextmanager

import numpy as np

from gpu_facts import layouts

SECTOR = 32
# Where forward keeps what backward reads, and sums that are rounded later: no part of a problem's least traffic.
BESIDE = ("stats", "sums")


def of_programs(problem, tile, accesses, numbers=None):
    """For each program of one image (or those numbered) its distinct bytes by tensor; and the bytes asked by warps.

    `tile` are the blocks of the candidate; `accesses` those of the IR it was compiled to, [] where nobody asks. Returns
    {"programs": {number: {tensor: bytes}}, "asked": bytes, "count": programs of an image, "least": bytes}.

    A program of CARAFE's takes many blocks of channels, which lie whole sectors apart: each asks for as much as the one
    before it. One and two of them are interpreted, and what the second adds stands for each of the others.
    """
    whole, one = problem.launch(), problem.launch(images=1, device="cpu")
    more, count = whole.programs(tile)
    count //= problem.shape[0]
    numbers = range(count) if numbers is None else [number % count for number in numbers]
    given = {**one.tensors, **one.arguments, **more, **one.constants, **tile}
    trace = _Trace(one.tensors, accesses)
    alike = more.get("steps", 1) > 2 and problem.operator == "carafe"
    found, asked = {}, []
    for steps in (1, 2) if alike else (more.get("steps"),):
        if steps is not None:
            given["steps"] = steps
        before = trace.asked
        for number in _interpreted(one.kernel, (count,), numbers, given, trace):
            found.setdefault(number, []).append(trace.finished())
        asked.append(trace.asked - before)
    times = more["steps"] - 1 if alike else 0

    def all_steps(of_one, of_two):
        return of_one + times * (of_two - of_one)

    programs = {
        number: {name: all_steps(size, made[-1][name]) for name, size in made[0].items()}
        for number, made in found.items()
    }
    touched = {name for program in programs.values() for name in program} - set(BESIDE)
    least = sum(trace.bytes_of[name] for name in touched)
    return {"programs": programs, "asked": all_steps(asked[0], asked[-1]), "count": count, "least": least}


class _Trace:
    """Gathers the accesses of a program."""

    def __init__(self, tensors, accesses):
        spans = {}
        for name, tensor in tensors.items():
            if tensor.numel():
                spans.setdefault(tensor.untyped_storage().data_ptr(), (name, tensor.untyped_storage().nbytes()))
        self.starts = np.array(sorted(spans), dtype=np.uint64)
        self.names = [spans[int(start)][0] for start in self.starts]
        self.bytes_of = dict(spans.values())
        self.by_place = defaultdict(list)
        for access in accesses:
            self.by_place[access.file].append(access)
        self.holders = {}
        self.asked = 0
        self.seen = []

    def access(self, kind, pointers, mask):
        """One load, store or atomic of a tile."""
        kept = np.broadcast_to(mask, pointers.shape)
        sectors = pointers[kept] // SECTOR
        self.seen.append(np.unique(sectors))
        if self.by_place and pointers.size > 1:
            self._ask(kind, pointers, kept)

    def finished(self):
        """Distinct bytes of the program by tensor; the next one begins."""
        sectors = np.unique(np.concatenate(self.seen)) * np.uint64(SECTOR) if self.seen else np.array([], np.uint64)
        self.seen = []
        owners = np.searchsorted(self.starts, sectors + np.uint64(SECTOR - 1), side="right") - 1
        return {self.names[one]: int((owners == one).sum()) * SECTOR for one in np.unique(owners)}

    def _ask(self, kind, pointers, kept):
        access = self._found(kind, pointers.shape)
        if access is None:
            return
        key = (access.layout, access.shape)
        if key not in self.holders:
            self.holders[key] = layouts.holders(access.layout, access.shape)
        number, run = self.holders[key]
        run = max(1, min(run, layouts.WIDEST // access.bytes))
        places = np.where(kept, pointers // SECTOR, 0).ravel()[number]
        if kind == "store":
            # A thread whose elements another one has, too, does not store them.
            first = np.zeros(number.size, dtype=bool)
            first[np.unique(number, return_index=True)[1]] = True
            places = np.where(first.reshape(number.shape), places, 0)
        warps, registers, lanes = places.shape
        together = places.reshape(warps, registers // run, run * lanes)
        together.sort(axis=2)
        changes = (np.diff(together, axis=2) != 0) & (together[..., 1:] != 0)
        self.asked += SECTOR * int(changes.sum() + (together[..., 0] != 0).sum())

    def _found(self, kind, shape):
        """The IR's access at the innermost line of a kernel that is being interpreted."""
        frame = sys._getframe(3)
        while frame is not None:
            name = frame.f_code.co_filename.rpartition("/")[2]
            if name in self.by_place:
                near = [a for a in self.by_place[name] if a.kind == kind and tuple(a.shape) == tuple(shape)]
                return min(near, key=lambda a: abs(a.line - frame.f_lineno), default=None)
            frame = frame.f_back
        return None


def _interpreted(kernel, grid, numbers, given, trace):
    """Runs the programs with these numbers one after the other; yields each number when its program has run."""
    from triton.runtime import interpreter

    function = kernel.rewrite()
    wanted = inspect.getfullargspec(function).args
    executor = interpreter.GridExecutor(function, kernel.arg_names, grid)
    scope = interpreter._patch_lang(function)
    builder = interpreter.interpreter_builder
    try:
        arguments = {
            name: value if name in executor.constexprs else interpreter._implicit_cvt(value)
            for name, value in inspect.getcallargs(function, **{n: given[n] for n in wanted}).items()
        }
        builder.set_grid_dim(*grid, 1, 1)
        with _watched(builder, trace):
            for number in numbers:
                builder.set_grid_idx(number, 0, 0)
                function(**arguments)
                yield number
    finally:
        scope.restore()


@contextmanager
def _watched(builder, trace):
    load, store, atomic = builder.create_masked_load, builder.create_masked_store, builder.create_atomic_rmw

    def watched_load(pointers, mask, *rest):
        trace.access("load", pointers.data, mask.data)
        return load(pointers, mask, *rest)

    def watched_store(pointers, value, mask, *rest):
        trace.access("store", pointers.data, mask.data)
        return store(pointers, value, mask, *rest)

    def watched_atomic(operation, pointers, value, mask, *rest):
        trace.access("atomic_rmw", pointers.data, mask.data)
        return atomic(operation, pointers, value, mask, *rest)

    builder.create_masked_load, builder.create_masked_store = watched_load, watched_store
    builder.create_atomic_rmw = watched_atomic
    try:
        yield
    finally:
        del builder.create_masked_load, builder.create_masked_store, builder.create_atomic_rmw
