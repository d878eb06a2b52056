"""What the rounding error of a multilinear operator is measured against: the sum of the absolute values of its terms.

An operator that is a plain sum of products (a convolution, an interpolation, CARAFE's reassembly) needs no second
formula for that sum: it is the operator itself, evaluated on absolute values. The same holds for its gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from opbench.schema import Dims, Tensors, Terms

Definition = Callable[[Dims, Tensors, bool], torch.Tensor]
Magnitude = Callable[[Dims, Tensors, torch.Tensor | None], dict[str, Terms]]


def multilinear(definition: Definition, counts: Callable[[Dims], Mapping[str, int]]) -> Magnitude:
    """The `magnitude` of an operator that is linear in each of its tensors.

    `definition` is the operator's own, or its twin with absolute constants where its constants are negative
    (bicubic). `counts(dims)` gives, for "output" and for the gradient of each named tensor, the number of products
    summed into one element (the largest over the elements).
    """

    def magnitude(dims: Dims, tensors: Tensors, grad_output: torch.Tensor | None) -> dict[str, Terms]:
        count = counts(dims)
        absolute = {name: tensor.detach().abs() for name, tensor in tensors.items()}
        if grad_output is None:
            with torch.no_grad():
                return {"output": Terms(definition(dims, absolute, False), count["output"])}
        with torch.enable_grad():
            for tensor in absolute.values():
                tensor.requires_grad_()
            output = definition(dims, absolute, True)
            totals = torch.autograd.grad(output, list(absolute.values()), grad_output.detach().abs())
        gradients = {name: Terms(total, count[name]) for name, total in zip(absolute, totals, strict=True)}
        return {"output": Terms(output.detach(), count["output"]), **gradients}

    return magnitude
