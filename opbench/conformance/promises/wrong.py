"""What no module may do, whatever it computes: mix images, lose parameters, forget its state."""

from __future__ import annotations

import contextlib
import copy
import pickle
from collections.abc import Callable

import torch
from torch import Tensor, nn

from opbench.conformance.promises import lines
from opbench.conformance.promises.gradients import without_gradient
from opbench.conformance.promises.leaving import left_behind
from opbench.conformance.promises.promise import Broken, Promise, TargetRaised
from opbench.conformance.promises.subject import ImageSize, Subject, difference

# Of the largest value: what rounding explains in two orders of summation, and what no mixing stays below.
ROUNDING = {torch.float64: 1e-5, torch.float32: 1e-4}
# Of the same calculation done twice.
SAME = 1e-5


def exact_dtype(subject: Subject) -> torch.dtype:
    """float64 where the module takes it, so that rounding can't be taken for a fault; else float32."""
    with contextlib.suppress(TargetRaised):
        subject.silently(subject.module(dtype=torch.float64), subject.image(subject.sizes[0], dtype=torch.float64))
        return torch.float64
    return torch.float32


def _images_apart(subject: Subject) -> Broken | None:
    dtype = exact_dtype(subject)
    for size in (size._replace(N=N) for size in subject.sizes for N in (2, 4)):
        module = subject.module(dtype=dtype)
        x = subject.image(size, dtype=dtype)
        together = subject.silently(module, x)
        for image in range(size.N):
            found = _influenced(subject, module, x, image, together, ROUNDING[dtype])
            if found:
                where = lines.parts(subject, module, x, x[:1].clone(), ROUNDING[dtype])
                return Broken(found, tuple(x.shape), where)
    return None


def _influenced(
    subject: Subject, module: nn.Module, x: Tensor, image: int, together: list[Tensor], share: float
) -> str | None:
    """How one image's output depends on the rest of its batch: on what the others hold, or on whether they are there.

    A module may refuse an image alone; that is for another promise to say.
    """
    others = 4 * torch.roll(x, 1, 0).flip(1)
    others[image] = x[image]
    outs = [index for index, out in enumerate(together) if out.ndim and len(out) == len(x)]
    got = subject.silently(module, others)
    if len(got) != len(together):
        return None
    fault = difference([got[i][image] for i in outs], [together[i][image] for i in outs], share)
    beside = "once the others are changed"
    if fault is None:
        try:
            alone = subject.silently(module, x[image : image + 1].clone())
        except TargetRaised:
            return None
        of_one = [i for i in outs if i < len(alone) and alone[i].ndim and len(alone[i]) == 1]
        fault = difference([alone[i][0] for i in of_one], [together[i][image] for i in of_one], share)
        beside = "once it comes alone"
    return f"mixes the images of a batch in evaluation: image {image}'s {fault}, {beside}" if fault else None


def _repeats(subject: Subject) -> Broken | None:
    for size in subject.sizes[:2]:
        module = subject.module()
        x = subject.image(size)
        fault = difference(subject.silently(module, x), subject.silently(module, x), SAME)
        if fault:
            where = lines.parts(subject, module, x, x, SAME)
            return Broken(
                f"answers the same call twice differently in evaluation: {fault} the second time", tuple(x.shape), where
            )
    return None


def _keeps_inputs(subject: Subject) -> Broken | None:
    for size in subject.sizes[:2]:
        for training in (False, True):
            module = subject.module(training=training)
            x = subject.image(size)
            before = x.clone()
            with torch.no_grad():
                subject.call(module, x)
            fault = difference([x], [before], 0.0)
            if fault:
                where = lines.changes_input(subject, module, before.clone())
                return Broken(f"changes its input in place: {fault.replace('output', 'x')}", tuple(x.shape), where)
    return None


