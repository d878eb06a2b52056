"""MACs counted by torch's FlopCounterMode and by fvcore, each taught the operators it misses.

What a counter claims to count must equal the closed form exactly; what it has no formula for is listed with how often
it ran, never dropped. One MAC is two FLOPs: FlopCounterMode reports FLOPs and is halved, fvcore reports MACs.

Cores are counted through the operator's `counting` implementation, one dispatched operation that computes nothing,
so a count costs no more than the module's own convolutions. The *stock* figures are what the same counters say of the
measured implementation without any help: what a person sees who doesn't use opbench.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import torch

from opbench import registry
from opbench.build import Built, build
from opbench.measure.parameters import count_parameters
from opbench.measure.traffic import count_traffic
from opbench.schema import DEFAULT_RUNTIME, Case, Counted, Counts, Operator

Formula = Callable[[Sequence[Any]], int]

# Operations that move, reshape or allocate: they multiply nothing, so a counter that skips them misses nothing.
_FREE_NAMES = """
    view _unsafe_view reshape permute transpose t expand slice select unsqueeze squeeze squeeze_ unsqueeze_ detach alias
    clone copy_ contiguous _to_copy to as_strided split split_with_sizes chunk unbind cat stack flatten unflatten size
    movedim pixel_shuffle pixel_unshuffle constant_pad_nd index_put slice_backward select_backward type_as numpy_T
    empty empty_like empty_strided zeros zeros_like ones ones_like full full_like arange lift_fresh fill_ zero_
    new_zeros new_empty new_empty_strided new_full upsample_nearest2d upsample_nearest2d_backward
"""
_FREE = frozenset(_FREE_NAMES.split())


def _convolution_backward(arguments: Sequence[Any]) -> int:
    """Each of the two gradients of a convolution takes as many MACs as the convolution.

    torch's own formula takes the weight's gradient for a dense one, whatever the groups: 9 C^2 MACs a pixel too many
    for a depthwise 3x3.
    """
    grad_output, x, weight = arguments[:3]
    transposed, wanted = arguments[7], arguments[10]
    pixels = x if transposed else grad_output
    return int(math.prod(pixels) * math.prod(weight[1:]) * sum(wanted[:2]))


# Operations of torch that neither counter has a formula for and that may hold multiply-accumulates: what a counter sees
# beside them is a part of the MACs. The others that they miss (activations, norms, sums) hold none.
_MULTIPLYING_NAMES = """
    mul mul_ addcmul addcmul_ lerp lerp_ grid_sampler grid_sampler_2d grid_sampler_2d_backward fft_fft2
    upsample_bilinear2d upsample_bilinear2d_backward upsample_bicubic2d upsample_bicubic2d_backward
