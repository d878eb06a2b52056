"""What a runtime makes of a module, and why it can't."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from torch import Tensor, nn

from opbench.errors import said
from opbench.schema import Artifact


class CantBeMade(NotImplementedError):
    """A module that a runtime can't execute, in a sentence: a refusal, not a wrong answer."""


class Executed(nn.Module):
    """Called in the place of `module`, whose parameters it shows as its own.

    `run(*inputs)` executes the artifact: torch tensors on the CPU in and out, the output in memory of its own.
    """

    def __init__(self, module: nn.Module, run: Callable[..., Tensor], artifact: Artifact) -> None:
        super().__init__()
        self.module = module
        self.artifact = artifact
        self._run = (run,)  # in a tuple: a module would become a part of this one

    def forward(self, *inputs: Tensor) -> Tensor:
        """The artifact's output."""
        return self._run[0](*inputs)


Prepare: TypeAlias = Callable[[nn.Module, tuple[Tensor, ...], int], Executed]


def refused(what: str, error: Exception) -> CantBeMade:
    """`what` could not be done; the tool's own words after it, their first line."""
    return CantBeMade(f"{what}: {said(error, 400)}")
