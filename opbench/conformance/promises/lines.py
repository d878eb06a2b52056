"""The line of the target's own file in which something happens: from a traceback, or from the operations of a call."""

from __future__ import annotations

import inspect
import linecache
import os
import re
import sys
import traceback
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from opbench.conformance.promises.findings import CodeLine
from opbench.conformance.promises.promise import LONGEST_SAID, TargetRaised
from opbench.conformance.promises.subject import Subject, difference
from opbench.errors import said
from opbench.schema import OpbenchError

# Larger results aren't kept: what shows on a large tensor is looked for on a small one.
LARGEST_KEPT = 1 << 20


def raised_in(error: BaseException, files: Collection[str]) -> CodeLine | None:
    """The innermost line of the target's file that an error passed through."""
    for frame, line in reversed(list(traceback.walk_tb(error.__traceback__))):
        if os.path.abspath(frame.f_code.co_filename) in files:
            return _line(frame.f_code.co_filename, line)
    return None


def not_judged(target: str, error: BaseException) -> OpbenchError:
    """That a target can't be judged, as a line of its own raised `error` where nobody called it.

    An error that no line of its file had to do with is the checker's own, and is raised.
    """
    source = target.rpartition(":")[0]
    file = getattr(sys.modules.get(source), "__file__", None) or source
    where = raised_in(error, (os.path.abspath(file),))
    if where is None:
        raise error
    reason = f"its line {where.line} raises {said(error, LONGEST_SAID)}: {where.text}"
    return OpbenchError(f"target {target!r}: not judged: {reason}")


def assigned_in(module: nn.Module, name: str, files: Collection[str]) -> CodeLine | None:
    """The line in which the class of `module` sets `self.name`."""
    pattern = re.compile(rf"\bself\.{re.escape(name)}\b\s*(:[^=]+)?=[^=]|['\"]{re.escape(name)}['\"]\s*,")
    for kind in type(module).__mro__:
        for number, text in _source(kind, files):
            if pattern.search(text):
                return CodeLine(inspect.getsourcefile(kind) or "", number, text.strip())
    return None


def used_in(module: nn.Module, name: str, files: Collection[str]) -> CodeLine | None:
    """The last line of the target's file that writes to `self.name`, or adds to it, in any module that has it."""
    pattern = re.compile(rf"\b{re.escape(name)}\b(\.(append|add|extend|insert|update)\(|\[.*\]\s*=|\s*\+?=[^=])")
    kinds = {id(kind): kind for one in module.modules() for kind in type(one).__mro__}
    found = None
    for kind in kinds.values():
        for number, text in _source(kind, files):
            if pattern.search(text):
                found = CodeLine(inspect.getsourcefile(kind) or "", number, text.strip())
    return found


def _source(kind: type, files: Collection[str]) -> list[tuple[int, str]]:
    """The lines of a class with their numbers, if it stands in the target's file."""
    try:
        file = inspect.getsourcefile(kind)
        if not file or os.path.abspath(file) not in files:
            return []
        texts, first = inspect.getsourcelines(kind)
    except (OSError, TypeError):
        return []
    return list(enumerate(texts, first))


def _line(file: str, line: int) -> CodeLine:
    return CodeLine(file, line, linecache.getline(file, line).strip())


# --- From the operations of a call --------------------------------------------------------------------------------


@dataclass
class Operation:
    """One operation of torch in a call: its name, the target's line that led to it, what it gave."""

    name: str
    where: CodeLine | None
    given: list[Tensor]
    version: int  # of the call's input afterwards: it counts in-place changes


@dataclass(eq=False)
class _Tape(TorchDispatchMode):
    watched: Tensor
    files: Collection[str]
    operations: list[Operation] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.settle()
        out = func(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
        kept = [tensor.detach().clone() for tensor in tensors if tensor.numel() <= LARGEST_KEPT]
        self.operations.append(Operation(str(func), self._here(), kept, self.watched._version))
        return out

    def settle(self) -> None:
        """Autograd counts an in-place change after the operation that made it has been dispatched."""
        if self.operations:
            self.operations[-1].version = self.watched._version

    def _here(self) -> CodeLine | None:
        frame: FrameType | None = sys._getframe(2)
        while frame is not None:
            if os.path.abspath(frame.f_code.co_filename) in self.files:
                return _line(frame.f_code.co_filename, frame.f_lineno)
            frame = frame.f_back
        return None


def operations(subject: Subject, module: nn.Module, x: Tensor) -> list[Operation]:
    """What a call without gradients does, in order; nothing where it can't be followed."""
    tape = _Tape(x, subject.files)
    try:
        with torch.no_grad(), tape:
            subject.call(module, x)
    except TargetRaised:
        return []
    tape.settle()
    return tape.operations


def first_line(found: Sequence[Operation], holds: Callable[[Operation], bool]) -> CodeLine | None:
    """The line of the first operation of which this holds."""
    return next((one.where for one in found if holds(one)), None)


def changes_input(subject: Subject, module: nn.Module, x: Tensor) -> CodeLine | None:
    """Where the input is written to."""
    before = x._version
    return first_line(operations(subject, module, x), lambda one: one.version != before)


def overflows(subject: Subject, module: nn.Module, x: Tensor) -> CodeLine | None:
    """Where a value first isn't finite."""
    return first_line(operations(subject, module, x), lambda one: not all(bool(t.isfinite().all()) for t in one.given))


def parts(subject: Subject, module: nn.Module, x: Tensor, other: Tensor, share: float) -> CodeLine | None:
    """Where two calls first give different values. Of `other` (1, ...) against `x` (N, ...): of the first image.

    Where the images of a batch stand elsewhere than in the first axis nothing is said of an operation.
    """
    pairs = zip(operations(subject, module, x.clone()), operations(subject, module, other.clone()), strict=False)
    for one, alone in pairs:
        if one.name != alone.name:
            return None
        for a, b in zip(one.given, alone.given, strict=False):
            whole = a.shape == b.shape
            # Images may be split over the first axis (N*g, ...): those of the first come first.
            batch = a.ndim == b.ndim > 0 and a.shape[1:] == b.shape[1:] and len(a) * len(other) == len(b) * len(x)
            if (whole or batch) and difference([a[: len(b)] if batch else a], [b], share) is not None:
                return one.where
    return None
