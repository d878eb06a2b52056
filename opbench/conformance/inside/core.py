"""The core inside a module, callable as the operator's: each call is a pass of the module with values exchanged."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from opbench.anatomy import BATCH, CHANNELS, COLUMNS, OUTPUT, ROWS, Layout
from opbench.conformance.inside.found import Found
from opbench.conformance.inside.layouts import arranged
from opbench.conformance.inside.preparing import PreparedModule
from opbench.conformance.inside.tracing import INPUT, Place, exchanged
from opbench.conformance.raised import WHAT_A_TARGET_RAISES
from opbench.relations import Example


@dataclass
class InsideCore:
    """A core found in a module, called as `core(x=..., mask=..., kernel_size=...)`.

    `prepared(channels)` gives the module, at another number of channels of its input where it can be constructed so,
    with None as it is. Where the module can't be called so, with other options or channels, NotImplementedError is
    raised. `image(N, C, H, W, like)` makes an input in the module's layout. The module found had `channels`.
    """

    found: Found
    prepared: PreparedModule
    image: Callable[[tuple[int, int, int, int], Tensor], Tensor]
    channels: int
    rows: int
    columns: int
    held: dict[tuple[int | None, torch.dtype, torch.device], nn.Module] = field(default_factory=dict)

    def __call__(self, **given: Any) -> Tensor:
        """The core's result for these tensors and options."""
        tensors = {name: value for name, value in given.items() if isinstance(value, Tensor)}
        options = {name: value for name, value in given.items() if name not in tensors}
        for name, value in self.found.options.items():
            if name in options and options[name] != value:
                raise NotImplementedError(f"{name}: the module's core has {name}={value}")
        lengths = dict(self.found.anatomy.lengths({n: tuple(t.shape) for n, t in tensors.items()}, options))
        own = self.found.lengths[CHANNELS]
        if lengths[CHANNELS] == own:
            return self._run(tensors, lengths, None)
        try:
            return self._run(tensors, lengths, self._scaled(lengths[CHANNELS]))
        except WHAT_A_TARGET_RAISES as error:
            if lengths[CHANNELS] > own or self.found.anatomy.parameters:
                raise NotImplementedError(f"channels: the module can't be had with so many: {error}") from error
        # Fewer channels than the module has: the others are zeros.
        layout = self.found.anatomy.layouts
        first = next(iter(layout))
        padded = {**tensors, first: _widened(tensors[first], layout[first], lengths, own)}
        out = self._run(padded, {**lengths, CHANNELS: own}, None)
        return _narrowed(out, layout[OUTPUT], {**lengths, CHANNELS: own}, lengths[CHANNELS])

    def _scaled(self, channels: int) -> int:
        wanted, rest = divmod(self.channels * channels, self.found.lengths[CHANNELS])
        if rest:
            raise NotImplementedError("no whole number of channels of the module's input gives so many")
        return wanted

    def taken(self, call: Example) -> tuple[nn.Module, tuple[Tensor, ...]]:
        """The whole module and an image for it, in the dtype of a call: what compilers and exporters take."""
        like = next(iter(call.tensors.values()))
        image = self.image((1, self.channels, self.rows, self.columns), like)
        normal = torch.randn(image.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
        return self.module(None, like), (normal.to(image),)

    def module(self, channels: int | None, like: Tensor) -> nn.Module:
        """The module in evaluation mode, in the dtype and on the device of a tensor."""
        key = (channels, like.dtype, like.device)
        if key not in self.held:
            made = self.prepared(channels).to(like.device, like.dtype)
            x = self.image((1, channels or self.channels, self.rows, self.columns), like)
            self.held[key] = self.prepared.built(made, x)
        return self.held[key]

    def _run(self, tensors: Mapping[str, Tensor], lengths: Mapping[str, int], channels: int | None) -> Tensor:
        anatomy = self.found.anatomy
        if any(lengths.get(part, 1) < 1 for part in lengths):
            raise NotImplementedError("the module is not called with empty tensors")
        like = next(iter(tensors.values()))
        values: dict[Place, Tensor] = {}
        parameters: dict[str, Tensor] = {}
        for name, part in self.found.tensors.items():
            value = arranged(tensors[name], anatomy.layouts[name], part.layout, lengths)
            if part.place is None:
                parameters[part.parameter] = value
            else:
                values[part.place] = value
        module = self.module(channels, like)
        size = tuple(
            lengths[part] * whole // self.found.lengths[part]
            for part, whole in ((ROWS, self.rows), (COLUMNS, self.columns))
        )
        x = self.image((lengths[BATCH], channels or self.channels, *size), like)  # type: ignore[arg-type]
        held = values.get((INPUT, 0))
        if held is not None and held.shape != x.shape:
            raise NotImplementedError(f"the module takes {tuple(x.shape)}, not {tuple(held.shape)}")
        output = self.found.output
        assert output.place is not None
        if parameters:
            out = exchanged(_With(module, parameters), x, values, output.place)
        else:
            out = exchanged(module, x, values, output.place)
        return arranged(out, output.layout, anatomy.layouts[OUTPUT], lengths)


class _With(nn.Module):
    """A module called with some of its parameters exchanged."""

    def __init__(self, module: nn.Module, parameters: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.module = module
        self.exchanged = dict(parameters)

    def forward(self, x: Tensor) -> Any:
        return torch.func.functional_call(self.module, self.exchanged, (x,))


def _axis(layout: Layout) -> tuple[int, tuple[str, ...]]:
    return next((index, axis) for index, axis in enumerate(layout) if CHANNELS in axis)


def _widened(tensor: Tensor, layout: Layout, lengths: Mapping[str, int], channels: int) -> Tensor:
    """With zeros for the channels that each group lacks."""
    index, axis = _axis(layout)
    apart = tensor.unflatten(index, [lengths[part] for part in axis]).movedim(index + axis.index(CHANNELS), -1)
    wide = F.pad(apart, (0, channels - lengths[CHANNELS])).movedim(-1, index + axis.index(CHANNELS))
    whole: Tensor = wide.flatten(index, index + len(axis) - 1)
    return whole


def _narrowed(tensor: Tensor, layout: Layout, lengths: Mapping[str, int], channels: int) -> Tensor:
    """The first channels of each group."""
    index, axis = _axis(layout)
    apart = tensor.unflatten(index, [lengths[part] for part in axis])
    narrow: Tensor = apart.narrow(index + axis.index(CHANNELS), 0, channels).flatten(index, index + len(axis) - 1)
    return narrow
