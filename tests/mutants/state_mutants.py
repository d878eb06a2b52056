"""Right cores but for what they remember, or for the way they are called: bugs of state and of calls.

Each is an attribute of this module for CARAFE, and with `dcnv3_` before it for DCNv3:
`opbench check tests/mutants/state_mutants.py:caches_by_shape --operator carafe --first`.
`tier` says what it makes of the target: another function on ordinary calls, or a surprise on rare ones.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass

import torch

from opbench.operators.carafe.cores import shift_add
from opbench.operators.dcnv3.cores import CORES

RIGHT = {"carafe": shift_add, "dcnv3": CORES["gather"].function}


@dataclass(frozen=True)
class StateMutant:
    """A way to spoil a right core: `spoil(core)` gives one that has the bug, with a memory of its own."""

    name: str
    description: str
    spoil: Callable
    tier: str = "wrong"


STATE_MUTANTS: dict[str, StateMutant] = {}


def mutant(description, tier="wrong"):
    """Decorator: the function spoils a core."""

    def register(spoil):
        STATE_MUTANTS[spoil.__name__] = StateMutant(spoil.__name__, description, spoil, tier)
        return spoil

    return register


def hooked(out, hook):
    """The output, whose gradient goes through a hook on its way back."""
    out = out * 1
    out.register_hook(hook)
    return out


def function(name):
    """(operator, core) of a name as on the command line."""
    operator = "dcnv3" if name.startswith("dcnv3_") else "carafe"
    core = STATE_MUTANTS[name.removeprefix("dcnv3_")].spoil(RIGHT[operator])

    def carafe(x, mask, **options):
        return core(x, mask, **options)

    def dcnv3(x, offset, mask, **options):
        return core(x, offset, mask, **options)

    return operator, {"carafe": carafe, "dcnv3": dcnv3}[operator]


def shapes(tensors):
    return tuple((tuple(tensor.shape), tensor.dtype) for tensor in tensors)


# --- What a core remembers ----------------------------------------------------------------------------------------


@mutant("the output of the first call of a shape is returned for every call of that shape")
def caches_by_shape(core):
    known = {}

    def wrong(*tensors, **options):
        key = (shapes(tensors), repr(options))
        if key not in known:
            known[key] = core(*tensors, **options)
        return known[key].clone()

    return wrong


@mutant("results are remembered by the address of their inputs")
def caches_by_address(core):
    known = {}

    def wrong(*tensors, **options):
        key = (*(t.data_ptr() for t in tensors), shapes(tensors), repr(options))
        if key not in known:
            known[key] = (core(*tensors, **options), tensors)
        return known[key][0].clone()

    return wrong


@mutant("results are remembered by the identity of the input tensors")
def caches_by_identity(core):
    known = {}

    def wrong(*tensors, **options):
        key = (*map(id, tensors), repr(options))
        if key not in known:
            known[key] = (core(*tensors, **options), tensors)
        return known[key][0].clone()

    return wrong


@mutant("the last tensor of the first call of a shape is kept: a buffer that is filled once")
def keeps_the_first_mask(core):
    known = {}

    def wrong(*tensors, **options):
        last = known.setdefault((shapes(tensors), repr(options)), tensors[-1].detach().clone())
        return core(*tensors[:-1], tensors[-1] - tensors[-1].detach() + last, **options)

    return wrong


@mutant("a workspace is kept by shape and added to instead of cleared")
def accumulates_in_a_workspace(core):
    known = {}

    def wrong(*tensors, **options):
        out = core(*tensors, **options)
        key = (shapes(tensors), repr(options))
        before = known.get(key)
        known[key] = out.detach().clone()
        return out if before is None else out + before

    return wrong


@mutant("every call returns the same memory")
def returns_one_buffer(core):
    known = {}

    def wrong(*tensors, **options):
        out = core(*tensors, **options)
        if out.requires_grad:
            return out
        kept = known.setdefault((tuple(out.shape), out.dtype), torch.empty_like(out))
        return kept.copy_(out)

    return wrong


@mutant("tables are made for the first dtype and used for all of that shape")
def scale_of_the_first_call(core):
    known = []

    def wrong(*tensors, **options):
        known.append(1.0 if not known else 1.0 + 1e-3 * (shapes(tensors) == known[0]))
        if isinstance(known[0], float):
            known[0] = shapes(tensors)
            return core(*tensors, **options)
        return core(*tensors, **options) * known[-1]

    return wrong


@mutant("the second call in a row of the same shape is computed on half of the last tensor")
def wrong_every_second_time(core):
    last = [None]

    def wrong(*tensors, **options):
        again = last[0] == (shapes(tensors), repr(options))
        last[0] = None if again else (shapes(tensors), repr(options))
        return core(*tensors[:-1], tensors[-1] * (0.5 if again else 1), **options)

    return wrong


@mutant("from the tenth call on the output is a little too large")
def drifts(core):
    calls = [0]

    def wrong(*tensors, **options):
        calls[0] += 1
        return core(*tensors, **options) * (1 + 1e-3 * (calls[0] > 10))

    return wrong


@mutant("one call in seven gives another last bit: a race")
def races(core):
    calls = [0]

    def wrong(*tensors, **options):
        calls[0] += 1
        out = core(*tensors, **options)
        eps = torch.finfo(out.dtype).eps
        return out * (1 + 2 * eps) if calls[0] % 7 == 0 else out

    return wrong


@mutant("after a larger batch the first image of the next is the old one's")
def stale_after_a_larger_batch(core):
    kept = [None]

    def wrong(*tensors, **options):
        out = core(*tensors, **options)
        before, kept[0] = kept[0], out.detach().clone()
        if before is not None and len(before) > len(out) and before.shape[1:] == out.shape[1:]:
            return torch.cat([before[:1], out[1:]]) + 0 * out
        return out

    return wrong


@mutant("results are remembered by the first image of every tensor")
def caches_by_first_image(core):
    known = {}

    def wrong(*tensors, **options):
        first = tuple(t[:1].detach().double().sum().item() for t in tensors)
        key = (shapes(tensors), first, repr(options))
        if key not in known or any(t.requires_grad for t in tensors):
            known[key] = core(*tensors, **options)
        return known[key].clone()

    return wrong


@mutant("results are remembered by the last tensor alone")
def caches_by_last_tensor(core):
    known = {}

    def wrong(*tensors, **options):
        key = (shapes(tensors), tensors[-1].detach().double().sum().item(), repr(options))
        if key not in known or any(t.requires_grad for t in tensors):
            known[key] = core(*tensors, **options)
        return known[key].clone()

    return wrong


@mutant("every sixteenth call returns the output of the one before")
def sixteenth_call_is_the_one_before(core):
    calls, last = [0], [None]

    def wrong(*tensors, **options):
        calls[0] += 1
        out, before = core(*tensors, **options), last[0]
        last[0] = out.detach().clone()
        if calls[0] % 16 == 0 and before is not None and before.shape == out.shape:
            return out * 0 + before * (1 + 1e-6)
        return out

    return wrong


@mutant("a call that is interrupted leaves its scale behind")
def scale_left_by_an_interrupt(core):
    scale = [1.0]

    def wrong(*tensors, **options):
        factor = scale[0]
        scale[0] = 1.5
        try:
            out = core(*tensors, **options)
        except Exception:
            scale[0] = 1.0
            raise
        scale[0] = 1.0
        return out * factor

    return wrong


# --- The way it is called -----------------------------------------------------------------------------------------


@mutant("without gradients the fast path leaves out the last channel")
def fast_path_without_gradients(core):
    def wrong(*tensors, **options):
        out = core(*tensors, **options)
        if torch.is_grad_enabled() or out.shape[1] < 2:
            return out if torch.is_grad_enabled() else out * 0.999
        return torch.cat([out[:, :-1], 0 * out[:, -1:]], 1)

    return wrong


@mutant("in inference mode the mask is taken to be normalised already")
def inference_mode_differs(core):
    def wrong(*tensors, **options):
        out = core(*tensors, **options)
        return out * 1.01 if torch.is_inference_mode_enabled() else out

    return wrong


@mutant("the path for inputs that ask for gradients is another function")
def gradient_path_differs(core):
    def wrong(*tensors, **options):
        out = core(*tensors, **options)
        return out * 0.99 if out.requires_grad else out

    return wrong


@mutant("backward frees what a second backward pass needs and scales it")
def second_backward_differs(core):
    def wrong(*tensors, **options):
        out = core(*tensors, **options)
        if not out.requires_grad:
            return out
        passes = [0]

        def scaled(gradient):
            passes[0] += 1
            return gradient * passes[0]

        return hooked(out, scaled)

    return wrong


@mutant("two graphs share what they save: the later call's is used for both")
def graphs_share_saved_tensors(core):
    saved = {}

    class Shared(torch.autograd.Function):
        @staticmethod
        def forward(ctx, key, *inputs):
            ctx.key = key
            saved[key] = [tensor.detach() for tensor in inputs]
            return core(*saved[key], **dict(key[1]))

        @staticmethod
        def backward(ctx, gradient):
            leaves = [tensor.clone().requires_grad_(True) for tensor in saved[ctx.key]]
            with torch.enable_grad():
                out = core(*leaves, **dict(ctx.key[1]))
            return None, *torch.autograd.grad(out, leaves, gradient)

    def wrong(*tensors, **options):
        return Shared.apply((shapes(tensors), tuple(options.items())), *tensors)

    return wrong


@mutant("the gradient of the first call of a shape is remembered")
def gradient_cached_by_shape(core):
    known = {}

    def wrong(*tensors, **options):
        out = core(*tensors, **options)
        if out.requires_grad:
            key = (shapes(tensors), repr(options))
            out = hooked(out, lambda gradient: known.setdefault(key, gradient.clone()))
        return out

    return wrong


@mutant("a gradient that is expanded (stride 0) is read as if it were contiguous")
def expanded_gradient_misread(core):
    def wrong(*tensors, **options):
        out = core(*tensors, **options)
        if out.requires_grad:
            out = hooked(out, lambda g: g * 2 if 0 in g.stride() and g.numel() > 1 else g)
        return out

    return wrong


@mutant("a gradient that isn't contiguous is read in the wrong order")
def strided_gradient_misread(core):
    def wrong(*tensors, **options):
        out = core(*tensors, **options)
        if out.requires_grad:
            out = hooked(out, lambda g: g if g.is_contiguous() else g.flip(-1))
        return out

    return wrong


@mutant("where only the last input asks for a gradient, it gets half of it")
def lone_gradient_halved(core):
    def wrong(*tensors, **options):
        out = core(*tensors, **options)
        if out.requires_grad and not tensors[0].requires_grad:
            out = hooked(out, lambda gradient: gradient / 2)
        return out

    return wrong


@mutant("a flag that a failed call set stays set")
def flag_left_by_a_failed_call(core):
    busy = [False]

    def wrong(*tensors, **options):
        again, busy[0] = busy[0], True
        out = core(*tensors, **options) * (0.5 if again else 1)
        busy[0] = False
        return out

    return wrong


@mutant("a failed call leaves its scale behind")
def scale_left_by_a_failed_call(core):
    scale = [1.0]

    def wrong(*tensors, **options):
        factor, scale[0] = scale[0], 1.25
        out = core(*tensors, **options)
        scale[0] = 1.0
        return out * factor

    return wrong


@mutant("a workspace is shared by threads")
def threads_share_a_workspace(core):
    shared = {}

    def wrong(*tensors, **options):
        shared["tensors"] = tensors
        time.sleep(0.002)  # a kernel's time
        return core(*shared["tensors"], **options)

    return wrong


@mutant("only the thread that called first is right")
def other_threads_differ(core):
    owner = []

    def wrong(*tensors, **options):
        owner.append(threading.get_ident())
        return core(*tensors, **options) * (1.0 if owner[0] == owner[-1] else 1.01)

    return wrong


@mutant("channels-last inputs are taken for contiguous ones")
def channels_last_misread(core):
    def wrong(*tensors, **options):
        x = tensors[0]
        if x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous():
            x = x.flip(-1)
        return core(x, *tensors[1:], **options)

    return wrong


@mutant("an expanded input is read beyond its memory: other images are zeros")
def expanded_input_misread(core):
    def wrong(*tensors, **options):
        x = tensors[0]
        if len(x) > 1 and x.stride(0) == 0:
            x = torch.cat([x[:1], 0 * x[1:]])
        return core(x, *tensors[1:], **options)

    return wrong


@mutant("the input is scaled in place and scaled back")
def input_scaled_in_place(core):
    def wrong(*tensors, **options):
        x = tensors[0].detach()
        out = core(*tensors, **options)
        x.mul_(3.0).div_(3.0000002 if x.dtype == torch.float64 else 3.01)
        return out

    return wrong


@mutant("raises under autocast, which nobody turned off for it", tier="fragile")
def raises_under_autocast(core):
    def wrong(*tensors, **options):
        if torch.is_autocast_enabled("cpu"):
            raise RuntimeError("mat1 and mat2 are of other types")
        return core(*tensors, **options)

    return wrong


@mutant("a batch of no images raises", tier="fragile")
def raises_on_an_empty_batch(core):
    def wrong(*tensors, **options):
        tensors[0].reshape(len(tensors[0]), -1)
        return core(*tensors, **options)

    return wrong


@mutant("where only the first input asks for a gradient, it gets twice of it")
def lone_first_gradient_doubled(core):
    def wrong(*tensors, **options):
        out = core(*tensors, **options)
        if out.requires_grad and not any(t.requires_grad for t in tensors[1:]):
            out = hooked(out, lambda gradient: 2 * gradient)
        return out

    return wrong


@mutant("the last tensor is read in the order of its memory")
def last_tensor_misread(core):
    def wrong(*tensors, **options):
        last = tensors[-1]
        return core(*tensors[:-1], last if last.is_contiguous() else last.flip(-1), **options)

    return wrong


@mutant("gradients are added to those of the pass before")
def gradients_add_up(core):
    known = {}

    def wrong(*tensors, **options):
        out = core(*tensors, **options)
        if out.requires_grad:
            key = (shapes(tensors), repr(options))

            def added(gradient):
                before = known.get(key, 0)
                known[key] = gradient.clone()
                return gradient + before

            out = hooked(out, added)
        return out

    return wrong


@mutant("the second of two graphs alive is computed on the first one's output")
def second_graph_is_the_first(core):
    alive = []

    def wrong(*tensors, **options):
        out = core(*tensors, **options)
        if out.requires_grad:
            alive[:] = [one for one in alive if one() is not None]
            if any(one().shape == out.shape for one in alive):
                return out * 1.001
            alive.append(weakref.ref(out))
        return out

    return wrong


@mutant("inputs are sorted into order by a flag that no_grad forgot to reset")
def flag_of_no_grad(core):
    flag = [False]

    def wrong(*tensors, **options):
        out = core(*tensors, **options)
        if flag[0] and torch.is_grad_enabled():
            flag[0] = False
            return out * 0.99
        flag[0] = not torch.is_grad_enabled()
        return out

    return wrong


@mutant("more than one image is refused once a single one was seen", tier="wrong")
def batch_of_the_first_call(core):
    first = {}

    def wrong(*tensors, **options):
        seen = first.setdefault((tuple(tensors[0].shape[1:]), repr(options)), len(tensors[0]))
        out = core(*tensors, **options)
        return torch.cat([out[:seen], 0 * out[seen:]])

    return wrong


# What the command line names is the wrong core, not the function that spoils one.
for _name in STATE_MUTANTS:
    globals()[_name] = function(_name)[1]
    globals()[f"dcnv3_{_name}"] = function(f"dcnv3_{_name}")[1]
