"""Planted bugs in a partial convolution; each is also an attribute of this module, to be named on a command line."""

import torch
import torch.nn.functional as F

from opbench.operators.pconv import Partial_conv3


def _wrong(description, function):
    """`function(x, weight)` in the place of the core; it may be told the number of channels by the weight."""

    def forward(self, x):
        return function(x, self.partial_conv3.weight)

    return type("Wrong", (Partial_conv3,), {"__doc__": description, "forward": forward})


def _conv(x, weight, **options):
    return F.conv2d(x, weight, **{"padding": 1, **options})


def _parts(x, weight):
    return x[:, : weight.shape[0]], x[:, weight.shape[0] :]


def _with(convolve):
    """The convolved part by `convolve(part, weight)`."""

    def function(x, weight):
        first, others = _parts(x, weight)
        return torch.cat((convolve(first, weight), others), 1)

    return function


def _last(x, weight):
    channels = weight.shape[0]
    return torch.cat((x[:, :-channels], _conv(x[:, -channels:], weight)), 1)


def _behind(x, weight):
    first, others = _parts(x, weight)
    return torch.cat((others, _conv(first, weight)), 1)


def _every_other(x, weight):
    step = x.shape[1] // weight.shape[0]
    out = x.clone()
    places = torch.arange(weight.shape[0]) * step
    out[:, places] = _conv(x[:, places], weight)
    return out


def _slid(x, weight):
    """Written to the channels one further."""
    channels = weight.shape[0]
    out = x.clone()
    out[:, 1 : channels + 1] = _conv(x[:, :channels], weight)
    return out


def _reflected(first, weight):
    if min(first.shape[2:]) < 2:
        return _conv(first, weight)
    return _conv(F.pad(first, (1, 1, 1, 1), "reflect"), weight, padding=0)


def _past_64(first, weight):
    out = _conv(first, weight)
    return torch.cat((out[:, :64], 0 * out[:, 64:]), 1)


def _in(dtype):
    return _with(lambda first, weight: _conv(first.to(dtype), weight.to(dtype)).to(first.dtype))


MUTANTS = {
    "last_quarter": _wrong("the last channels are convolved", _last),
    "convolved_behind": _wrong("the convolved channels come last", _behind),
    "every_fourth": _wrong("channels at equal distances are convolved", _every_other),
    "written_one_further": _wrong("the convolved channels are written one further", _slid),
    "others_rectified": _wrong(
        "the others pass through ReLU",
        lambda x, weight: torch.cat((_conv(_parts(x, weight)[0], weight), F.relu(_parts(x, weight)[1])), 1),
    ),
    "others_detached": _wrong(
        "the others get no gradient",
        lambda x, weight: torch.cat((_conv(_parts(x, weight)[0], weight), _parts(x, weight)[1].detach()), 1),
    ),
    "others_scaled": _wrong(
        "the others are scaled by a thousandth more",
        lambda x, weight: torch.cat((_conv(_parts(x, weight)[0], weight), 1.001 * _parts(x, weight)[1]), 1),
    ),
    "residual": _wrong("x is added to what is convolved", _with(lambda first, weight: first + _conv(first, weight))),
    "kernel_mirrored": _wrong("the kernel mirrored", _with(lambda first, weight: _conv(first, weight.flip(2, 3)))),
    "kernel_turned": _wrong("rows and columns exchanged", _with(lambda first, weight: _conv(first, weight.mT))),
    "channels_exchanged": _wrong(
        "the kernel's inputs and outputs exchanged", _with(lambda first, weight: _conv(first, weight.transpose(0, 1)))
    ),
    "reflected": _wrong("padded by reflection", _with(_reflected)),
    "one_sided": _wrong(
        "padded on one side",
        _with(lambda first, weight: _conv(F.pad(first, (2, 0, 2, 0)), weight, padding=0)),
    ),
    "dilated": _wrong("dilated", _with(lambda first, weight: _conv(first, weight, padding=2, dilation=2))),
    "weight_detached": _wrong(
        "no gradient to the kernel", _with(lambda first, weight: _conv(first, weight.detach()) + 0 * weight.sum())
    ),
    "images_rolled": _wrong(
        "the image before is convolved", _with(lambda first, weight: _conv(first, weight).roll(1, 0))
    ),
    "wrong_past_64_channels": _wrong("convolved channels from the 65th on are 0", _with(_past_64)),
    "in_bfloat16": _wrong("convolved in bfloat16", _in(torch.bfloat16)),
    "in_float16": _wrong("convolved in float16", _in(torch.float16)),
}


def __getattr__(name):
    if name not in MUTANTS:
        raise AttributeError(name)
    return type(name, (MUTANTS[name],), {})
