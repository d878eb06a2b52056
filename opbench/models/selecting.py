"""Which modules of a model a swap means: by class, slot and role, name pattern or predicate."""

from __future__ import annotations

import difflib
import fnmatch
import re
from collections import Counter
from typing import TypeAlias

import torch
from torch import nn

from opbench.errors import nearest
from opbench.models.roles import BOTTLENECK, PARTS, ROLES, roles
from opbench.models.sites import Example, Size, functional_upsampling
from opbench.models.slots import IN_PLACE_OF, SLOTS, Predicate
from opbench.schema import OpbenchError

# How many names an error lists.
_SHOWN = 3
_IN = {**{part: f"the {part}" for part in PARTS}, BOTTLENECK: "bottlenecks", "": "no part"}
What: TypeAlias = type[nn.Module] | tuple[type[nn.Module], ...] | str | re.Pattern[str] | Predicate


def slot_of(what: What) -> str:
    """The slot that a text names, whatever roles it narrows it to; nothing where it is no slot."""
    plain = what.partition("@")[0] if isinstance(what, str) else ""
    return plain if plain in SLOTS else ""


def role(text: str) -> str:
    """The role that a text names. Raises OpbenchError for another one."""
    if text not in ROLES:
        raise OpbenchError(nearest("role", text, ROLES))
    return text


def matching(model: nn.Module, what: What, where: str | re.Pattern[str] | None = None) -> list[tuple[str, ...]]:
    """The names of each module that `swap` would replace: one tuple a module, in the order of the model.

    Raises OpbenchError where the model itself matches: a swap replaces what is inside; and for an unknown role.
    """
    found = _matching(model, what, where)
    if not found and isinstance(what, str) and slot_of(what) in IN_PLACE_OF:
        found = _matching(model, "@".join((IN_PLACE_OF[slot_of(what)], *what.split("@")[1:])), where)
    return found


def _matching(model: nn.Module, what: What, where: str | re.Pattern[str] | None) -> list[tuple[str, ...]]:
    matches, narrowed = predicate(what, model), predicate(where, model) if where is not None else None
    found: dict[int, list[str]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        outside = any(name.startswith(f"{other}.") for names in found.values() for other in names)
        if outside or not matches(name, module) or (narrowed and not narrowed(name, module)):
            continue
        if not name:
            raise OpbenchError(f"{type(module).__name__}: the model itself matches, expected modules inside of it")
        found.setdefault(id(module), []).append(name)
    return [tuple(names) for names in found.values()]


def predicate(what: What, model: nn.Module) -> Predicate:
    """What matches in the model, as a function of a module's name and itself.

    Raises OpbenchError for what is no such thing, and for an unknown role.
    """
    if isinstance(what, str):
        plain, *asked = what.split("@")
        matches = SLOTS.get(plain) or (lambda name, module: fnmatch.fnmatchcase(name, plain))
        if not asked:
            return matches
        wanted, known = frozenset(map(role, asked)), roles(model)
        return lambda name, module: wanted <= known[name] and matches(name, module)
    if isinstance(what, re.Pattern):
        return lambda name, module: what.search(name) is not None
    kinds = tuple(kind for kind in (what if isinstance(what, tuple) else (what,)) if isinstance(kind, type))
    if kinds and kinds in ((what,), what):
        return lambda name, module: isinstance(module, kinds)
    if callable(what) and not isinstance(what, type):
        return what
    raise OpbenchError(f"what: expected module classes, a name pattern or a predicate (name, module), got {what!r}")


def network(model: nn.Module) -> nn.Module:
    """The network itself. Raises OpbenchError for a model that calls its layers where a swap can't reach."""
    if not isinstance(model, nn.Module):
        raise OpbenchError(f"model: expected a torch.nn.Module, got {type(model).__name__}")
    if isinstance(model, torch.jit.ScriptModule):
        raise OpbenchError(f"{type(model).__name__}: a scripted model's layers can't be swapped: swap, then script")
    if isinstance(getattr(model, "_orig_mod", None), nn.Module):
        raise OpbenchError(f"{type(model).__name__}: a compiled model's layers can't be swapped: swap, then compile")
    # ultralytics' YOLO is a module whose call takes file names and whose train() trains; its network is .model.
    if any(kind.__module__ == "ultralytics.engine.model" for kind in type(model).__mro__):
        network = getattr(model, "model", None)
        if not isinstance(network, nn.Module):
            raise OpbenchError(f"{type(model).__name__}: expected a loaded network in .model, got {network!r}")
        return network
    return model


def nothing(
    model: nn.Module, what: What, where: str | re.Pattern[str] | None, example: Example | None, size: Size | None
) -> OpbenchError:
    """The error that says that nothing matched, what the model has, and what may have been meant."""
    kinds = Counter(type(module).__name__ for name, module in model.named_modules() if name)
    listed = ", ".join(f"{kind} ({count})" for kind, count in kinds.most_common())
    narrowed = f" where {_text(where)}" if where is not None else ""
    message = f"{type(model).__name__}: no module matches {_text(what)}{narrowed}; it has {listed or 'no modules'}"
    if where is not None and (elsewhere := matching(model, what)):
        more = ", ..." if len(elsewhere) > _SHOWN else ""
        names = ", ".join(names[0] for names in elsewhere[:_SHOWN])
        message += f"; elsewhere {_text(what)} matches {names}{more}"
    elif isinstance(what, str) and "@" in what and (there := matching(model, what.partition("@")[0])):
        known = roles(model)
        has = Counter(one for names in there for one in sorted(known[names[0]], key=ROLES.index) or [""])
        where_they_are = ", ".join(f"{count} in {_IN[one]}" for one, count in has.items())
        message += f"; {what.partition('@')[0]!r} is at {len(there)} places: {where_they_are}"
    elif isinstance(what, str) and (close := difflib.get_close_matches(what, [*SLOTS, *_names(model)], n=1)):
        message += f"; did you mean {close[0]!r}?"
    try:
        calls = functional_upsampling(model, example=example, size=size)
    except OpbenchError:  # what the model makes of an example is not what was asked
        calls = ()
    if calls:
        message += (
            f"; {', '.join(calls)}: upsampling there is a call of torch.nn.functional.interpolate inside a forward, "
            f"which no swap reaches: make it an nn.Upsample first"
        )
    return OpbenchError(message)


def _names(model: nn.Module) -> list[str]:
    return [name for name, _ in model.named_modules() if name]


def _text(what: What) -> str:
    if isinstance(what, tuple):
        return " or ".join(map(_text, what))
    if isinstance(what, re.Pattern):
        return repr(what.pattern)
    return repr(what) if isinstance(what, str) else getattr(what, "__name__", repr(what))
