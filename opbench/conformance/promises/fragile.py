"""What surprises people later: sizes, dtypes and ways of calling that a module refuses or answers with other values."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from opbench.conformance.promises import lines
from opbench.conformance.promises.gradients import powerless
from opbench.conformance.promises.keeping import grows
from opbench.conformance.promises.promise import Broken, Promise
from opbench.conformance.promises.subject import CHANNELS_FIRST, ImageSize, Subject, difference

# Of the largest value, what a sum in few digits may cost a network of some layers.
ROUNDED = {torch.float16: 0.05, torch.bfloat16: 0.2}
# Between memory formats and modes the order of summation is all that differs.
REORDERED = 1e-3
LARGE = 100.0
RANDOM_OR_BATCH = re.compile("BatchNorm|InstanceNorm|Dropout|DropPath|DropBlock|StochasticDepth|RReLU")


def _sizes(subject: Subject) -> Broken | None:
    """Rectangles and odd sizes round the smallest square that it accepts."""
    _, _, H, W = size = subject.sizes[0]
    module = subject.module()
    for other in ((H, 2 * W), (2 * H, W), (H + 1, W + 1), (H, W + 1), (2 * H + 1, 2 * W + 3)):
        subject.silently(module, subject.image(size._replace(H=other[0], W=other[1])))
    return _proportions(subject, module, size)


def _proportions(subject: Subject, module: nn.Module, size: ImageSize) -> Broken | None:
    """Height follows height and width width, as the squares tell."""
    if subject.layout != CHANNELS_FIRST:
        return None
    large = size._replace(H=2 * size.H, W=2 * size.W)
    small_outs, large_outs = (subject.silently(module, subject.image(one)) for one in (size, large))
    for rectangle in (size._replace(W=2 * size.W), size._replace(H=2 * size.H)):
        x = subject.image(rectangle)
        for a, b, got in zip(small_outs, large_outs, subject.silently(module, x), strict=False):
            if not a.ndim == b.ndim == got.ndim == 4 or size.H != size.W:
                continue
            wide = rectangle.W > rectangle.H
            expected = (b if not wide else a).shape[2], (b if wide else a).shape[3]
            if tuple(got.shape[2:]) != expected:
                said = f"gives a rectangle another size: output {tuple(got.shape[2:])} instead of {expected}"
                return Broken(said, tuple(x.shape))
    return None


def _batch_of_one(subject: Subject) -> Broken | None:
    for training in (False, True):
        # As people train: not on the smallest image there is, but on one image.
        size = subject.sizes[min(1, len(subject.sizes) - 1)]
        module = subject.module(training=training)
        subject.silently(module, subject.image(size._replace(N=1)))
    return None


def _in_dtype(subject: Subject, dtype: torch.dtype) -> Broken | None:
    size = subject.sizes[0]
    expected = subject.silently(subject.module(), subject.image(size))
    got = subject.silently(subject.module(dtype=dtype), subject.image(size, dtype=dtype))
    return _rounded(subject, got, expected, dtype)


def _autocast(subject: Subject) -> Broken | None:
    x = subject.image(subject.sizes[0])
    module = subject.module()
    expected = subject.silently(module, x)
    with torch.autocast(x.device.type, torch.bfloat16):
        got = subject.silently(module, x)
    return _rounded(subject, got, expected, torch.bfloat16)


def _rounded(subject: Subject, got: list[Tensor], expected: list[Tensor], dtype: torch.dtype) -> Broken | None:
    """On the whole, not at its worst element: where a value decides between two others, one digit may turn it."""
    name = str(dtype).removeprefix("torch.")
    if len(got) != len(expected) or any(a.shape != b.shape for a, b in zip(got, expected, strict=True)):
        return Broken(f"gives {name} {difference(got, expected, 0.0)}", subject.shape)
    for one, other in zip(got, expected, strict=True):
        if not other.is_floating_point() or not other.isfinite().all() or not other.numel():
            continue
        if not one.isfinite().all():
            return Broken(f"gives {name} values that are not finite, where float32 gives finite ones", subject.shape)
        error, size = (one.double() - other.double()).norm().item(), other.double().norm().item()
        if error > ROUNDED[dtype] * size:
            said = f"is off by {error / size:.0%} of its output in {name}" if size else f"is not zero in {name}"
            return Broken(said, subject.shape)
    return None


def _channels_last(subject: Subject) -> Broken | None:
    if subject.layout != CHANNELS_FIRST:
        return None
    for size in subject.sizes[:2]:
        x = subject.image(size)
        module = subject.module()
        expected = subject.silently(module, x)
        fault = difference(
            subject.silently(module, x.contiguous(memory_format=torch.channels_last)), expected, REORDERED
        )
        if fault:
            return Broken(f"computes other values for a channels-last input: {fault}", tuple(x.shape))
    return None


class _NothingRandom(TorchFunctionMode):
    """Dropout passes its input through, batch norm takes its running statistics: as in evaluation."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        if "dropout" in name and "training" in kwargs:
            kwargs["training"] = False
        elif "dropout" in name:
            return args[0]
        if name == "batch_norm" and kwargs.get("running_mean", args[1] if len(args) > 1 else None) is not None:
            kwargs["training"] = False
        return func(*args, **kwargs)


