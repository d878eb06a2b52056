"""A network's closed form: parameters and MACs as the sum over its layers, each by its kind's own formula.

A pass over meta tensors gives the shapes that each layer meets; nothing is computed. One MAC is two FLOPs; what is
elementwise (normalisation, activations, pooling, softmax, decoding boxes) is no MAC, as everywhere in opbench.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from opbench import registry

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Layer:
    """One layer of a network: its name, its kind, the shapes it meets, and what they cost by its kind's formula.

    `params` are its own; `macs` of one call. A layer that is called twice is there twice, its parameters once.
    """

    name: str
    kind: str
    input: Shape
    output: Shape
    params: int
    macs: int


@dataclass(frozen=True)
class Structure:
    """The layers that one call runs, in order, and the shape of what comes out."""

    layers: tuple[Layer, ...]
    output: Shape

    @property
    def params(self) -> int:
        """Of the layers that the call runs."""
        return sum(layer.params for layer in self.layers)

    @property
    def macs(self) -> int:
        """Of one forward call."""
        return sum(layer.macs for layer in self.layers)


def _convolution(layer: nn.Conv2d, x: Shape, out: Shape) -> tuple[int, int]:
    weights = prod(layer.kernel_size) * layer.in_channels // layer.groups * layer.out_channels
    return weights + _biases(layer), weights * out[0] * out[2] * out[3]


def _transposed(layer: nn.ConvTranspose2d, x: Shape, out: Shape) -> tuple[int, int]:
    weights = prod(layer.kernel_size) * layer.in_channels // layer.groups * layer.out_channels
    return weights + _biases(layer), weights * x[0] * x[2] * x[3]


def _linear(layer: nn.Linear, x: Shape, out: Shape) -> tuple[int, int]:
    weights = layer.in_features * layer.out_features
    return weights + _biases(layer), weights * prod(x[:-1])


def _biases(layer: nn.Module) -> int:
    return 0 if layer.bias is None else int(getattr(layer, "out_channels", getattr(layer, "out_features", 0)))


def _batch_norm(layer: nn.BatchNorm2d, x: Shape, out: Shape) -> tuple[int, int]:
    return 2 * layer.num_features * bool(layer.affine), 0


def _layer_norm(layer: nn.LayerNorm, x: Shape, out: Shape) -> tuple[int, int]:
    size = prod(layer.normalized_shape)
    return size * ((layer.weight is not None) + (layer.bias is not None)), 0


# (params, MACs) of a layer from the shapes of its input and output
Formula = Callable[[Any, Shape, Shape], tuple[int, int]]

# A layer of one of these kinds, or of a class that an operator says the formula of, or of a subclass, is counted whole,
# whatever it holds inside.
_TORCH: Mapping[type[nn.Module], Formula] = {
    nn.Conv2d: _convolution,
    nn.ConvTranspose2d: _transposed,
    nn.Linear: _linear,
    nn.BatchNorm2d: _batch_norm,
    nn.LayerNorm: _layer_norm,
}


Formulas = Mapping[type, Formula]


def formulas() -> Formulas:
    """Of torch's layers, and of the classes that operators stand for."""
    every = registry.every_operator()
    return {**_TORCH, **{kind: one.layer for one in every if one.layer is not None for kind in one.classes}}


def structure(network: nn.Module, *inputs: Tensor, layers: Formulas = MappingProxyType({})) -> Structure:
    """What a call of `network` on `inputs` runs; `layers` are formulas of the network's own classes.

    The call is on meta tensors in place of the inputs, parameters and buffers: nothing is computed, nothing changes.
    The network's operations must have shapes for those (`counting` cores do; a kernel called directly has none).

    A module that is none of `formulas` is its children and, where it holds parameters itself (a learnt scale), one
    layer of no MACs. Raises ValueError for one that holds matrices itself: what it multiplies is not known.
    """
    found: list[Layer] = []
    counted: set[int] = set()
    known = {**formulas(), **layers}
    handles = [
        part.register_forward_hook(_note(name, _formula(part, known), found, counted))
        for name, part in _outermost(network, "", known).items()
    ]
    held = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    hollow = {name: torch.empty_like(value, device="meta") for name, value in held.items()}
    try:
        with torch.no_grad():
            output = functional_call(network, hollow, tuple(torch.empty_like(value, device="meta") for value in inputs))
    finally:
        for handle in handles:
            handle.remove()
    return Structure(tuple(found), _shape(output))


def _outermost(part: nn.Module, name: str, known: Formulas) -> dict[str, nn.Module]:
    """The modules that layers are made of: those with a formula, and others that hold parameters themselves."""
    if _formula(part, known):
        return {name: part}
    own = list(part.parameters(recurse=False))
    if any(value.ndim > 1 for value in own):
        raise ValueError(
            f"{name or 'the network'}: no closed form for a {type(part).__name__}, which holds matrices "
            f"(known: {', '.join(kind.__name__ for kind in known)})"
        )
    found = {name: part} if own else {}
    for key, child in part.named_children():
        found |= _outermost(child, f"{name}.{key}" if name else key, known)
    return found


def _formula(part: nn.Module, known: Formulas) -> Formula | None:
    return next((known[kind] for kind in type(part).__mro__ if kind in known), None)


def _note(name: str, formula: Formula | None, found: list[Layer], counted: set[int]) -> Callable[..., None]:
    def note(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        x, out = _shape(inputs), _shape(output)
        own = sum(value.numel() for value in module.parameters(recurse=False))
        params, macs = formula(module, x, out) if formula else (own, 0)
        found.append(Layer(name, type(module).__name__, x, out, 0 if id(module) in counted else params, macs))
        counted.add(id(module))

    return note


def _shape(value: Any) -> Shape:
    """Of a tensor, or of the first tensor in a tuple."""
    while isinstance(value, tuple | list) and value:
        value = value[0]
    return tuple(value.shape) if isinstance(value, Tensor) else ()