"""
_MULTIPLYING = frozenset(_MULTIPLYING_NAMES.split())

# What torch's counter has a formula for that is wrong.
CORRECTED: Mapping[str, Formula] = {"aten::convolution_backward": _convolution_backward}


def count(case: Case, built: Built) -> Counts:
    """Counts one call of the case (training: forward and backward): MACs three ways, and its traffic."""
    operator = built.operator
    cost = operator.cost(registry.given(case))
    torch_saw, fvcore_saw = _aided(case, operator)
    itemsize = built.inputs[0].element_size()
    blind = None
    if registry.opaque(case, operator):
        bypasses = "compiled code" if case.runtime == DEFAULT_RUNTIME else case.runtime
        blind = Counted(macs=None, note=f"{bypasses} bypasses the counters")
    stock_torch, dispatched = (blind, None) if blind else _heard_by_torch(built, {})
    return Counts(
        params=count_parameters(built.module),
        macs=cost.macs_of(case.mode),
        min_bytes=cost.elements * itemsize,
        torch=torch_saw,
        fvcore=fvcore_saw,
        stock_torch=stock_torch,
        stock_fvcore=blind or by_fvcore(built, {}),
        dispatched=dispatched,
        traffic_bytes=count_traffic(built),
    )


def contradiction(counts: Counts) -> str:
    """Which counter contradicts the closed form, and how; "" where none does.

    A counter that missed nothing which may multiply must see the very same MACs; no counter may see more.
    """
    for name, seen in (("torch's counter", counts.torch), ("fvcore", counts.fvcore)):
        if seen.macs is None or seen.macs == counts.macs:
            continue
        if seen.macs > counts.macs or not any(map(_may_multiply, seen.unaccounted)):
            return f"its closed form says {counts.macs} MACs, {name} sees {seen.macs}"
    return ""


def _may_multiply(name: str) -> bool:
    parts = name.replace("::", ".").split(".")
    return "aten" not in parts or parts[-1] in _MULTIPLYING


def _aided(case: Case, operator: Operator) -> tuple[Counted, Counted]:
    """What both counters see of the operator, taught what they miss: in float32 on the CPU, as shapes decide it."""
    same = {"device": "cpu", "dtype": "float32", "runtime": DEFAULT_RUNTIME}
    if operator.counting is not None:
        same["implementation"] = ""
    text = msgspec.json.encode(msgspec.structs.replace(case, **same))
    return _counted(text, operator.module, operator.counting, tuple(operator.formulas.items()))


@functools.lru_cache(maxsize=64)
def _counted(case: bytes, *declared: Any) -> tuple[Counted, Counted]:
    """Once for all implementations and dtypes of a workload: at large sizes it takes seconds."""
    one = msgspec.json.decode(case, type=Case)
    operator = registry.operator(one.task, one.operator)
    built = build(one, operator.counting)
    return by_torch(built, {**CORRECTED, **operator.formulas}), by_fvcore(built, operator.formulas)


def by_torch(built: Built, formulas: Mapping[str, Formula]) -> Counted:
    """What FlopCounterMode sees of one call, with the given formulas added to its own."""
    return _heard_by_torch(built, formulas)[0]


def _heard_by_torch(built: Built, formulas: Mapping[str, Formula]) -> tuple[Counted, dict[str, int]]:
    """What FlopCounterMode sees of one call, and every operation that was dispatched, with how often."""
    from torch.utils.flop_counter import FlopCounterMode  # here, as it imports Triton, and plans need neither

    mapping = {_packet(name): _torch_formula(formula) for name, formula in formulas.items()}
    counter = FlopCounterMode(display=False, custom_mapping=mapping)
    with counter, _CalledOperations(frozenset(str(packet) for packet in counter.flop_registry)) as heard:
        _call(built)
    flops = counter.get_total_flops()
    missed = {name: n for name, n in heard.dispatched.items() if name not in heard.known and not _is_free(name)}
    return Counted(macs=flops // 2, unaccounted=dict(sorted(missed.items()))), dict(sorted(heard.dispatched.items()))


def by_fvcore(built: Built, formulas: Mapping[str, Formula]) -> Counted:
    """What fvcore's FlopCountAnalysis sees of one forward call, with the given formulas added to its own."""
    if built.case.mode == "training":
        return Counted(macs=None, note="fvcore counts forward calls only")
    try:
        from fvcore.nn import FlopCountAnalysis
    except ImportError:
        return Counted(macs=None, note="fvcore is not installed")

    analysis = FlopCountAnalysis(built.module, built.inputs)
    for name, formula in formulas.items():
        analysis.set_op_handle(name, _fvcore_handle(formula))
    # It counts normalisation as MACs; here that is elementwise work, reported apart (as unaccounted).
    for name in ("aten::batch_norm", "aten::layer_norm", "aten::group_norm", "aten::instance_norm"):
        analysis._op_handles.pop(name, None)
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        total = int(analysis.total())
        missed = {name: int(n) for name, n in sorted(analysis.unsupported_ops().items()) if not _is_free(name)}
    return Counted(macs=total, unaccounted=missed)


class _CalledOperations(torch.utils._python_dispatch.TorchDispatchMode):
    """Counts calls by operation. `known` are those that the counter has a formula for."""

    def __init__(self, known: frozenset[str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.known = known
        self.dispatched: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.dispatched[str(func.overloadpacket)] += 1
        return func(*args, **(kwargs or {}))


def _is_free(name: str) -> bool:
    return name.replace("::", ".").rsplit(".", 1)[-1] in _FREE


def _call(built: Built) -> None:
    if built.grad_output is None:
        with torch.no_grad():
            built.module(*built.inputs)
    else:
        # backward(), not grad(): the counter's hooks on leaf inputs refuse the latter.
        built.module(*built.inputs).backward(built.grad_output)
        for leaf in built.leaves():
            leaf.grad = None


def _packet(name: str) -> Any:
    namespace, _, op = name.partition("::")
    return getattr(getattr(torch.ops, namespace), op)


def _torch_formula(formula: Formula) -> Callable[..., int]:
    def flops(*args: Any, out_val: Any = None, **kwargs: Any) -> int:
        shapes = [tuple(a.shape) if isinstance(a, torch.Tensor) else a for a in args]
        return 2 * formula(shapes)

    flops._get_raw = True  # type: ignore[attr-defined]  # FlopCounterMode then passes tensors, not shapes
    return flops


def _fvcore_handle(formula: Formula) -> Callable[[list[Any], list[Any]], int]:
    def macs(inputs: list[Any], outputs: list[Any]) -> int:
        return formula([_from_trace(value) for value in inputs])

    return macs


def _from_trace(value: Any) -> Any:
    kind = value.type().kind()
    if kind == "TensorType":
        return tuple(value.type().sizes())
    return value.toIValue()
