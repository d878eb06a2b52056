"""How GSConv puts its two halves together: one function and one entry of `CORES` each.

Every core takes (first, second, *, shuffle), two halves (N, P, H, W) -> (N, 2P, H, W). With c = 0 ... 2P - 1 the
channels of first and then of second:

    "halves"   the two halves take turns: output channel 2i + t is channel i of half t
    "parity"   the other way round: first the even channels c, then the odd ones
"""

from __future__ import annotations

import torch
from torch import Tensor

from opbench.operators.common.choice import CoreTable
from opbench.schema import Implementation

SHUFFLES = ("halves", "parity")


def placed(first: Tensor, second: Tensor, *, shuffle: str) -> Tensor:
    """Each channel is written once, to its place."""
    if shuffle == "halves":
        return torch.stack((first, second), 2).flatten(1, 2)
    turn = first.shape[1] % 2  # the first even channel of the second half
    return torch.cat((first[:, ::2], second[:, turn::2], first[:, 1::2], second[:, 1 - turn :: 2]), 1)


def rearranged(first: Tensor, second: Tensor, *, shuffle: str) -> Tensor:
    """As published: concatenated, then copied into the other order."""
    together = torch.cat((first, second), 1)
    half = first.shape[1]
    apart: Tensor = together.unflatten(1, (2, half) if shuffle == "halves" else (half, 2))
    return apart.transpose(1, 2).flatten(1, 2)


CORES = CoreTable(
    Implementation("placed", placed, note="each channel is written once, to its place"),
    Implementation("rearranged", rearranged, note="as published: concatenated, then copied into the other order"),
    fallback="placed",
)