def _lived(subject: Subject) -> nn.Module:
    """A module that has been trained for two calls: what those leave in it is part of its state."""
    module = subject.module(training=True)
    for call in range(2):
        with contextlib.suppress(TargetRaised):  # a batch of this size may be too small; others say so
            subject.call(module, subject.image(subject.sizes[-1], seed=call))
    return module.eval()


def _same_after(subject: Subject, what: str, copied: Callable[[nn.Module], nn.Module]) -> Broken | None:
    module = _lived(subject)
    x = subject.image(subject.sizes[0])
    subject.at(x)
    with subject.asking():  # before another call takes the place of what training left
        other = copied(module).eval()
    expected = subject.silently(module, x)
    fault = difference(subject.silently(other, x), expected, SAME)
    return Broken(f"computes something else after {what}: {fault}", tuple(x.shape)) if fault else None


def _state_dict(subject: Subject) -> Broken | None:
    def loaded(module: nn.Module) -> nn.Module:
        other = subject.module(seed=1)
        other.load_state_dict({name: copy.deepcopy(value) for name, value in module.state_dict().items()})
        return other

    return _same_after(subject, "its state dict was loaded into a new one", loaded)


def _deepcopy(subject: Subject) -> Broken | None:
    return _same_after(subject, "copy.deepcopy", copy.deepcopy)


def _pickle(subject: Subject) -> Broken | None:
    return _same_after(subject, "pickle and back", lambda module: pickle.loads(pickle.dumps(module)))


def _answers(subject: Subject) -> Broken | None:
    size: ImageSize = subject.sizes[0]
    outs = subject.silently(subject.module(), subject.image(size))
    return None if outs else Broken("returns no tensor", subject.shape)


REGISTER = "register it: self.register_buffer(name, tensor), or nn.Parameter(tensor) where it is trained"
WRONG = (
    Promise(
        "answers",
        "a call in evaluation ends and returns a tensor",
        "a call in evaluation",
        "return the tensor",
        _answers,
        compares=False,
    ),
    Promise(
        "repeatable",
        "the same call in evaluation gives the same output",
        "a second call",
        "draw random numbers only under `if self.training`, and keep no state between calls in evaluation",
        _repeats,
        compares=False,
    ),
    Promise(
        "images-apart",
        "in evaluation, an image's output does not depend on the rest of its batch",
        "a call with another batch",
        "reduce over channels and pixels only, never over axis 0; with (N, ...) folded into another axis, unfold it "
        "before you reduce",
        _images_apart,
    ),
    Promise(
        "gradients",
        "every parameter is used and gets a gradient",
        "a training step",
        "use it in forward, or delete it; if it is used, look for .detach(), .data, torch.no_grad or an argmax between "
        "it and the output",
        without_gradient,
        compares=False,
        needs_gradients=True,
    ),
    Promise(
        "inputs-kept",
        "a call leaves its input as it was",
        "a call",
        "work on a copy: x = x.clone() first, y = x + ... instead of x += ..., inplace=False in the first activation",
        _keeps_inputs,
        compares=False,
    ),
    Promise(
        "state-dict",
        "a new one with its state dict computes the same",
        "loading its state dict into a new one",
        f"what changes the output belongs in the state dict; {REGISTER}; build layers in __init__, not in forward",
        _state_dict,
    ),
    Promise(
        "deepcopy",
        "copy.deepcopy computes the same",
        "copy.deepcopy",
        "keep no result of a call in an attribute, or keep result.detach(); no generators, files or locks",
        _deepcopy,
    ),
    Promise(
        "pickle",
        "pickled and read back, it computes the same",
        "pickle.dumps and loads",
        "name the function at the top of the file instead of a lambda, and the class at the top of a file",
        _pickle,
    ),
    Promise(
        "moves",
        "everything it holds moves with it to another device or dtype",
        "a call after .to(torch.float64)",
        f"{REGISTER}; modules in a list belong in nn.ModuleList",
        left_behind,
        compares=False,
    ),
)
