"""Parameters and MACs of a study's network for one image, forward: slots by closed form, the rest layer by layer."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from opbench.measure.parameters import count_parameters
from opbench.study.declared import Entrant, Study, Tensors
from opbench.study.document import Contender
from opbench.study.training import build, chosen, slot_dims


def counted(study: Study, entrant: Entrant, batch: Tensors) -> Contender:
    """The contender with its counts. 1 MAC = 2 FLOPs; elementwise work (norms, activations) isn't counted."""
    operator, implementation = chosen(study, entrant)
    dims = slot_dims(study, entrant)
    network = build(study, entrant.name, seed=0).eval()
    cost = operator.cost(dims)
    slots = study.slots
    around = study.network(study.stand_in).eval()
    return Contender(
        name=entrant.name,
        operator=operator.name,
        implementation=implementation.name,
        dims=dims,
        params=count_parameters(network),
        slot_params=slots * cost.params,
        macs=_convolution_macs(around, study.inputs(batch)[:1]) + slots * cost.macs,
        slot_macs=slots * cost.macs,
        note=entrant.note,
    )


def _convolution_macs(network: nn.Module, x: Tensor) -> int:
    """Each weight of a convolution is used once per output pixel."""
    total = 0

    def add(layer: nn.Module, inputs: Any, out: Tensor) -> None:
        nonlocal total
        assert isinstance(layer, nn.Conv2d)
        total += layer.weight.numel() * math.prod(out.shape[2:])

    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(add)
    with torch.no_grad():
        network(x)
    return total
