"""How a whole network competes in a task, as an operator whose cores are what differs between implementations.

Its definition is the same network with the cores' definitions in place of every core, called on the named tensors in
whatever dtype they come in: float64 for the verdict. So what a verdict proves is the cores in their places and the
arithmetic around them at that precision. The layers between (convolutions, norms) are torch's own on both sides, and
the modules around the cores are held to written-out definitions in the tasks `upsample2x` and `conv3x3`.

Parameters are drawn like those of every operator; one forward pass in float64 on the case's own input then makes the
network behave like a trained one. Batch norms take the statistics of the activations that reach them, so that nothing
fades or blows up on the way; the offsets of every deformable layer are scaled to the stated spread on the features that
reach it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from opbench import registry
from opbench.measure.macs import CORRECTED, by_torch
from opbench.measure.parameters import count_parameters
from opbench.models.closed_form import Formulas, structure
from opbench.models.network_case import built, cored, deformable, operator_of, spread_layer
from opbench.operators.common.choice import Core
from opbench.registry import register_operator
from opbench.schema import Cost, Dims, Implementation, OpbenchError, Operator, Tensors

# For every core of a network, that of the operator whose module holds it.
COUNTING = Implementation("counting", note="allocates the cores' outputs and computes none of them")
# Evaluations with drawn roundings that the error bounds of a network are taken from.
SAMPLES = 6

# network(dims, core) -> the module, one tensor out; the core is for every module in it that holds one
Network = Callable[[Dims, str | Core], nn.Module]
Inputs = Callable[[Dims], Mapping[str, tuple[int, ...]]]


def plain(name: str = "torch", note: str = "") -> Mapping[str, Implementation]:
    """The implementations of a network without any of our cores."""
    return {name: Implementation(name, note=note)}


def image(dims: Dims) -> dict[str, tuple[int, ...]]:
    """The inputs of a network that takes a colour image."""
    return {"x": (dims["N"], 3, dims["H"], dims["W"])}


def image_of_32(dims: Dims) -> str | None:
    """Why an image doesn't halve five times, or None."""
    return None if dims["H"] % 32 == dims["W"] % 32 == 0 else f"{dims['H']} x {dims['W']} is no multiple of 32"


def no_such_size(beginning: str, dims: Dims, sizes: Mapping[tuple[int, int], str]) -> str | None:
    """Why a family has no network of this width and depth, after these words; None where it has one."""
    if (dims["width"], dims["depth"]) in sizes:
        return None
    known = ", ".join(f"{width} and {depth} ({size})" for (width, depth), size in sizes.items())
    return f"{beginning} width={dims['width']} and depth={dims['depth']} (known: {known})"


def formulas() -> dict[str, Callable[[Sequence[Any]], int]]:
    """What counters are told of: the operations of cores. Nearest interpolation copies, by whatever factor."""
    own = [(operator, registry.tasks()[operator.task].formulas) for operator in registry.every_operator()]
    counted = [(operator, shared) for operator, shared in own if operator.counting is not None]
    found = {
        name: formula
        for operator, shared in counted
        for name, formula in operator.formulas.items()
        if name not in shared
    }
    return {**found, "aten::upsample_nearest2d": lambda arguments: 0}


def filled(network: nn.Module, core_of: Callable[[Operator], Core | None]) -> nn.Module:
    """The network, every core in it replaced by that of the operator whose module holds it.

    Raises OpbenchError for an operator that has none.
    """
    known = cored()
    for part in network.modules():
        operator = operator_of(part, known)
        if operator is None or not hasattr(part, "implementation"):
            continue
        core = core_of(operator)
        if core is None:
            raise OpbenchError(
                f"{type(part).__name__}: a network of it needs core_definition and counting of operator "
                f"{operator.name!r}: one of them is missing"
            )
        part.implementation = core  # type: ignore[assignment]
    return network


def defined(network: nn.Module) -> nn.Module:
    """With the definition in place of every core."""
    return filled(network, lambda operator: operator.core_definition)


def counted(network: nn.Module) -> nn.Module:
    """With what counts, and computes nothing, in place of every core."""
    return filled(network, lambda operator: operator.counting.function if operator.counting else None)


