"""The shape pass: what goes into and comes out of the modules of a model, found by calling a copy of it once.

The copy shares the parameters, which an evaluation doesn't change, and owns everything else: running statistics,
caches, modes and hooks of the model itself are never touched, nor is the state of torch's random numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from opbench.errors import said
from opbench.models.copying import deep_copy
from opbench.schema import OpbenchError

Shape = tuple[int, ...]
Size = tuple[int, ...]
Example: TypeAlias = Tensor | tuple[Any, ...] | Mapping[str, Any]
Arguments = tuple[tuple[Any, ...], Mapping[str, Any]]

# Of an image. A network that lists its parts in another order than it calls them still has its stem found.
COLOURS = 3
# Pixels each way where neither an example nor a size is given: every level of a pyramid down to 1/32 has 2 x 2.
SIZE: Size = (64, 64)


@dataclass(frozen=True)
class Call:
    """One call of a module: shapes, dtype and device of its tensor in and its tensor out."""

    shape_in: Shape
    shape_out: Shape
    dtype: torch.dtype
    device: torch.device


@dataclass(frozen=True)
class Site:
    """A place in a model: the module there, the names it has, and the calls that the shape pass saw."""

    names: tuple[str, ...]
    module: nn.Module
    calls: tuple[Call, ...]

    @property
    def name(self) -> str:
        """The first name: what messages call the place."""
        return self.names[0]

    @property
    def in_channels(self) -> int:
        """Channels of the tensor that comes in, (N, C, H, W)."""
        return self.calls[0].shape_in[1]

    @property
    def out_channels(self) -> int:
        """Channels of the tensor that goes out."""
        return self.calls[0].shape_out[1]

    @property
    def channels(self) -> int:
        """Channels in and out. Raises OpbenchError where they differ."""
        if self.in_channels != self.out_channels:
            raise self.refused(f"it makes {self.out_channels} channels of {self.in_channels}, expected as many")
        return self.in_channels

    @property
    def scale(self) -> int:
        """By how much height and width grow. Raises OpbenchError unless both do by the same whole number above 1."""
        scales = {
            out / given for call in self.calls for out, given in zip(call.shape_out[2:], call.shape_in[2:], strict=True)
        }
        scale = scales.pop()
        if scales or scale < 2 or scale != int(scale):
            shapes = ", ".join(f"{call.shape_in} -> {call.shape_out}" for call in self.calls)
            raise self.refused(f"expected height and width to grow by one whole number of at least 2, got {shapes}")
        return int(scale)

    def upsampling(self) -> int:
        """The whole number by which the module upsamples. Raises OpbenchError where it does something else."""
        module = self.module
        if isinstance(module, nn.Upsample) and module.size is not None:
            raise self.refused(f"it has size={module.size}, whatever comes in: expected scale_factor")
        scale = self.scale
        if isinstance(module, nn.Upsample):
            given = module.scale_factor if isinstance(module.scale_factor, tuple) else (module.scale_factor,)
            if any(factor != scale for factor in given):
                raise self.refused(f"expected a scale_factor that is a whole number, got {module.scale_factor}")
        return scale

    def window(self) -> tuple[int, int]:
        """(kernel_size, dilation) of the module's one convolution. Raises OpbenchError unless it mixes a square window.

        Ungrouped, of odd size 3 or more, stride 1, padded with zeros so that the size stays.
        """
        convolutions = [module for module in self.module.modules() if isinstance(module, nn.Conv2d)]
        if len(convolutions) != 1:
            raise self.refused(f"expected an nn.Conv2d, or a block with one inside, got {len(convolutions)}")
        convolution = convolutions[0]
        reason = unfit(convolution)
        if reason is not None:
            raise self.refused(reason)
        return int(convolution.kernel_size[0]), int(convolution.dilation[0])

    @property
    def halves(self) -> bool:
        """Whether height and width become half of what they were, rounded up, at every call."""
        return all(
            out == (given + 1) // 2 < given
            for call in self.calls
            for out, given in zip(call.shape_out[2:], call.shape_in[2:], strict=True)
        )

    def refused(self, why: str) -> OpbenchError:
        """The error that says why this place can't be swapped."""
        return OpbenchError(f"{self.name} ({type(self.module).__name__}) can't be swapped: {why}")


