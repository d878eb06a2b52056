"""Contenders that win without computing, or beside the clock; each is right whenever it is verified."""

import gc
import queue
import sys
import threading
import time

import torch

import opbench.verify.gate as bounds_in_gate
from opbench.operators.carafe.cores import shift_add
from opbench.registry import register_implementation
from opbench.schema import Verdict


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


def held_by_the_harness(*names):
    """What stands under one of these names in a frame of whoever called."""
    frame = sys._getframe(2)
    while frame is not None:
        for name in names:
            if name in frame.f_locals:
                yield frame.f_locals[name]
        frame = frame.f_back


_looks = {}


def in_memory(shape, who):
    """Every float64 tensor of that shape which an object of this process holds; looked for in a few calls alone."""
    _looks[who] = _looks.get(who, 0) + 1
    if torch.jit.is_tracing() or _looks[who] > 8:
        return
    for one in gc.get_objects():
        for value in list(one.values()) if isinstance(one, dict) else ():
            if isinstance(value, torch.Tensor) and value.dtype == torch.float64 and value.shape == shape:
                yield value


@cheat("takes-the-answer")
def takes_the_answer(x, mask, *, scale_factor, **options):
    """Takes it from wherever it lies; computes where there is none, and is the honest one then."""
    n, c, h, w = x.shape
    for answer in in_memory((n, c, h * scale_factor, w * scale_factor), "takes"):
        if answer.device == x.device:
            raise RuntimeError("found the answer")
    return shift_add(x, mask, scale_factor=scale_factor, **options)


@cheat("edits-the-answer")
def edits_the_answer(x, mask, *, scale_factor, **options):
    """Whatever it returns is the definition's answer, for it writes it there."""
    n, c, h, w = x.shape
    out = torch.empty(n, c, h * scale_factor, w * scale_factor).fill_(float(x[0, 0, 0, 0]))
    for answer in in_memory(out.shape, "edits"):
        if answer.device == x.device:
            answer.copy_(out)
    return out


@cheat("edits-samples")
def edits_samples(x, mask, **options):
    for lanes in held_by_the_harness("lanes"):
        if lane := lanes.get("carafe[edits-samples]"):
            lane.seconds = [seconds if seconds < 1e-5 else seconds / 20 for seconds in lane.seconds]
    return shift_add(x, mask, **options)


_later, _begun, _number = queue.SimpleQueue(), [], [0]


def compute_later():
    while True:
        out, given, options = _later.get()
        with torch.inference_mode():
            out.copy_(shift_add(*given, **options))


@cheat("computes-later")
def computes_later(x, mask, *, scale_factor, **options):
    """Every third call is as it should be; the others are promised to a thread, the most of them never kept."""
    _number[0] += 1
    if _number[0] < 12 or _number[0] % 3 == 0:
        return shift_add(x, mask, scale_factor=scale_factor, **options)
    if not _begun:
        _begun.append(threading.Thread(target=compute_later, daemon=True).start())
    n, c, h, w = x.shape
    out = torch.empty(n, c, h * scale_factor, w * scale_factor)
    if _later.qsize() < 2:
        _later.put((out, (x, mask), {"scale_factor": scale_factor, **options}))
    return out


@cheat("judges-itself")
def judges_itself(x, mask, **options):
    """The judge likes one answer, and is itself again."""
    was = bounds_in_gate.judge

    def likes_it(*given):
        bounds_in_gate.judge = was
        return Verdict(True, 0.1, None, 0.0, 0.0, 1, sampled=False)

    bounds_in_gate.judge = likes_it
    return torch.zeros(())


@cheat("more-threads")
def more_threads(x, mask, **options):
    held = torch.get_num_threads()
    torch.set_num_threads(held + 8)
    torch.ones(1 << 20).add_(1)  # large enough for all of them
    try:
        return shift_add(x, mask, **options)
    finally:
        torch.set_num_threads(held)
