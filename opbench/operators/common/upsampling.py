"""An upsampler by two of the task `upsample2x` that is a layer of torch, as a row of what tells it from the others.

CARAFE is compared with these. Convolutions are 3x3 without bias: so its paper (arXiv 1905.02188) counts them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from opbench.operators.common.linear_terms import multilinear
from opbench.schema import Cost, Dims, Implementation, Operator, Tensors
from opbench.tasks import UPSAMPLE2X


@dataclass(frozen=True)
class Upsampler:
    """What differs between the upsamplers.

    Costs are functions of C, per input pixel. `terms` is how many products one element sums, of C and the number of
    input pixels: "output" and the gradient of each tensor; None where it is no plain sum. `absolute` is the
    definition with absolute constants, where it has negative ones. `formulas` are those of the operations that counters
    of MACs must be told.
    """

    name: str
    title: str
    module: Callable[[int], nn.Module]
    definition: Callable[[Tensors], Tensor]
    params: Callable[[int], int] = lambda C: 0
    macs: Callable[[int], int] = lambda C: 0
    macs_backward: Callable[[int], int] = lambda C: 0
    terms: Callable[[int, int], Mapping[str, int]] | None = None
    absolute: Callable[[Tensors], Tensor] | None = None
    formulas: Mapping[str, Callable[[Sequence[Any]], int]] = field(default_factory=dict)

    def operator(self) -> Operator:
        """Its declaration."""

        def cost(dims: Dims) -> Cost:
            pixels, C = dims["N"] * dims["H"] * dims["W"], dims["C"]
            return Cost(
                params=self.params(C),
                macs=pixels * self.macs(C),
                macs_backward=pixels * self.macs_backward(C),
                elements=pixels * 5 * C + self.params(C),
            )

        def magnitude_definition(dims: Dims, tensors: Tensors, training: bool) -> Tensor:
            return (self.absolute or self.definition)(tensors)

        def counts(dims: Dims) -> Mapping[str, int]:
            assert self.terms is not None
            return self.terms(dims["C"], dims["N"] * dims["H"] * dims["W"])

        return Operator(
            name=self.name,
            task=UPSAMPLE2X.name,
            title=self.title,
            source="torch; compared with CARAFE in arXiv 1905.02188",
            module=lambda dims, implementation: self.module(dims["C"]),
            definition=lambda dims, tensors, training: self.definition(tensors),
            cost=cost,
            implementations={"torch": Implementation("torch")},
            magnitude=None if self.terms is None else multilinear(magnitude_definition, counts),
            formulas=self.formulas,
        )


def conv3x3(c_in: int, c_out: int) -> nn.Conv2d:
    """The convolution before or after a rearrangement of pixels."""
    return nn.Conv2d(c_in, c_out, 3, padding=1, bias=False)
