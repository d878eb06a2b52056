"""Memory foretold: the dispatch tracker on fake tensors names a case that is too large before it is run.

Fake tensors have shapes, strides and storages but no data, so a case of 100 GiB costs milliseconds. Nothing is drawn
and nothing computed: values can't be predicted, and code that asks for one (`.item()`) can't be foretold.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from msgspec.structs import replace

from opbench import registry
from opbench.build import TORCH_DTYPES, Built, laid_out, output_shape, trained
from opbench.measure.memory import track
from opbench.schema import Case, Memory

# The largest expansion known is unfold's in CARAFE, k*k*s*s = 100 times the least traffic at k=5 and s=2, some times
# over in training. A case whose least traffic times this fits needs no prediction, which takes time.
LARGEST_EXPANSION = 512


class Prediction(NamedTuple):
    """`needed_bytes`: inputs, parameters and the predicted peak together. None where it can't be foretold."""

    needed_bytes: int | None
    memory: Memory


def may_exceed(case: Case, limit_bytes: int) -> bool:
    """Whether the case could need more than `limit_bytes`, by its closed form."""
    elements = registry.operator(case.task, case.operator).cost(registry.given(case)).elements
    return LARGEST_EXPANSION * elements * TORCH_DTYPES[case.dtype].itemsize > limit_bytes


def predict(case: Case) -> Prediction:
    """The memory that one call of the case needs, from shapes alone."""
    if unseen := registry.opaque(case):
        return _unknown(f"{unseen} out of sight of torch's dispatcher")
    from torch._subclasses.fake_tensor import FakeTensorMode  # here: its imports take a second, and few runs need it

    try:
        with FakeTensorMode(allow_non_fake_inputs=True):
            built = _hollow(case, _drawn(case), case.device)
            memory = track(built, predicted=True)
            held = [*built.inputs, *built.module.parameters(), *built.module.buffers()]
            held += [] if built.grad_output is None else [built.grad_output]
    except Exception as error:  # a contender's code on fake tensors may raise anything; then nothing is foretold
        return _unknown(f"no prediction: {type(error).__name__}: {(str(error).splitlines() or [''])[0]}")
    assert memory.peak_bytes is not None
    held_bytes = sum(value.nbytes for value in held)
    return Prediction(held_bytes + memory.peak_bytes, replace(memory, held_bytes=held_bytes))


def _unknown(note: str) -> Prediction:
    return Prediction(None, Memory("fake-dispatch", None, None, predicted=True, note=note))


def on_meta(case: Case) -> Built:
    """The case on meta tensors, which no mode need be on for: nothing is drawn, held or computed."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode(allow_non_fake_inputs=True):
        drawn = _drawn(case)
    return _hollow(
        case,
        {name: torch.empty(value.shape, dtype=value.dtype, device="meta") for name, value in drawn.items()},
        "meta",
    )


def _like(tensor: torch.Tensor, dtype: torch.dtype, device: str) -> torch.Tensor:
    """As `Module.to` would have it: of another dtype only if it is a floating-point number."""
    return torch.empty_like(tensor, dtype=dtype if tensor.is_floating_point() else tensor.dtype, device=device)


def _drawn(case: Case) -> dict[str, torch.Tensor]:
    operator = registry.operator(case.task, case.operator)
    assert operator.inputs is not None
    return operator.inputs(registry.given(case), case.spread or 0.0, torch.Generator())


def _hollow(case: Case, drawn: Mapping[str, torch.Tensor], device: str) -> Built:
    """The case as `build` makes it, without values."""
    operator = registry.operator(case.task, case.operator)
    dtype, training = TORCH_DTYPES[case.dtype], case.mode == "training"
    dims = registry.given(case)
    tensors = {name: laid_out(_like(value, dtype, device), case.memory_format) for name, value in drawn.items()}
    with torch.device("meta"):
        module = operator.module(dims, operator.implementations[case.implementation])
    module.train(training)
    for part in module.modules():  # Module.to would swap the tensors, which fake ones refuse
        for name, parameter in part._parameters.items():
            if parameter is not None:
                empty = laid_out(_like(parameter, dtype, device), case.memory_format)
                part._parameters[name] = torch.nn.Parameter(empty, requires_grad=parameter.requires_grad)
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = _like(buffer, dtype, device)
    grad_output = None
    if training:
        values = {**tensors, **module.state_dict()}
        shape = output_shape(case, {name: value for name, value in values.items() if value.is_floating_point()})
        grad_output = laid_out(torch.empty(shape, dtype=dtype, device=device), case.memory_format)
    inputs = tuple(value.requires_grad_(training) for value in tensors.values())
    names = (*tensors, *trained(module)) if training else ()
    return Built(case, operator, module, inputs, tensors, names, grad_output)
