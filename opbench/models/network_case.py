"""A whole network in the harness's terms: built, counted, and its deformable layers' offsets spread.

In training a call is forward and backward of the mean of its outputs: what a loss and an optimiser would add is the
same whatever was swapped.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from opbench import registry
from opbench.build import Built
from opbench.measure.macs import CORRECTED, Formula, by_torch
from opbench.models.sites import evaluate
from opbench.schema import Case, Counted, Device, DType, Implementation, Mode, OpbenchError, Operator


def cored() -> dict[type, Operator]:
    """The module classes that operators stand for, which hold a core as their `implementation`."""
    return {kind: operator for operator in registry.every_operator() for kind in operator.classes}


def operator_of(module: nn.Module, known: Mapping[type, Operator]) -> Operator | None:
    """The operator among `cored` that a module's class, or one it inherits from, stands for."""
    return next((known[kind] for kind in type(module).__mro__ if kind in known), None)


class Whole(nn.Module):
    """x -> the model's output; in training, the mean of all its outputs that need a gradient."""

    def __init__(self, model: nn.Module, training: bool) -> None:
        super().__init__()
        self.model = model.train(training)
        self.training = training

    def forward(self, x: Tensor) -> Any:
        """Raises OpbenchError in training where no output needs a gradient."""
        output = self.model(x)
        if not self.training:
            return output
        means = [leaf.float().mean() for leaf in tree_leaves(output) if isinstance(leaf, Tensor) and leaf.requires_grad]
        if not means:
            raise OpbenchError(
                f"{type(self.model).__name__}: none of its outputs needs a gradient: it can't be trained"
            )
        return torch.stack(means).sum()


def built(name: str, model: nn.Module, x: Tensor, mode: Mode, *, dtype: DType, compiles: bool = False) -> Built:
    """The model as a case ready to be called with x (N, C, H, W); a training call gives every parameter's gradient."""
    training = mode == "training"
    device: Device = "cuda" if x.device.type == "cuda" else "cpu"
    module = Whole(model, training)
    implementation = Implementation("whole", compiles=compiles)
    return Built(
        case=Case("model", "x".join(map(str, x.shape)), name, implementation.name, {}, dtype, device, mode),
        operator=Operator(
            name=name,
            task="model",
            title=name,
            source="the user's own",
            inputs=_undefined,
            module=_undefined,
            definition=_undefined,
            cost=_undefined,
            implementations={implementation.name: implementation},
        ),
        module=module,
        inputs=(x,),
        tensors={"x": x},
        differentiated=tuple(n for n, p in module.named_parameters() if p.requires_grad) if training else (),
        grad_output=torch.ones((), device=x.device) if training else None,
    )


def _undefined(*_: Any) -> Any:
    """A network is judged by its parts: it has no definition, and nothing to be built from."""
    raise NotImplementedError


# --- Counting ---------------------------------------------------------------------------------------------------


def _interpolation(taps: int) -> tuple[Formula, Formula]:
    """MACs of (x, output size, ...), and of its backward (gradient of the output, ...): `taps` an output element.

    By any factor, unlike the formulas of the task upsample2x, which fvcore has to read too.
    """
    return (
        lambda arguments: math.prod((*arguments[0][:2], *arguments[1])) * taps,
        lambda arguments: math.prod(arguments[0]) * taps,
    )


def _interpolations() -> dict[str, Formula]:
    formulas: dict[str, Formula] = {}
    for name, taps in (("nearest", 0), ("bilinear", 4), ("bicubic", 16)):
        formulas[f"aten::upsample_{name}2d"], formulas[f"aten::upsample_{name}2d_backward"] = _interpolation(taps)
    return formulas


def formulas() -> dict[str, Formula]:
    """What counters are told of: interpolation by any factor, and every operator's own operations."""
    own = {name: formula for operator in registry.every_operator() for name, formula in operator.formulas.items()}
    return {**own, **CORRECTED, **_interpolations()}