def register_network(
    *,
    task: str,
    name: str,
    title: str,
    source: str,
    network: Network,
    inputs: Inputs,
    implementations: Mapping[str, Implementation],
    requires: Callable[[Dims], str | None],
    forget: Callable[[nn.Module], None] = lambda network: None,
    layers: Callable[[], Formulas] = dict,
    kept: Callable[[str], bool] = lambda name: False,
    closed_form: bool = True,
    subject: str = "",
) -> Operator:
    """Declares a network as an operator of a task.

    `inputs(dims)` are the shapes of its inputs by name, in call order. `forget` makes a network drop what it keeps
    from call to call (a detection head keeps its anchors), for a definition is evaluated on several devices and dtypes.
    `layers()` are formulas of its own classes, asked for when it is counted.
    `kept(name)` says of an entry of the state dict, or a module, that it stays as the network makes it. Without a
    `closed_form`, of anybody's network, MACs are what torch's counter sees of it. `subject` as in `Operator`.
    """

    @functools.lru_cache(maxsize=4)
    def skeleton(items: tuple[tuple[str, int], ...], training: bool) -> nn.Module:
        return defined(network(dict(items), "auto")).train(training)

    def definition(dims: Dims, tensors: Tensors, training: bool) -> Tensor:
        hollow = skeleton(tuple(dims.items()), training)
        forget(hollow)
        held = {key: value for key, value in tensors.items() if key not in inputs(dims)}
        # In training a batch norm updates its statistics in place: those of a copy.
        held |= {key: held[key].clone() for key, _ in hollow.named_buffers() if key in held}
        # With nothing to differentiate, nothing is kept or marked for being computed again.
        with torch.set_grad_enabled(training and torch.is_grad_enabled()):
            # Parameters that are tied have a name each in a state dict, and equal values.
            given = tuple(tensors[key] for key in inputs(dims))
            out: Tensor = functional_call(hollow, held, given, tie_weights=False)
        forget(hollow)
        return out

    @functools.lru_cache(maxsize=64)
    def cost(items: tuple[tuple[str, int], ...]) -> Cost:
        dims = dict(items)
        hollow = counted(network(dims, "auto"))
        images = [torch.empty(shape, device="meta") for shape in inputs(dims).values()]
        found = {}
        for training in (True, False):
            forget(hollow.train(training))
            found[training] = structure(hollow, *images, layers=layers())
        inference, training_call = found[False], found[True]
        elements = sum(image.numel() for image in images) + inference.params + prod(inference.output)
        # Each layer that training runs is differentiated in its input and in its weight.
        backward = 2 * training_call.macs
        return Cost(inference.params, inference.macs, backward, elements, macs_training=training_call.macs)

    @functools.lru_cache(maxsize=64)
    def seen(items: tuple[tuple[str, int], ...]) -> Cost:
        dims = dict(items)
        hollow = counted(network(dims, "auto")).eval()
        (x,) = (torch.zeros(shape) for shape in inputs(dims).values())
        macs = by_torch(built(name, hollow, x, "inference", dtype="float32"), {**CORRECTED, **formulas()}).macs or 0
        with torch.no_grad():
            elements = x.numel() + hollow(x).numel()
        params = count_parameters(hollow)
        return Cost(params, macs, 2 * macs, elements + params, derived=False)

    def drawn(dims: Dims, spread: float, generator: torch.Generator) -> dict[str, Tensor]:
        shapes = inputs(dims).items()
        return {key: torch.randn(shape, generator=generator, dtype=torch.float64) for key, shape in shapes}

    # The last network prepared, for which case: the same for every implementation, and the pass takes seconds.
    prepared: dict[tuple[object, ...], dict[str, Tensor]] = {}

    def take(module: nn.Module, dims: Dims, spread: float, generator: torch.Generator, x: Tensor) -> None:
        """The generator's seed stands for task, workload, operator and seed, and so for the input."""
        key = (*dims.items(), spread, generator.initial_seed())
        if key not in prepared:
            prepared.clear()
            exact = defined(network(dims, "auto")).double()
            own = {key: value for key, value in exact.state_dict().items() if kept(key)}
            exact.load_state_dict({**module.state_dict(), **own})
            prepare(exact, x, spread, generator, kept)
            prepared[key] = exact.state_dict()
        module.load_state_dict(prepared[key])

    def module(dims: Dims, implementation: Implementation) -> nn.Module:
        if implementation is COUNTING:
            return counted(network(dims, "auto"))
        return network(dims, implementation.function or implementation.name)

    return register_operator(
        Operator(
            name=name,
            task=task,
            title=title,
            source=source,
            subject=subject,
            inputs=drawn,
            module=module,
            definition=definition,
            cost=lambda dims: (cost if closed_form else seen)(tuple(dims.items())),
            implementations=implementations,
            samples=SAMPLES,
            prepare=take,
            requires=requires,
            counting=COUNTING,
            formulas=formulas(),
        )
    )


def prepare(
    network: nn.Module,
    x: Tensor,
    spread: float,
    generator: torch.Generator,
    kept: Callable[[str], bool] = lambda name: False,
) -> None:
    """Batch norms take the statistics of what reaches them, and deformable layers spread as asked on it.

    x (N, 3, H, W); a network of several inputs has neither, and stays as it was drawn. Modules that are `kept` stay as
    they are.
    """
    fresh = {part: name for name, part in network.eval().named_modules() if not kept(name)}
    norms = [part for part in fresh if isinstance(part, nn.BatchNorm2d)]
    layers = [part for part in deformable(network) if part in fresh]
    if not norms and not layers:
        return
    for norm in norms:
        norm.momentum = 1.0
        norm.train()
    for layer in layers:
        layer.register_forward_pre_hook(lambda layer, given: spread_layer(layer, given, spread, generator))
    with torch.no_grad():
        network(x)
