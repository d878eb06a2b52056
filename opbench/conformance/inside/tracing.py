"""A forward pass, call by call: what every call of torch was given and gave; and the same pass with values exchanged.

Calls are watched as Python makes them (TorchFunctionMode), above autograd: a value that is put in the place of another
goes through the module's own code from there on, with that code's own gradients.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from opbench.operators.common.choice import unfused

TORCH = os.path.dirname(torch.__file__)
# The call of which the module's input is the result.
INPUT = -1
# A call of torch by its place in the pass, and which of its results.
Place = tuple[int, int]


@dataclass(frozen=True)
class CallResult:
    """One tensor that a call gave: a copy of it, and the places of the tensors that it was made of.

    `file` and `line` are where the module's code made the call, in the forward of its part `owner`; `parameters` names
    those it used.
    """

    place: Place
    call: str
    value: Tensor
    made_of: tuple[Place, ...]
    parameters: tuple[str, ...]
    file: str
    line: int
    given: tuple[Any, ...] = ()
    owner: str = ""


@dataclass(frozen=True)
class Trace:
    """All of a forward pass. `returned` are the places of the tensors that the module returned."""

    events: tuple[CallResult, ...]
    returned: tuple[Place, ...]
    output: tuple[Tensor, ...]

    def of(self, place: Place) -> CallResult:
        """The event at a place."""
        return next(event for event in self.events if event.place == place)

    def before(self, places: tuple[Place, ...]) -> set[Place]:
        """Everything that these were made of, themselves included."""
        known = {event.place: event for event in self.events}
        found: set[Place] = set()
        todo = list(places)
        while todo:
            place = todo.pop()
            if place not in found:
                found.add(place)
                todo += known[place].made_of
        return found

    def behind(self, place: Place) -> set[Place]:
        """Everything that was made of it, itself included."""
        found = {place}
        for event in self.events:
            if found & set(event.made_of):
                found.add(event.place)
        return found


class _Counting(TorchFunctionMode):
    """Numbers the calls that give tensors, in the order in which they are made."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "")
        if name == "__setitem__":
            self.seen(self._number(), name, args, kwargs or {}, (args[0],))
            return result
        several = isinstance(result, (tuple, list))
        tensors = tuple(result) if several else (result,)
        if not any(isinstance(one, Tensor) for one in tensors) or name == "__get__":
            return result
        given = self.seen(self._number(), name, args, kwargs or {}, tensors)
        if not several:
            return given[0]
        return given if given != tensors else result

    def _number(self) -> int:
        self.calls += 1
        return self.calls - 1

    def seen(
        self, number: int, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], results: tuple[Any, ...]
    ) -> tuple[Any, ...]:
        """The results, or what goes on in their place."""
        raise NotImplementedError


class _Recording(_Counting):
    def __init__(self, x: Tensor, names: Mapping[int, str], owners: Mapping[int, str]) -> None:
        super().__init__()
        self.names = names
        self.owners = owners
        self.kept: list[Any] = [x]
        self.where: dict[int, Place] = {id(x): (INPUT, 0)}
        self.events = [CallResult((INPUT, 0), "input", x.detach().clone(), (), (), "", 0)]

    def seen(
        self, number: int, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], results: tuple[Any, ...]
    ) -> tuple[Any, ...]:
        given = [one for one in tree_leaves((args, dict(kwargs))) if isinstance(one, Tensor)]
        made_of = tuple(dict.fromkeys(self.where[id(one)] for one in given if id(one) in self.where))
        parameters = tuple(self.names[id(one)] for one in given if id(one) in self.names)
        file, line, owner = _caller(self.owners)
        shapes = tuple(tuple(one.shape) for one in given)
        for index, one in enumerate(results):
            if isinstance(one, Tensor):
                self.kept.append(one)  # so that no other tensor gets its id
                self.where[id(one)] = (number, index)
                value = one.detach().clone()
                place = (number, index)
                self.events.append(CallResult(place, name, value, made_of, parameters, file, line, shapes, owner))
        return results


class _Exchanging(_Counting):
    def __init__(self, exchanged: Mapping[Place, Tensor], wanted: Place) -> None:
        super().__init__()
        self.exchanged = exchanged
        self.wanted = wanted

    def seen(
        self, number: int, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], results: tuple[Any, ...]
    ) -> tuple[Any, ...]:
        given = list(results)
        for index, one in enumerate(results):
            other = self.exchanged.get((number, index))
            if other is not None:
                if one.shape != other.shape:
                    raise NotImplementedError(
                        f"the module can't be called so: {name} gives {tuple(one.shape)}, not {tuple(other.shape)}"
                    )
                changes = args and one is args[0]
                given[index] = one.copy_(other) if changes else other
            if (number, index) == self.wanted:
                raise _Reached(given[index])
        return tuple(given)


class _Reached(BaseException):
    """The tensor that was asked for; the rest of the pass isn't needed. No Exception: the module shall not catch it."""

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.value = value


def recorded(module: nn.Module, x: Tensor) -> Trace:
    """One forward pass without gradients. What the module raises is raised."""
    names = {id(value): name for name, value in module.named_parameters()}
    owners = {id(part): name for name, part in module.named_modules()}
    with torch.no_grad(), unfused(), _Recording(x, names, owners) as recording:
        out = module(x)
    leaves = tuple(one for one in tree_leaves(out) if isinstance(one, Tensor))
    returned = tuple(recording.where[id(one)] for one in leaves if id(one) in recording.where)
    return Trace(tuple(recording.events), returned, tuple(one.detach() for one in leaves))


def exchanged(module: nn.Module, x: Tensor, values: Mapping[Place, Tensor], wanted: Place) -> Tensor:
    """The tensor at `wanted` of a pass in which these values take the places of the module's own.

    NotImplementedError where the module has other shapes there, or does not get there.
    """
    # Copies: a module may do with its own intermediate values as it likes.
    values = {place: value.clone() for place, value in values.items()}
    given = values.pop((INPUT, 0), x)
    try:
        with unfused(), _Exchanging(values, wanted):
            module(given)
    except _Reached as reached:
        return reached.value
    raise NotImplementedError("the module can't be called so: it takes another way through its code")


def _caller(owners: Mapping[int, str]) -> tuple[str, int, str]:
    """The innermost line that belongs neither to torch nor to this package, and the part of the module it runs in."""
    frame: FrameType | None = sys._getframe(1)
    file, line = "", 0
    while frame is not None:
        name = frame.f_code.co_filename
        if not name.startswith(TORCH) and "opbench/conformance/inside" not in name and not name.startswith("<"):
            if not file:
                file, line = name, frame.f_lineno
            first = frame.f_locals.get(frame.f_code.co_varnames[0]) if frame.f_code.co_argcount else None
            if id(first) in owners:
                return file, line, owners[id(first)]
        frame = frame.f_back
    return file, line, ""
