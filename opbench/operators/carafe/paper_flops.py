"""FLOPs per input pixel as the CARAFE paper counts them in its comparison of upsamplers (arXiv 1905.02188)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from opbench import registry
from opbench.schema import Dims
from opbench.tasks import UPSAMPLE2X

# What the paper counts besides two FLOPs per MAC: a bias as one more weight, the attention map's products singly.
_BESIDES: Mapping[str, Callable[[Dims], int]] = {
    "carafe": lambda dims: 2 * (dims["c_mid"] + 4 * dims["k_up"] ** 2 * dims["g"]),
    "spatial-attention": lambda dims: 4 * dims["C"],
}


def paper_flops(operator: str, dims: Dims) -> int:
    """FLOPs per input pixel of an operator of task `upsample2x`; `dims` needs C, for CARAFE also its own settings."""
    declared = registry.operator(UPSAMPLE2X.name, operator)
    pixel = declared.given({**dims, "N": 1, "H": 1, "W": 1})
    macs = declared.cost(pixel).macs
    besides = _BESIDES.get(operator)
    return 2 * macs + (besides(pixel) if besides else 0)
