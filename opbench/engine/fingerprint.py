"""Whose code stands under which name: torch's functions and opbench's own, as they were before foreign code was loaded.

What a contender puts in another's place would slow down all that come after it (`F.unfold`), or judge them. A function
of torch is put back and it is said; one by which contenders are called, timed or judged is no accident.
"""

from __future__ import annotations

import builtins
import math
import operator
import os
import random
import sys
import time
from collections.abc import Iterator
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

import torch

_KINDS = (FunctionType, BuiltinFunctionType, type)
# Whose names are the judges': all of opbench, and what it keeps time and draws by.
_OWN = "opbench."
_AT_WORK = ("opbench.engine", "opbench.measure", "opbench.verify", "opbench.process")
_JUDGES = (time, math, random, operator)
_TOOLS = (torch, torch.nn.functional, torch.autograd, torch.linalg, builtins)
_TOOL_CLASSES = (torch.Tensor, torch.nn.Module, torch.autograd.Function)


class _Space:
    """One namespace: where it is, and what stood there; `judging` where that decides about contenders."""

    def __init__(self, owner: Any, judging: bool) -> None:
        self.owner, self.judging = owner, judging
        self._space = vars(owner)
        self.held = {name: one for name, one in self._space.items() if _counts(name, one, owner)}
        self._all = [*self._space.values()]
        where = owner.__module__ if isinstance(owner, type) else owner.__name__
        self.at_work = not where.startswith(_OWN) or where.startswith(_AT_WORK)

    def put_back(self) -> list[str]:
        """The names under which something else stood, unless it was torch's own code: its compiler replaces some."""
        # Names that are added come last. Compared one by one, as what stands there may say that it equals anything.
        if len(self._space) >= len(self._all) and all(map(_is, self._space.values(), self._all)):
            return []
        replaced = [name for name, one in self.held.items() if self._space.get(name) is not one]
        own = [] if self.judging else [name for name in replaced if _torch_s_own(self._space.get(name))]
        for name in replaced:
            setattr(self.owner, name, self.held[name])
        self._all = [*self._space.values()]
        title = getattr(self.owner, "__qualname__", "") or self.owner.__name__
        return [f"{title}.{name}" for name in replaced if name not in own]


class Fingerprint:
    """What stands where, at the moment when it is made. Modules that are loaded later are looked at by nobody."""

    def __init__(self) -> None:
        self._spaces = tuple(_spaces())
        functions = [one for space in self._spaces for one in space.held.values() if isinstance(one, FunctionType)]
        self._functions = tuple({id(one): one for one in functions if one.__module__.startswith(_AT_WORK)}.values())
        self._at_work = tuple(space for space in self._spaces if space.at_work)
        self._codes = tuple(map(_code, self._functions))

    def put_back(self, *, all_of_it: bool = True) -> tuple[list[str], list[str]]:
        """Puts back what has been replaced since; (the names of judges, the names of tools) that were.

        All of it takes half a millisecond: between blocks it is torch, and what is at work while contenders are timed.
        """
        judges: list[str] = []
        tools: list[str] = []
        for space in self._spaces if all_of_it else self._at_work:
            found = space.put_back()
            (judges if space.judging else tools).extend(found)
        if not all(map(_is, map(_code, self._functions), self._codes)):
            for function, code in zip(self._functions, self._codes, strict=True):
                if function.__code__ is not code:
                    function.__code__ = code
                    judges.append(f"{function.__module__}.{function.__qualname__}")
        return judges, tools


# Held from before foreign code is loaded, which may put another in its place.
_is, _code = operator.is_, operator.attrgetter("__code__")


_TORCH_S_FILES = os.path.dirname(os.path.abspath(torch.__file__)) + os.sep


def _torch_s_own(value: object) -> bool:
    return isinstance(value, FunctionType) and value.__code__.co_filename.startswith(_TORCH_S_FILES)


def _spaces() -> Iterator[_Space]:
    for module in (*_JUDGES, *_TOOLS):
        yield _Space(module, module in _JUDGES)
    for tool in _TOOL_CLASSES:
        yield _Space(tool, False)
    for name, own in sorted(sys.modules.items()):
        if name.startswith(_OWN) and isinstance(own, ModuleType):
            yield _Space(own, True)
            for one in list(vars(own).values()):
                if isinstance(one, type) and one.__module__ == name:
                    yield _Space(one, True)


def _counts(name: str, value: object, owner: object) -> bool:
    """Code, and constants by their name; what a module keeps for itself changes as it works."""
    if isinstance(value, _KINDS):
        return True
    if isinstance(owner, type):
        return not name.startswith("__") and callable(value)
    return name.isupper() and not name.startswith("_")
