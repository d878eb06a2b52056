"""Whether a module moves as a whole: tensors that it holds without having registered them stay where they were."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from opbench.conformance.promises import lines
from opbench.conformance.promises.promise import Broken, TargetRaised
from opbench.conformance.promises.subject import Subject

# What nn.Module itself keeps its registered parts in.
REGISTERED = frozenset(["_parameters", "_buffers", "_modules"])
DEEPEST = 4


def left_behind(subject: Subject) -> Broken | None:
    """Tensors that stay when a module moves: told by moving it to the meta device, then by a call after a move."""
    module = subject.module()
    known = {id(parameter) for parameter in module.parameters()}
    with subject.asking():
        module.to("meta")
    loose = [(owner, name, tensor) for owner, name, tensor in held(module) if id(tensor) not in known]
    # A tensor without axes may stay on the CPU: torch takes it for a number everywhere.
    staying = [(owner, name, tensor) for owner, name, tensor in loose if tensor.device.type != "meta" and tensor.ndim]
    if staying:
        owner, name, tensor = staying[0]
        attribute = name.partition("[")[0].partition(".")[0]
        where = lines.assigned_in(owner, attribute, subject.files)
        more = f" ({len(staying) - 1} more stay, too)" if len(staying) > 1 else ""
        kind = "parameters of a module that is not registered" if isinstance(tensor, nn.Parameter) else "a plain tensor"
        return Broken(f"leaves `{name}` behind when it moves to another device: {kind}{more}", None, where)
    return _after_a_call(subject)


def _after_a_call(subject: Subject) -> Broken | None:
    """What a first call keeps (a grid, a table) must not be in the way of a call after a move."""
    size = subject.sizes[0]
    exact = subject.image(size, dtype=torch.float64)
    with contextlib.suppress(TargetRaised):
        subject.silently(subject.module(dtype=torch.float64), exact)
        module = subject.module()
        subject.silently(module, subject.image(size))
        with subject.asking():
            module.to(torch.float64)
        try:
            subject.silently(module, exact)
        except TargetRaised as raised:
            where = lines.raised_in(raised.error, subject.files)
            said = f"can't be called any more when it moves to float64 after a first call in float32: {raised}"
            return Broken(said, tuple(exact.shape), where)
    return None


def held(module: nn.Module) -> Iterator[tuple[nn.Module, str, Tensor]]:
    """Every tensor that a module holds outside of what is registered: its owner, how it is reached, itself."""
    registered = {id(one) for one in module.modules()}
    for owner in module.modules():
        kinds = [kind for kind in type(owner).__mro__ if not kind.__module__.startswith(("torch.", "builtins"))]
        places: list[Mapping[str, Any]] = [vars(owner), *(vars(kind) for kind in kinds)]
        for place in places:
            for name, value in list(place.items()):
                if name not in REGISTERED:
                    yield from ((owner, found, tensor) for found, tensor in _tensors(name, value, registered, DEEPEST))


def _tensors(name: str, value: object, registered: set[int], depth: int) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, nn.Module):
        if id(value) not in registered:
            yield from ((f"{name}.{inner}", tensor) for inner, tensor in value.state_dict(keep_vars=True).items())
    elif depth and isinstance(value, dict):
        for key, item in list(value.items()):
            yield from _tensors(f"{name}[{key!r}]", item, registered, depth - 1)
    elif depth and isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _tensors(f"{name}[{index}]", item, registered, depth - 1)
