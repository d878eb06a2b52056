"""Modules that bear an operator's name and do without what makes it: offsets dropped, masks that nobody reads."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from opbench.anatomy import Anatomy
from opbench.conformance.inside.finding import Search
from opbench.conformance.inside.layouts import parts
from opbench.conformance.inside.tracing import INPUT, Trace
from opbench.conformance.raised import WHAT_A_TARGET_RAISES

# Calls that take several tensors and neither weigh nor move one by another.
_JOINING = frozenset(
    (
        "add", "iadd", "radd", "sub", "isub", "rsub", "cat", "concat", "concatenate", "stack", "hstack", "vstack",
        "view_as", "reshape_as", "expand_as", "type_as", "setitem", "copy", "maximum", "minimum", "broadcast_tensors",
    )
)  # fmt: skip


def fake(name: str, anatomy: Anatomy, module: nn.Module, x: Tensor, search: Search) -> str:
    """Why a module can't be the operator, whatever it computes; "" where nothing says so."""
    x = x.to(search.trace.events[0].value)
    dead = _dead(module, x)
    for by_name in (True, False):
        for role in anatomy.predicted:
            layers = _predicting(role, anatomy, dead, search, by_name=by_name)
            if layers:
                told = " and ".join(layers)
                role = role if by_name else " or ".join(anatomy.predicted)
                return (
                    f"{name} is a fake: its {role}, from {told}, does not reach the output: changing it changes nothing"
                )
    if _is_affine(module, x):
        return (
            f"{name} is a fake: its output is an affine function of its input, as a plain convolution's is: no "
            f"{' and no '.join(anatomy.predicted)} predicted from the input takes part"
        )
    if _nothing_meets(search.trace):
        return (
            f"{name} is a fake: it is a row of plain layers, in which no {' and no '.join(anatomy.predicted)} "
            "predicted from the input weighs or moves anything"
        )
    return ""


def _nothing_meets(trace: Trace) -> bool:
    """Whether the output comes of the input by calls none of which takes two tensors made of it, but to add or join."""
    made = trace.behind((INPUT, 0))
    if not trace.returned or not made.issuperset(trace.returned):
        return False  # by ways that the trace doesn't show, such as an extension's
    return not any(
        len(made.intersection(event.made_of)) > 1 and event.call.strip("_") not in _JOINING
        for event in trace.events
        if event.place in made
    )


def _tensors(module: nn.Module, x: Tensor) -> list[Tensor]:
    return [one for one in tree_leaves(module(x)) if isinstance(one, Tensor) and one.is_floating_point()]


def _dead(module: nn.Module, x: Tensor) -> set[str]:
    """The parameters that the output doesn't depend on."""
    named = {name: one for name, one in module.named_parameters() if one.requires_grad}
    try:
        total = sum(
            ((out * torch.randn_like(out)).sum() for out in _tensors(module, x) if out.requires_grad),
            start=torch.zeros((), dtype=x.dtype),
        )
        if not isinstance(total, Tensor) or not total.requires_grad:
            return set()
        gradients = torch.autograd.grad(total, list(named.values()), allow_unused=True)
    except WHAT_A_TARGET_RAISES:
        return set()
    pairs = zip(named, gradients, strict=True)
    still = {name for name, gradient in pairs if gradient is None or not bool(gradient.any())}
    return {name for name in still if not _moves(module, named[name], x)}


def _moves(module: nn.Module, parameter: Tensor, x: Tensor) -> bool:
    """Whether the output is another one with another value: a step has no gradient, and is no reason."""
    kept = parameter.detach().clone()
    with torch.no_grad():
        try:
            before = _tensors(module, x)
            parameter.copy_(torch.randn_like(kept))
            return not all(map(torch.equal, before, _tensors(module, x)))
        finally:
            parameter.copy_(kept)


def _predicting(role: str, anatomy: Anatomy, dead: set[str], search: Search, *, by_name: bool) -> list[str]:
    """The layers with dead parameters whose name, or else the size of what they give, is that of the tensor."""
    owners = dict.fromkeys(one.rpartition(".")[0] or one for one in sorted(dead))
    if by_name:
        return [owner for owner in owners if role[:4] in owner.rpartition(".")[2].lower()]
    counts = set()
    for size in search.candidates.images:
        # Whatever the settings may be: a dead tensor has no partner to be recognised by.
        for reading in anatomy.readings(*size, range(10**9), {}):
            counts.add(prod(reading.lengths[part] for part in parts(anatomy.layouts[role]) if part in reading.lengths))
    giving = [
        one.rpartition(".")[0] or one
        for event in search.trace.events
        if event.value.numel() in counts
        for one in event.parameters
    ]
    return [owner for owner in owners if owner in giving]


def _is_affine(module: nn.Module, x: Tensor) -> bool:
    other = torch.randn_like(x)
    with torch.no_grad():
        try:
            both, one, two, none = (_tensors(module, value) for value in (x + other, x, other, torch.zeros_like(x)))
        except WHAT_A_TARGET_RAISES:
            return False
    return bool(both) and all(
        float((a + d - b - c).abs().max()) <= 1e-5 * max(float(a.abs().max()), 1e-300)
        for a, b, c, d in zip(both, one, two, none, strict=True)
    )
