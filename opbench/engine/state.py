"""State that the whole process shares: what a contender changes of it is put back and said, so that it moves no other.

`SETTINGS` is the one list of it; what Python and the system keep is in `process_state`. Every panel begins with all of
it as it was before any foreign file was loaded, and every block of calls ends with it as it began. What can't be put
back costs the process, and him who changed it: the panel is measured again without him, in another one.
"""

from __future__ import annotations

import _thread
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn.modules import module as modules

from opbench.engine.process_state import PROCESS_SETTINGS, Setting


def _cannot(value: object) -> None:
    """For what has no way back."""


def _of(owner: Any, name: str) -> tuple[Callable[[], Any], Callable[[Any], None]]:
    """An attribute, read and set."""
    return lambda: getattr(owner, name), lambda value: setattr(owner, name, value)


def _device() -> Any:
    """The device that tensors are made on by default; reading torch's own answer would make a tensor."""
    context = getattr(torch._GLOBAL_DEVICE_CONTEXT, "device_context", None)
    return getattr(context, "device", None)


def _put_back_print_options(values: dict[str, Any]) -> None:
    vars(torch._tensor_str.PRINT_OPTS).update(values)


_HOOKS = [found for name, found in vars(modules).items() if name.startswith("_global_") and isinstance(found, dict)]


def _hooks() -> tuple[Any, ...]:
    return tuple(tuple(hooks.items()) for hooks in _HOOKS)


def _put_back_hooks(held: tuple[Any, ...]) -> None:
    for hooks, items in zip(_HOOKS, held, strict=True):
        hooks.clear()
        hooks.update(items)


_smallest = 2e-310  # less than the least normal number: 0 where such numbers are flushed


def _flushes() -> bool:
    return _smallest * 0.5 == 0.0


def _saved_hooks() -> Any:
    return torch._C._autograd._top_saved_tensors_default_hooks(True)


def _put_back_saved_hooks(held: Any) -> None:
    """Takes away those on top; ones that were taken away are gone for good."""
    while (top := _saved_hooks()) is not None and top != held:
        torch._C._autograd._pop_saved_tensors_default_hooks()


def _switches() -> Iterator[Setting]:
    """torch's on-off settings, each with a getter and a setter."""
    backends = torch.backends
    for name, owner, attribute in (
        ("TF32 in convolutions", backends.cudnn, "allow_tf32"),
        ("cuDNN", backends.cudnn, "enabled"),
        ("cuDNN's benchmark mode", backends.cudnn, "benchmark"),
        ("cuDNN's deterministic mode", backends.cudnn, "deterministic"),
    ):
        yield Setting(name, *_of(owner, attribute))
    for name, read, restore in (
        ("oneDNN", "_get_mkldnn_enabled", "_set_mkldnn_enabled"),
        ("NNPACK", "_get_nnpack_enabled", "_set_nnpack_enabled"),
        ("fused attention", "_get_flash_sdp_enabled", "_set_sdp_use_flash"),
        ("memory-saving attention", "_get_mem_efficient_sdp_enabled", "_set_sdp_use_mem_efficient"),
        ("plain attention", "_get_math_sdp_enabled", "_set_sdp_use_math"),
        ("the quantized engine", "_get_qengine", "_set_qengine"),
        ("threads of the backward pass", "_is_multithreading_enabled", "_set_multithreading_enabled"),
    ):
        if hasattr(torch._C, read) and hasattr(torch._C, restore):
            yield Setting(name, getattr(torch._C, read), getattr(torch._C, restore))


def _put_back_anomaly(held: tuple[bool, bool]) -> None:
    torch.set_anomaly_enabled(*held)


def _autocast() -> tuple[bool, ...]:
    return tuple(map(torch.is_autocast_enabled, ("cpu", "cuda")))


def _put_back_autocast(held: tuple[bool, ...]) -> None:
    for device, enabled in zip(("cpu", "cuda"), held, strict=True):
        torch.set_autocast_enabled(device, enabled)


SETTINGS = (
    Setting("torch's thread count", torch.get_num_threads, torch.set_num_threads),
    Setting("torch's default dtype", torch.get_default_dtype, torch.set_default_dtype),
    Setting("torch's default device", _device, torch.set_default_device),
    Setting("whether gradients are recorded", torch.is_grad_enabled, torch._C._set_grad_enabled),
    Setting("inference mode", torch.is_inference_mode_enabled, _cannot),
    Setting("anomaly detection", lambda: (torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()),
            _put_back_anomaly),
    Setting("autocast", _autocast, _put_back_autocast),
    Setting("torch's deterministic mode", torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode),
    Setting("the fill of new memory", *_of(torch.utils.deterministic, "fill_uninitialized_memory")),
    Setting("the precision of float32 products", torch.get_float32_matmul_precision,
            torch.set_float32_matmul_precision),
    *_switches(),
    Setting("whether the smallest numbers are flushed to zero", _flushes, torch.set_flush_denormal),
    Setting("how tensors are printed", lambda: dict(vars(torch._tensor_str.PRINT_OPTS)), _put_back_print_options,
            shown=False),
    Setting("hooks on every module", _hooks, _put_back_hooks, shown=False),
    Setting("modes that see every call of torch", torch._C._len_torch_function_stack, _cannot),
    Setting("modes that see every operation of torch", torch._C._len_torch_dispatch_stack, _cannot),
    Setting("hooks on what is saved for the backward pass", _saved_hooks, _put_back_saved_hooks, shown=False),
    Setting("how NumPy handles floating-point errors", np.geterr, lambda held: np.seterr(**held), shown=False),
    *PROCESS_SETTINGS,
)  # fmt: skip

# One thread may be a library's own; one more with every call is a leak, and each slows down all that follows.
LEFT_THREADS_AT_MOST = 16


class State(NamedTuple):
    """The settings' values and the number of Python's threads at one moment, however they were started."""

    values: tuple[Any, ...]
    threads: int


def threads() -> int:
    """Python's threads, however they were started."""
    return _thread._count()


class Unrestorable(Exception):  # a verdict on who changed it: the process is lost
    """Something was changed that can't be put back."""


def state() -> State:
    """The state now."""
    return State(tuple(setting.read() for setting in SETTINGS), threads())


def restore(before: State) -> list[str]:
    """Puts back what has changed since and says what that was; threads can't be put back.

    Raises `Unrestorable` where something else can't.
    """
    now = state()
    if now == before:
        return []
    changes = []
    for setting, old, new in zip(SETTINGS, before.values, now.values, strict=True):
        if old == new:
            continue
        try:
            if setting.read() == old:  # it went back with another
                continue
            setting.restore(old)
            held = setting.read() == old
        except (OSError, ValueError, RuntimeError, RecursionError):
            held = False
        what = f"{setting.name} from {old} to {new}" if setting.shown else setting.name
        if not held:
            raise Unrestorable(f"changed {what}, which can't be put back")
        changes.append(f"changed {what}; put back")
    return changes


def plain() -> None:
    """What every run begins with, whatever the machine's defaults are."""
    # A float32 convolution through TF32 is a float32 result to 10 bits: no contender may trade that silently.
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
