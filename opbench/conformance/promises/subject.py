"""The module under check: made anew for each question, with parameters drawn; its inputs; how outputs are compared."""

from __future__ import annotations

import contextlib
import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils._pytree import tree_leaves

from opbench.conformance.promises.findings import Shape
from opbench.conformance.promises.promise import OutOfTime, TargetRaised
from opbench.conformance.raised import WHAT_A_TARGET_RAISES

# How an image (N, C, H, W) is handed over.
LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "(N, C, H, W)": lambda x: x,
    "(N, H, W, C)": lambda x: x.permute(0, 2, 3, 1).contiguous(),
    "(N, H*W, C)": lambda x: x.flatten(2).transpose(1, 2).contiguous(),
}
CHANNELS_FIRST = "(N, C, H, W)"


class ImageSize(NamedTuple):
    """A size (N, C, H, W) of the images; in another layout the input's shape is another."""

    N: int
    C: int
    H: int
    W: int


@dataclass
class Subject:
    """`make` gives the module as its author made it. `sizes` are the images it accepts, smallest first."""

    name: str
    make: Callable[[], nn.Module]
    files: tuple[str, ...]
    device: str = "cpu"
    seed: int = 0
    layout: str = CHANNELS_FIRST
    sizes: list[ImageSize] = field(default_factory=list)
    announce: Callable[[Shape | None], None] = lambda shape: None
    deadline: float = math.inf  # as time.monotonic
    shape: Shape | None = None
    notes: list[str] = field(default_factory=list)

    def module(
        self, *, seed: int = 0, training: bool = False, dtype: torch.dtype = torch.float32, drawn: bool = True
    ) -> nn.Module:
        """A new one. The same seed gives the same parameters and running statistics, another one others."""
        self.announce(None)
        with self.asking():
            # Whatever a constructor may draw from.
            torch.manual_seed(self.seed + seed)
            random.seed(self.seed + seed)
            np.random.seed(self.seed + seed)
            module = self.make().to(self.device)
            if any(is_lazy(parameter) for parameter in module.parameters()):
                with torch.no_grad():
                    module.eval()(self.image(self.sizes[0]))
        if drawn:
            draw(module, self.seed + seed)
        with self.asking():
            return module.to(dtype).train(training)

    def image(self, size: ImageSize, *, seed: int = 0, dtype: torch.dtype = torch.float32, spread: float = 1) -> Tensor:
        """Normal values in the module's layout."""
        generator = torch.Generator().manual_seed(1000 + self.seed + seed)
        image = spread * torch.randn(tuple(size), generator=generator)
        return LAYOUTS[self.layout](image.to(self.device, dtype))

    def call(self, module: nn.Module, x: Tensor) -> list[Tensor]:
        """The tensors among what it returns, in order."""
        self.at(x)
        with self.asking():
            returned = tree_leaves(module(x))
        return [leaf for leaf in returned if isinstance(leaf, Tensor)]

    def silently(self, module: nn.Module, x: Tensor) -> list[Tensor]:
        """`call` without gradients, of a copy: neither is `x` changed, nor by a later call what it returns."""
        with torch.no_grad():
            return [out.clone() for out in self.call(module, x.clone())]

    def at(self, x: Tensor) -> None:
        """Announces the call that may be the last thing this process does. Raises OutOfTime where it is too late."""
        if time.monotonic() > self.deadline:
            raise OutOfTime
        self.shape = tuple(x.shape)
        self.announce(self.shape)

    @contextlib.contextmanager
    def asking(self) -> Iterator[None]:
        """What is raised in here is the target's doing."""
        try:
            yield
        except WHAT_A_TARGET_RAISES as error:
            raise TargetRaised(error) from error


def draw(module: nn.Module, seed: int) -> None:
    """Draws every parameter and running statistic, so that no zero hides a branch and no one a scale.

    Matrices get standard deviation 1/sqrt(fan-in). What its author set to a constant (a scale, a temperature) and
    vectors stay near where they were: far from there the module may mean nothing.
    """
    generator = torch.Generator().manual_seed(seed)
    frozen = {name for name, parameter in module.named_parameters() if not parameter.requires_grad}
    buffers = {name for name, _ in module.named_buffers() if not name.endswith(("running_mean", "running_var"))}
    with torch.no_grad():
        for name, value in module.state_dict().items():
            if name in frozen | buffers or not isinstance(value, Tensor) or not value.is_floating_point():
                continue
            if not value.numel():
                continue
            normal = torch.randn(value.shape, generator=generator).to(value)
            if name.endswith("running_var"):
                value.copy_(0.5 + torch.rand(value.shape, generator=generator).to(value))
            elif value.ndim < 2 or bool((value == value.flatten()[0]).all()):
                value.add_(0.1 * normal)
            else:
                value.copy_(normal / max(1, value[0].numel()) ** 0.5)


def difference(got: Sequence[Tensor], expected: Sequence[Tensor], share: float) -> str | None:
    """The first output that is further from the expected one than `share` of its largest value, in words."""
    if len(got) != len(expected):
        return f"{len(got)} tensors instead of {len(expected)}"
    for index, (one, other) in enumerate(zip(got, expected, strict=True)):
        name = "output" if len(expected) == 1 else f"output {index}"
        if one.shape != other.shape:
            return f"{name} has shape {tuple(one.shape)} instead of {tuple(other.shape)}"
        found = _furthest(one, other, share)
        if found is not None:
            place, a, b = found
            return f"{name}[{', '.join(map(str, place))}] is {a:.4g} instead of {b:.4g}"
    return None


def _furthest(one: Tensor, other: Tensor, share: float) -> tuple[tuple[int, ...], float, float] | None:
    if not one.numel():
        return None
    a, b = one.detach().to("cpu", torch.float64), other.detach().to("cpu", torch.float64)
    error = torch.where(a.isnan() & b.isnan() | (a == b), 0.0, (a - b).abs()).nan_to_num(nan=torch.inf)
    largest = b.abs()[b.isfinite()].max().item() if b.isfinite().any() else 0.0
    place = int(error.argmax())
    if error.flatten()[place] <= share * largest:
        return None
    index = tuple(int(axis) for axis in torch.unravel_index(torch.tensor(place), error.shape))
    return index, a.flatten()[place].item(), b.flatten()[place].item()