def _training(subject: Subject) -> Broken | None:
    size = subject.sizes[0]
    x = subject.image(size)
    expected = subject.silently(subject.module(), x)
    module = subject.module(training=True)
    for one in module.modules():
        if RANDOM_OR_BATCH.search(type(one).__name__):
            one.eval()
    torch.manual_seed(0)
    with _NothingRandom():
        got = subject.silently(module, x)
    fault = difference(got, expected, REORDERED)
    if fault is None:
        return None
    said = f"computes something else in training than in evaluation, not counting BatchNorm and dropout: {fault}"
    return Broken(said, tuple(x.shape))


def _finite(subject: Subject) -> Broken | None:
    size = subject.sizes[0]
    module = subject.module()
    for spread in (1.0, LARGE):
        x = subject.image(size, spread=spread)
        outs = subject.silently(module, x)
        bad = sum(int((~out.isfinite()).sum()) for out in outs if out.is_floating_point())
        if bad:
            of = sum(out.numel() for out in outs)
            said = (
                f"gives {bad} of {of} values that are not finite for inputs of standard deviation {spread:g} in float32"
            )
            return Broken(said, tuple(x.shape), lines.overflows(subject, module, x))
    return None


IN_DTYPE = (
    "make every tensor with x.dtype and x.device (torch.zeros(..., device=x.device, dtype=x.dtype)); compute an "
    "exponential, a variance or a position in float32 and go back"
)


def _of_dtype(name: str, dtype: torch.dtype) -> Promise:
    find: Callable[[Subject], Broken | None] = partial(_in_dtype, dtype=dtype)
    return Promise(name, f"in {name} it computes the same up to rounding", f"a call in {name}", IN_DTYPE, find)


FRAGILE = (
    Promise(
        "sizes",
        "images of any proportions and of odd sizes are accepted",
        "a call with a rectangle or an odd size",
        "take H and W from x.shape apart from each other; pad or crop where a size doesn't divide",
        _sizes,
        compares=False,
    ),
    Promise(
        "batch-of-one",
        "a batch of one image is accepted, in evaluation and in training",
        "a call with one image",
        "no BatchNorm behind a global pooling (GroupNorm, or none), and no x.squeeze() without an axis",
        _batch_of_one,
        compares=False,
    ),
    _of_dtype("float16", torch.float16),
    _of_dtype("bfloat16", torch.bfloat16),
    Promise(
        "autocast",
        "under torch.autocast it computes the same up to rounding",
        "a call under torch.autocast(dtype=torch.bfloat16)",
        "bring both operands to one dtype before they meet: y = y.to(x.dtype)",
        _autocast,
    ),
    Promise(
        "channels-last",
        "a channels-last input gives the same values",
        "a call with a channels-last input",
        "reshape instead of view, and no arithmetic on strides",
        _channels_last,
    ),
    Promise(
        "training-as-evaluation",
        "training differs from evaluation by BatchNorm and dropout alone",
        "a call in training",
        "if it is meant, say so where people look; else leave self.training to BatchNorm and dropout",
        _training,
    ),
    Promise(
        "memory",
        "a call leaves nothing behind that the call before did not",
        "twenty calls in training",
        "keep no outputs in an attribute; if you must, keep the last one only, detached",
        grows,
        compares=False,
    ),
    Promise(
        "parameters-matter",
        "no parameter is computed with in vain",
        "a training step",
        "a softmax or a mean over one entry, or a factor of 0, takes its effect away: check the axis, or the setting",
        powerless,
        compares=False,
        needs_gradients=True,
    ),
    Promise(
        "finite",
        f"inputs of standard deviation {LARGE:g} give finite outputs in float32",
        f"a call with inputs of standard deviation {LARGE:g}",
        "softmax instead of exp over sum, a clamp before exp, an eps below a root or a quotient",
        _finite,
        compares=False,
    ),
)
