"""Whether every parameter gets a gradient, in training or in evaluation, at some size, from some values.

One that the output is cut off from, or depends on without a gradient, is wrong. One that takes part and can't change
anything (a softmax over one entry, a product with 0) is told apart: some modules have such settings.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from opbench.conformance.promises import lines
from opbench.conformance.promises.findings import CodeLine, Shape
from opbench.conformance.promises.promise import Broken, TargetRaised
from opbench.conformance.promises.subject import Subject, difference

# Of the largest gradient of all parameters: below it, a gradient that isn't zero is one up to rounding.
LEAST = {torch.float64: 1e-10, torch.float32: 1e-6}
# In place of a share: autograd knows no way from the output to the parameter.
CUT_OFF = -1.0
MOST_NAMED = 4


@dataclass(frozen=True)
class Reached:
    """Parameters by what becomes of them, as names: `lost` are cut off, `powerless` take part and change nothing.

    The gradient of `cancelled` ones is zero up to rounding: a bias before a BatchNorm is no fault.
    """

    lost: list[str]
    powerless: list[str]
    cancelled: list[str]


def without_gradient(subject: Subject) -> Broken | None:
    """The parameters that no gradient reaches."""
    found = _reached(subject)
    if found.cancelled:
        subject.notes.append(
            f"the gradient of {_named(found.cancelled)} is zero up to rounding in training: a BatchNorm, another "
            "normalisation or a softmax behind it takes it out again; bias=False there saves it"
        )
    if not found.lost:
        return None
    one = len(found.lost) == 1
    return Broken(
        f"leaves {_counted(found.lost)} without a gradient: {'it is' if one else 'they are'} unused, or cut off from "
        "the output",
        _shape(subject),
        _declared(subject, found.lost[0]),
    )


def powerless(subject: Subject) -> Broken | None:
    """The parameters that take part in a call and can't change its output."""
    found = _reached(subject).powerless
    if not found:
        return None
    said = f"computes with {_counted(found)}, whose values don't change the output"
    return Broken(said, _shape(subject), _declared(subject, found[0]))


def _reached(subject: Subject) -> Reached:
    """A dead ReLU or a window larger than the image may hide a parameter once: then others are tried."""
    dtype = _dtype(subject)
    largest: dict[tuple[bool, str], float] = {}
    names: list[str] = []
    for attempt, size in enumerate([*subject.sizes[:3], subject.sizes[-1]]):
        for training in (True, False):
            module = subject.module(seed=attempt, training=training, dtype=dtype)
            x = subject.image(size._replace(N=4), seed=attempt, dtype=dtype)
            names = [name for name, parameter in module.named_parameters() if parameter.requires_grad]
            for name, share in _shares(subject, module, x, names).items():
                largest[training, name] = max(largest.get((training, name), CUT_OFF), share)
        if all(largest[training, name] > LEAST[dtype] for name in names for training in (True, False)):
            break
    found = Reached([], [], [])
    for name in names:
        in_training, in_evaluation = largest[True, name], largest[False, name]
        if in_training > LEAST[dtype]:
            continue
        if in_training > 0 or (name.endswith("bias") and in_evaluation > LEAST[dtype]):
            found.cancelled.append(name)
        elif in_training == CUT_OFF or _changes(subject, name, dtype):
            found.lost.append(name)
        else:
            found.powerless.append(name)
    return found


def _changes(subject: Subject, name: str, dtype: torch.dtype) -> bool:
    """Whether other values of a parameter give another output: then a gradient of zero is wrong."""
    module = subject.module(dtype=dtype)
    x = subject.image(subject.sizes[-1], dtype=dtype)
    before = subject.silently(module, x)
    with torch.no_grad():
        module.get_parameter(name).mul_(-2).add_(1)
    return difference(subject.silently(module, x), before, LEAST[dtype]) is not None


def _shape(subject: Subject) -> Shape:
    return tuple(subject.image(subject.sizes[0]._replace(N=4)).shape)


def _dtype(subject: Subject) -> torch.dtype:
    with contextlib.suppress(TargetRaised):
        x = subject.image(subject.sizes[0]._replace(N=4), dtype=torch.float64)
        subject.call(subject.module(training=True, dtype=torch.float64), x)
        return torch.float64
    return torch.float32


def _shares(subject: Subject, module: nn.Module, x: Tensor, names: Sequence[str]) -> dict[str, float]:
    """Each parameter's largest gradient, as a share of the largest of all; CUT_OFF where it takes no part."""
    generator = torch.Generator().manual_seed(7)
    with torch.enable_grad():
        outs = [out for out in subject.call(module, x) if out.requires_grad and out.numel()]
        if not outs or not names:
            return dict.fromkeys(names, CUT_OFF)
        loss = sum((out * torch.randn(out.shape, generator=generator).to(out)).sum() for out in outs)
        assert isinstance(loss, Tensor)
        held = dict(module.named_parameters())
        with subject.asking():
            gradients = torch.autograd.grad(loss, [held[name] for name in names], allow_unused=True)
    sizes = {
        name: CUT_OFF if one is None else one.abs().max().nan_to_num(1.0).item() if one.numel() else 1.0
        for name, one in zip(names, gradients, strict=True)
    }
    most = max(sizes.values())
    return {name: size / most if size > 0 else size for name, size in sizes.items()}


def _counted(names: Sequence[str]) -> str:
    return f"{'parameter' if len(names) == 1 else f'{len(names)} parameters:'} {_named(names)}"


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more


def _declared(subject: Subject, name: str) -> CodeLine | None:
    """Where the parameter, or the layer that it belongs to, is made in the target's file."""
    module = subject.module()
    parts = name.split(".")
    for end in range(len(parts) - 1, -1, -1):
        with contextlib.suppress(AttributeError):
            found = lines.assigned_in(module.get_submodule(".".join(parts[:end])), parts[end], subject.files)
            if found is not None:
                return found
    return None
