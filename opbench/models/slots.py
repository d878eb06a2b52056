"""The slots that the command line names, and which convolutions of their kind are none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from torch import nn

from opbench.models.sites import unfit

Predicate: TypeAlias = Callable[[str, nn.Module], bool]


def _upsample(name: str, module: nn.Module) -> bool:
    return isinstance(module, nn.Upsample)


def _transposed(name: str, module: nn.Module) -> bool:
    """A transposed convolution that multiplies height and width by its stride, and keeps the channels."""
    if not isinstance(module, nn.ConvTranspose2d) or module.in_channels != module.out_channels or module.groups != 1:
        return False
    held: Any = module
    sides = zip(held.kernel_size, held.stride, held.padding, held.output_padding, held.dilation, strict=True)
    return all(s > 1 and d * (k - 1) + 1 - 2 * p + o == s for k, s, p, o, d in sides)


def _conv3x3(name: str, module: nn.Module) -> bool:
    return _window3x3(module) and _reason(module) == ""


def _downsample2x(name: str, module: nn.Module) -> bool:
    return _window3x3(module) and halves(module)


def halves(module: nn.Module) -> bool:
    """Whether a convolution halves its image: ungrouped, undilated, of stride 2, padded with one zero on each side."""
    assert isinstance(module, nn.Conv2d)
    found = (module.stride, module.padding, module.dilation, module.groups, module.padding_mode)
    return found == ((2, 2), (1, 1), (1, 1), 1, "zeros")


# Every `nn.Upsample`; every transposed convolution that upsamples (in a network without `nn.Upsample`, such as YOLOv6,
# "upsample" stands for these); every `nn.Conv2d` with a 3x3 window that keeps channels and size (ungrouped, stride 1,
# padding 1), which is the slot of the task `conv3x3`; every one that halves the size, whatever its channels.
SLOTS: Mapping[str, Predicate] = {
    "upsample": _upsample,
    "transposed": _transposed,
    "conv3x3": _conv3x3,
    "downsample2x": _downsample2x,
}
# Where a network has none of the first, its name stands for the second.
IN_PLACE_OF: Mapping[str, str] = {"upsample": "transposed"}


def passed_over(model: nn.Module, inside: Predicate = lambda name, module: True) -> Mapping[str, int]:
    """Why -> how many: the 3x3 convolutions (under names that are `inside`) that are not the slot `conv3x3`.

    >>> passed_over(nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.Conv2d(8, 8, 3, padding=1)))
    {'of stride 2': 1}
    """
    found = [module for name, module in model.named_modules() if _window3x3(module) and inside(name, module)]
    return dict(Counter(reason for module in found if (reason := _reason(module))).most_common())


def _window3x3(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3)


def _reason(module: nn.Module) -> str:
    """What a reader of the network would call it, or nothing where it is the slot."""
    assert isinstance(module, nn.Conv2d)
    if module.groups != 1:
        return "grouped"
    if module.stride != (1, 1):
        return f"of stride {max(module.stride)}"
    if module.dilation != (1, 1):
        return "dilated"
    if module.in_channels != module.out_channels:
        return "that change the channels"
    return "padded otherwise" if unfit(module) else ""