def unfit(convolution: nn.Conv2d) -> str | None:
    """Why a convolution's window can't become a deformable one, or None."""
    (k, k_x), (d, d_x) = convolution.kernel_size, convolution.dilation
    stride, padding = convolution.stride, convolution.padding
    same = d * (k - 1) // 2
    if convolution.groups != 1:
        return f"it is grouped: expected groups=1, got groups={convolution.groups}"
    if k != k_x or d != d_x:
        return f"expected a square window, got kernel_size={convolution.kernel_size}, dilation={convolution.dilation}"
    if k % 2 == 0 or k < 3:
        return f"expected an odd kernel_size of at least 3, got {k}"
    if stride != (1, 1):
        return f"it changes the size: expected stride 1, got {stride}"
    if padding != "same" and padding != (same, same):
        return f"it changes the size: expected padding {same} for kernel_size={k}, dilation={d}, got {padding}"
    if convolution.padding_mode != "zeros":
        return f"expected padding with zeros, got padding_mode={convolution.padding_mode!r}"
    return None


def arguments(model: nn.Module, example: Example | None, size: Size | None) -> Arguments:
    """What the model is called with: the example, or zeros (1, C, H, W) with as many channels as its first layer takes.

    Raises OpbenchError where neither is known.
    """
    if isinstance(example, Tensor):
        return (example,), {}
    if isinstance(example, tuple):
        return example, {}
    if isinstance(example, Mapping):
        return (), example
    if example is not None:
        raise OpbenchError(
            f"example: expected a tensor, a tuple of arguments or a mapping of keyword arguments, got "
            f"{type(example).__name__}: give ([...],) to a model that takes a list"
        )
    first = next(model.parameters(), None)
    device = first.device if first is not None else torch.device("cpu")
    return (torch.zeros(input_shape(model, size), dtype=first.dtype if first is not None else None, device=device),), {}


def input_shape(model: nn.Module, size: Size | None = None) -> Shape:
    """(1, C, H, W) of what a model is called with where no example is given."""
    size = SIZE if size is None else size
    if not isinstance(size, tuple) or len(size) not in (2, 3) or not all(isinstance(n, int) and n > 0 for n in size):
        raise OpbenchError(f"size: expected (height, width) or (channels, height, width) in pixels, got {size!r}")
    return (1, size[0] if len(size) == 3 else _channels(model), *size[-2:])


def _channels(model: nn.Module) -> int:
    """Of the input, by the convolutions: 3 where one takes 3, else what the first takes."""
    taken = [module.in_channels for module in model.modules() if isinstance(module, nn.Conv2d)]
    if not taken:
        raise OpbenchError(
            f"{type(model).__name__}: it has no convolution that would say how many channels its input has: give an "
            f"example or a size with channels, as in swap(..., size=(3, 64, 64)) or --size 3x64x64"
        )
    return COLOURS if COLOURS in taken else taken[0]


def trace(
    model: nn.Module, wanted: Sequence[tuple[str, ...]], called_with: Arguments
) -> tuple[tuple[Site, ...], list[Shape]]:
    """Calls a copy of the model: the site of each module of `wanted`, given by its names, and the output's shapes.

    A module that isn't called has a site without calls. Raises OpbenchError where the model can't be copied or
    called, or where a wanted module takes or returns something else than one (N, C, H, W).
    """
    calls: list[list[Call]] = [[] for _ in wanted]
    with copied(model) as twin:
        for names, into in zip(wanted, calls, strict=True):
            twin.get_submodule(names[0]).register_forward_hook(_recorder(names[0], into), with_kwargs=True)
        output = evaluate(twin, called_with)
    sites = (Site(names, model.get_submodule(names[0]), tuple(into)) for names, into in zip(wanted, calls, strict=True))
    return tuple(sites), shapes(output)