def count(whole: Built) -> tuple[Counted, Counted]:
    """What torch's counter sees of a call taught the operators it misses, and what it sees without any help.

    Shapes decide both, so that nothing is computed for them where that can be: what the counter sees without help of
    cores that were swapped in are the operations of their implementations, which are run.
    """
    # One copy for both: of a network of a hundred swapped layers it takes as long as a call.
    twin, known = copy.deepcopy(whole.module), cored()
    own: list[tuple[nn.Module, Any]] = []
    for module in twin.modules():
        operator = operator_of(module, known)
        if operator is not None and operator.counting is not None and hasattr(module, "implementation"):
            own.append((module, module.implementation))
            module.implementation = operator.counting.function  # type: ignore[assignment]
    if whole.operator.implementations[whole.case.implementation].compiles:
        taught = by_torch(_of(whole, twin), formulas())
        return taught, Counted(macs=None, note="compiled code bypasses the counters")
    taught = _by_shapes(whole, twin, formulas())
    if not own:
        return taught, _by_shapes(whole, twin, {})
    for module, implementation in own:
        module.implementation = implementation
    return taught, by_torch(_of(whole, twin), {})


def _by_shapes(whole: Built, twin: nn.Module, taught: Mapping[str, Formula]) -> Counted:
    """What torch's counter sees, on shapes alone where the network can be called so, else on the network as it is."""
    for everything in (False, True):
        held = [*twin.parameters(), *twin.buffers()]
        if everything:  # a head keeps the anchors of its last call, which go together with what reaches them
            held += [value for part in twin.modules() for value in vars(part).values() if isinstance(value, Tensor)]
        memo: dict[int, Any] = {id(value): _shape_of(value) for value in held}
        grad_output = None if whole.grad_output is None else _shape_of(whole.grad_output)
        inputs = tuple(map(_shape_of, whole.inputs))
        try:
            hollow = replace(whole, module=copy.deepcopy(twin, memo), inputs=inputs, grad_output=grad_output)
            return by_torch(hollow, taught)
        except Exception:  # whatever a network says that looks into its tensors
            continue
    return by_torch(_of(whole, twin), taught)


def _shape_of(value: Tensor) -> Tensor:
    empty = torch.empty_like(value, device="meta")
    return nn.Parameter(empty, value.requires_grad) if isinstance(value, nn.Parameter) else empty


def _of(whole: Built, module: nn.Module) -> Built:
    """The same case of another module: counting runs backward(), which leaves gradients behind."""
    return replace(whole, module=module)


# --- Offsets ----------------------------------------------------------------------------------------------------


def spread_offsets(model: nn.Module, x: Tensor, spread: float, seed: int = 0) -> int:
    """Sets every deformable layer's offset branch so that on x its offsets deviate by `spread` pixels; how many.

    A fresh module's offsets are zero: its samples lie as regularly as a convolution's, which flatters any timing.
    Layer after layer in the order of the calls, in one evaluation; on the CPU.
    """
    generator = torch.Generator().manual_seed(seed)
    done: list[nn.Module] = []

    def prepare(module: nn.Module, arguments: Sequence[Tensor]) -> None:
        if module not in done:
            done.append(module)
            spread_layer(module, arguments, spread, generator)

    layers = deformable(model)
    handles = [module.register_forward_pre_hook(prepare) for module in layers]
    try:
        if layers:
            evaluate(model.eval(), ((x,), {}))
    finally:
        for handle in handles:
            handle.remove()
    return len(done)


def deformable(model: nn.Module) -> list[nn.Module]:
    """The deformable layers of a model. A block around one is spread by that layer."""
    known = cored()
    deforming = {module for module in model.modules() if _deforms(operator_of(module, known))}
    return [module for module in model.modules() if deforming.intersection(module.modules()) == {module}]


def spread_layer(module: nn.Module, arguments: Sequence[Tensor], spread: float, generator: torch.Generator) -> None:
    """Sets one deformable layer's offset branch so that on its input its offsets deviate by `spread` pixels."""
    (given,) = arguments
    operator = operator_of(module, cored())
    first = given.permute(0, 3, 1, 2) if getattr(module, "channels_last", False) else given
    assert operator is not None
    assert operator.prepare is not None
    try:
        operator.prepare(module, operator.given({"C": first.shape[1]}), spread, generator, first)
    except ValueError as error:
        raise OpbenchError(f"{type(module).__name__}: its offsets can't be spread: {error}") from error


def _deforms(operator: Operator | None) -> bool:
    return operator is not None and operator.deformable and operator.prepare is not None


def caller(whole: Built) -> Callable[[], object]:
    """One call as it is timed."""
    module, inputs, grad_output, leaves = whole.module, whole.inputs, whole.grad_output, whole.leaves()

    def inference() -> None:
        with torch.inference_mode():
            module(*inputs)

    def training() -> None:
        torch.autograd.grad(module(*inputs), leaves, grad_output, allow_unused=True)

    return inference if grad_output is None else training
