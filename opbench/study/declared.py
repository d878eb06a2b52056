"""What a study is: a network with an open slot, the contenders that fill it, data, a loss and a score."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from torch import Tensor, nn

from opbench.study.document import Metric
from opbench.study.images import Source

Tensors = tuple[Tensor, ...]


@dataclass(frozen=True)
class Entrant:
    """A contender of a study: an operator of the study's task, one of its implementations, and its own dimensions.

    `note` says what about it a reader should know.
    """

    name: str
    operator: str
    implementations: tuple[str, ...]  # the first that can run here
    dims: Mapping[str, int]
    note: str = ""


class Data(Protocol):
    """What a study trains on and is scored by; the same for every contender and seed."""

    description: str
    validation: Tensors
    held_out: Tensors

    def batch(self, draw: np.random.Generator, size: int) -> Tensors:
        """`size` training examples."""
        ...


@dataclass(frozen=True)
class Study:
    """One comparison. The first metric is what the learning rate is chosen by, and what the report leads with.

    `network(slot)` builds the network, calling `slot()` wherever the contender goes; it is called with torch's random
    state set by the seed, so that everything around the slots starts alike. `anchors` scores what needs no training.
    `left_out` are operators of the task that don't take part; any other joins as it is by default. `stand_in` makes
    what has the slot's shapes and no convolution: around it the rest of the network is counted.
    `inputs(batch)` is what the network is called with.
    """

    name: str
    title: str
    question: str
    task: str
    baseline: str
    entrants: tuple[Entrant, ...]
    slot_dims: Mapping[str, int]
    slots: int
    network_description: str
    network: Callable[[Callable[[], nn.Module]], nn.Module]
    data: Callable[[Source, bool], Data]
    inputs: Callable[[Tensors], Tensor]
    loss: Callable[[nn.Module, Tensors], Tensor]
    score: Callable[[nn.Module, Tensors], dict[str, float]]
    anchors: Callable[[Tensors], dict[str, dict[str, float]]]
    metrics: tuple[Metric, ...]
    loss_title: str
    steps: int
    batch: int
    left_out: tuple[str, ...] = ()
    stand_in: Callable[[], nn.Module] = nn.Identity

    def entrant(self, name: str) -> Entrant:
        """The contender of that name."""
        return next(entrant for entrant in self.entrants if entrant.name == name)
