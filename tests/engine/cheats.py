"""Contenders that win without computing, or beside the clock; each is right whenever it is verified."""

import time

import torch

from opbench.operators.carafe.cores import shift_add
from opbench.registry import register_implementation


def cheat(name):
    return register_implementation("carafe_core", "carafe", name)


@cheat("honest")
def honest(x, mask, **options):
    return shift_add(x, mask, **options)


_by_place, _by_values, _both = {}, {}, {}


@cheat("remembers-places")
def remembers_places(x, mask, **options):
    if torch.jit.is_tracing():
        return shift_add(x, mask, **options)
    key = (x.data_ptr(), mask.data_ptr())
    if key not in _by_place:
        _by_place[key] = shift_add(x, mask, **options)
    return _by_place[key].clone()


@cheat("remembers-values")
def remembers_values(x, mask, **options):
    if torch.jit.is_tracing():
        return shift_add(x, mask, **options)
    key = (float(x.reshape(-1)[3]), float(mask.reshape(-1)[5]))
    if key not in _by_values:
        _by_values[key] = shift_add(x, mask, **options)
    return _by_values[key].clone()


class Remembered(torch.autograd.Function):
    """Output and gradients from memory."""

    @staticmethod
    def forward(ctx, x, mask, options):
        ctx.key = (x.data_ptr(), tuple(x.shape))
        if ctx.key not in _both:
            _both[ctx.key] = [x.detach().clone(), mask.detach().clone(), options, shift_add(x, mask, **options), None]
        return _both[ctx.key][3].clone()

    @staticmethod
    def backward(ctx, grad):
        held = _both[ctx.key]
        if held[4] is None:
            with torch.enable_grad():
                x, mask = held[0].requires_grad_(), held[1].requires_grad_()
                held[4] = torch.autograd.grad(shift_add(x, mask, **held[2]), (x, mask), grad)
        return (*held[4], None)


@cheat("remembers-gradients")
def remembers_gradients(x, mask, **options):
    return shift_add(x, mask, **options) if torch.jit.is_tracing() else Remembered.apply(x, mask, options)


_calls = [0]


@cheat("garbage-between")
def garbage_between(x, mask, **options):
    _calls[0] += 1
    out = shift_add(x, mask, **options)
    return out if _calls[0] < 10 or _calls[0] % 6 == 0 else out * 3


class Promise(torch.Tensor):
    """Computes when it is looked at."""

    @staticmethod
    def __new__(cls, like, work):
        made = torch.Tensor._make_wrapper_subclass(cls, like, dtype=torch.float32)
        made.work = work
        return made

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        kept = [one.work() if isinstance(one, Promise) else one for one in args]
        return function(*kept, **(kwargs or {}))


@cheat("promises")
def promises(x, mask, *, scale_factor, **options):
    n, c, h, w = x.shape
    return Promise(
        (n, c, h * scale_factor, w * scale_factor), lambda: shift_add(x, mask, scale_factor=scale_factor, **options)
    )


_buffers = {}


@cheat("one-buffer")
def one_buffer(x, mask, **options):
    out = shift_add(x, mask, **options)
    with torch.inference_mode(False):
        held = _buffers.setdefault(tuple(out.shape), torch.empty(out.shape))
    return held.copy_(out)


_real, _saved = time.perf_counter, [0.0]


@cheat("slow-clock")
def slow_clock(x, mask, **options):
    begin = _real()
    out = shift_add(x, mask, **options)
    _saved[0] += 0.9 * (_real() - begin)
    time.perf_counter = lambda: _real() - _saved[0]
    return out
