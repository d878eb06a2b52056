"""Which operator a name in ultralytics' YAML stands for, and which class of it.

A name is matched whatever its case and underscores, with or without an ending that forks add ("CARAFE_YOLO",
"DySample_UP"): the names are those of every operator's classes and of its `aliases`. In front of one, "C2f_", "C3_",
"C3k2_", "C2_" and "Bottleneck_" are ultralytics' own blocks with the operator inside.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from opbench import registry
from opbench.schema import Operator
from opbench.tasks import SLOTS, UPSAMPLE2X

WRAPPERS = ("C2f", "C3k2", "C3", "C2", "Bottleneck")
_SUFFIXES = ("yolo", "up", "pack", "2d")


@dataclass(frozen=True)
class Line:
    """A line's name, the operator and the class that it stands for, and the block around it or nothing."""

    name: str
    operator: Operator
    wrapper: str = ""
    kind: type[nn.Module] = nn.Module

    @property
    def multiplies(self) -> int:
        """How many times the channels that it reads it makes, where it has none to be told: 1 for any other line."""
        return int(getattr(self.kind, "channels_times", 1))

    @property
    def repeats(self) -> bool:
        """Whether the line's number of repeats is an argument of the class."""
        return not self.wrapper and positional(self.kind)[2:3] == ["n"]

    @property
    def keeps_channels(self) -> bool:
        """Whether it reads one layer and keeps its channels."""
        return self.operator.task == UPSAMPLE2X.name and not self.wrapper


def named(name: str, arguments: Sequence[Any] = ()) -> Line | None:
    """The line of that name, or None where no operator has it.

    An operator's other name with no argument but the 1 of `space_to_depth, [1]` means its class that takes no channels,
    where it has one.
    """
    known = _known()
    for wrapper in ("", *WRAPPERS):
        if not name.startswith(f"{wrapper}_" if wrapper else ""):
            continue
        plain = _normal(name[len(wrapper) + 1 :] if wrapper else name)
        shorter = [plain.removesuffix(suffix) for suffix in _SUFFIXES]
        found = next((one for one in (plain, *shorter) if one in known), None)
        if found is None or (wrapper and known[found].task == UPSAMPLE2X.name):
            continue
        operator = known[found]
        kind = next((one for one in operator.classes if _normal(one.__name__) == found), operator.classes[0])
        bare = next((one for one in operator.classes if hasattr(one, "channels_times")), None)
        if bare is not None and _normal(operator.classes[0].__name__) != found and list(arguments) in ([], [1]):
            kind = bare
        return Line(name, operator, wrapper, kind)
    return None


def _known() -> dict[str, Operator]:
    """By name as it is matched. An alias goes before a class: two operators may have one of the same name."""
    found: dict[str, Operator] = {}
    every = [operator for task in SLOTS for operator in registry.operators(task).values() if operator.classes]
    for operator in every:
        for alias in operator.aliases:
            found.setdefault(_normal(alias), operator)
    for operator in every:
        for kind in operator.classes:
            found.setdefault(_normal(kind.__name__), operator)
    return found


def _normal(name: str) -> str:
    return name.lower().replace("_", "")


def positional(kind: type) -> list[str]:
    """The arguments of a class that may be given by place."""
    return [
        one.name
        for one in inspect.signature(kind).parameters.values()
        if one.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
    ]