@contextmanager
def copied(model: nn.Module) -> Iterator[nn.Module]:
    """A copy that shares the parameters, every module of it evaluating; random numbers go on afterwards as before."""
    try:
        twin = deep_copy(model, share_parameters=True)
    except Exception as error:
        raise OpbenchError(f"{type(model).__name__}: it can't be copied for the shape pass: {said(error)}") from error
    for module in twin.modules():
        module.training = False  # not eval(): a framework's own may do more
    devices = {parameter.device for parameter in model.parameters()}
    with torch.random.fork_rng([device for device in devices if device.type == "cuda"]):
        yield twin


def evaluate(model: nn.Module, called_with: Arguments) -> Any:
    """The model's output, without gradients. Raises OpbenchError with what the model said where it can't be called."""
    args, kwargs = called_with
    try:
        with torch.no_grad():
            return model(*args, **kwargs)
    except OpbenchError:
        raise
    except (Exception, SystemExit) as error:  # a model may raise anything, and leave
        where = ", ".join(sorted({str(parameter.device) for parameter in model.parameters()})) or "no device"
        raise OpbenchError(
            f"{type(model).__name__} (on {where}) can't be called with {described(called_with)}: {said(error)}"
        ) from error


def described(called_with: Arguments) -> str:
    """The shapes and devices of what a model is called with."""
    tensors = [leaf for leaf in tree_leaves(called_with) if isinstance(leaf, Tensor)]
    return ", ".join(f"{tuple(tensor.shape)} on {tensor.device}" for tensor in tensors) or "no tensor"


def shapes(output: Any) -> list[Shape]:
    """The shapes of all tensors in a model's output, in order."""
    return [tuple(leaf.shape) for leaf in tree_leaves(output) if isinstance(leaf, Tensor)]


def _recorder(name: str, into: list[Call]) -> Callable[..., None]:
    def record(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any) -> None:
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        if len(tensors) != 1 or not isinstance(output, Tensor):
            raise OpbenchError(
                f"{name} ({type(module).__name__}) can't be swapped: expected one tensor in and one out, "
                f"got {len(tensors)} in and {type(output).__name__} out"
            )
        x = tensors[0]
        if x.ndim != 4 or output.ndim != 4:
            raise OpbenchError(
                f"{name} ({type(module).__name__}) can't be swapped: expected (N, C, H, W) in and out, "
                f"got {tuple(x.shape)} and {tuple(output.shape)}"
            )
        into.append(Call(tuple(x.shape), tuple(output.shape), x.dtype, x.device))

    return record


def functional_upsampling(
    model: nn.Module, *, example: Example | None = None, size: Size | None = None
) -> tuple[str, ...]:
    """Names of the modules whose own forward calls `torch.nn.functional.interpolate` or `upsample`: no swap reaches it.

    `nn.Upsample` itself doesn't count. Raises OpbenchError where the model can't be called.
    """
    called_with = arguments(model, example, size)
    with copied(model) as twin:
        listening = _Listening()
        for name, module in twin.named_modules():
            module.register_forward_pre_hook(listening.entering(name, module))
            module.register_forward_hook(listening.leaving, always_call=True)
        with listening:
            evaluate(twin, called_with)
    return tuple(dict.fromkeys(listening.found))


class _Listening(TorchFunctionMode):
    """Hears every call of a function of torch's, and knows which module is being called."""

    def __init__(self) -> None:
        super().__init__()
        self.inside: list[tuple[str, nn.Module]] = []
        self.found: list[str] = []

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in (F.interpolate, F.upsample) and self.inside and not isinstance(self.inside[-1][1], nn.Upsample):
            self.found.append(self.inside[-1][0] or type(self.inside[-1][1]).__name__)
        return func(*args, **(kwargs or {}))

    def entering(self, name: str, module: nn.Module) -> Callable[..., None]:
        return lambda *_: self.inside.append((name, module))

    def leaving(self, *_: Any) -> None:
        self.inside.pop()
