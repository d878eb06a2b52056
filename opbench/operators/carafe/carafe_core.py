"""CARAFE's reassembly alone, as it competes in the task `carafe_core`: dimensions N C H W k g s."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from opbench.operators.carafe import cost, definition
from opbench.operators.carafe.cost import COUNTING, FORMULAS
from opbench.operators.carafe.definition import PAPER
from opbench.operators.carafe.fitting import unfit
from opbench.operators.carafe.function import carafe
from opbench.operators.carafe.implementations import IMPLEMENTATIONS
from opbench.operators.common.linear_terms import multilinear
from opbench.schema import Dims, Implementation, Operator, Task, Tensors

TASK = Task(
    name="carafe_core",
    title="CARAFE reassembly alone: x (N, C, H, W), mask (N, g*k*k, s*H, s*W) -> (N, C, s*H, s*W)",
    baseline="carafe[unfold]",
    dims=("N", "C", "H", "W"),
    defaults={"k": 5, "g": 1, "s": 2},
)


class Reassembly(nn.Module):
    """`carafe` as a module without parameters: x (N, C, H, W), mask (N, g*k*k, s*H, s*W) -> (N, C, s*H, s*W)."""

    def __init__(self, kernel_size: int, group_size: int, scale_factor: int, implementation: Implementation) -> None:
        super().__init__()
        self.settings = {"kernel_size": kernel_size, "group_size": group_size, "scale_factor": scale_factor}
        self.implementation = implementation.function or implementation.name

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """The reassembly of x under mask."""
        return carafe(x, mask, **self.settings, implementation=self.implementation)


def _inputs(dims: Dims, spread: float, generator: torch.Generator) -> dict[str, Tensor]:
    N, C, H, W, k, g, s = (dims[name] for name in ("N", "C", "H", "W", "k", "g", "s"))
    x = torch.randn(N, C, H, W, generator=generator, dtype=torch.float64)
    logits = torch.randn(N, g, k * k, s * H, s * W, generator=generator, dtype=torch.float64)
    return {"x": x, "mask": logits.softmax(2).flatten(1, 2)}


def _module(dims: Dims, implementation: Implementation) -> nn.Module:
    return Reassembly(dims["k"], dims["g"], dims["s"], implementation)


def _definition(dims: Dims, tensors: Tensors, training: bool) -> Tensor:
    return definition.reassembly(
        tensors["x"], tensors["mask"], kernel_size=dims["k"], group_size=dims["g"], scale_factor=dims["s"]
    )


def _requires(dims: Dims) -> str | None:
    return unfit(dims, kernels=("k",))


OPERATOR = Operator(
    name="carafe",
    task=TASK.name,
    title="CARAFE reassembly",
    subject="CARAFE",
    source=f"{PAPER}, section 3.2",
    inputs=_inputs,
    module=_module,
    definition=_definition,
    cost=cost.core_cost,
    implementations=IMPLEMENTATIONS,
    magnitude=multilinear(_definition, cost.core_counts),
    requires=_requires,
    counting=COUNTING,
    preferred=IMPLEMENTATIONS.automatic,
    core=carafe,
    relations="opbench.operators.carafe.relations:RELATIONS",
    formulas=FORMULAS,
)
