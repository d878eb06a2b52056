"""Planted bugs in GSConv; each is also an attribute of this module, to be named on a command line."""

import torch
import torch.nn.functional as F

from opbench.operators.gsconv import GSConv


class Steps(GSConv):
    """A right one, one step a method."""

    def forward(self, x):
        first = self.first(x)
        return self.shuffled(first, self.second(first))

    def first(self, x):
        return self.finished(self.convolved(x), self.cv1)

    def convolved(self, x):
        return self.cv1.conv(x)

    def second(self, first):
        return self.finished(self.depthwise(first), self.cv2)

    def depthwise(self, first):
        return self.cv2.conv(first)

    def finished(self, out, part):
        return part.act(part.bn(out))

    def shuffled(self, first, second):
        together = torch.cat((first, second), 1)
        half = first.shape[1]
        apart = together.unflatten(1, (2, half) if self.shuffle == "halves" else (half, 2))
        return apart.transpose(1, 2).flatten(1, 2)


def _wrong(description, **methods):
    return type("Wrong", (Steps,), {"__doc__": description, **methods})


def _window(self, first, change):
    weight, half = self.cv2.conv.weight, first.shape[1]
    return F.conv2d(first, change(weight), padding=2, groups=half)


def _other_shuffle(self, first, second):
    together, half = torch.cat((first, second), 1), first.shape[1]
    apart = together.unflatten(1, (half, 2) if self.shuffle == "halves" else (2, half))
    return apart.transpose(1, 2).flatten(1, 2)


def _through(dtype):
    def convolved(self, x):
        layer = self.cv1.conv
        weight = layer.weight.to(dtype)
        out = F.conv2d(x.to(dtype), weight, None, layer.stride, layer.padding, layer.dilation, layer.groups)
        return out.to(x.dtype)

    return convolved


def _reflected(self, first):
    if min(first.shape[2:]) < 3:
        return self.cv2.conv(first)
    return F.conv2d(F.pad(first, (2, 2, 2, 2), "reflect"), self.cv2.conv.weight, groups=first.shape[1])


def _past_64(self, first):
    out = Steps.depthwise(self, first)
    return torch.cat((out[:, :64], out[:, 64:].roll(1, 3)), 1)


MUTANTS = {
    "not_shuffled": _wrong("concatenated", shuffled=lambda self, one, other: torch.cat((one, other), 1)),
    "other_shuffle": _wrong("the inverse shuffle", shuffled=_other_shuffle),
    "halves_exchanged": _wrong("the second half first", shuffled=lambda self, a, b: Steps.shuffled(self, b, a)),
    "shuffled_in_fours": _wrong(
        "shuffled by pairs of channels",
        shuffled=lambda self, a, b: (
            torch.cat((a, b), 1).unflatten(1, (2, -1, 2)).transpose(1, 2).flatten(1, 3)
            if a.shape[1] % 2 == 0
            else torch.cat((b, a), 1)
        ),
    ),
    "depthwise_of_3": _wrong(
        "the border of the 5x5 window left out",
        depthwise=lambda self, first: _window(self, first, lambda weight: F.pad(weight[..., 1:4, 1:4], (1, 1, 1, 1))),
    ),
    "depthwise_mirrored": _wrong(
        "the 5x5 kernel mirrored", depthwise=lambda self, first: _window(self, first, lambda weight: weight.flip(3))
    ),
    "depthwise_turned": _wrong(
        "rows and columns exchanged", depthwise=lambda self, first: _window(self, first, lambda weight: weight.mT)
    ),
    "depthwise_of_other_channels": _wrong(
        "kernels of the channel before",
        depthwise=lambda self, first: _window(self, first, lambda weight: weight.roll(1, 0)),
    ),
    "depthwise_reflected": _wrong("padded by reflection", depthwise=_reflected),
    "depthwise_before_activation": _wrong(
        "the second half from the first without its activation",
        forward=lambda self, x: Steps.shuffled(self, Steps.first(self, x), self.second(self.cv1.bn(self.cv1.conv(x)))),
    ),
    "depthwise_detached": _wrong(
        "no gradient through the second half", second=lambda self, a: Steps.second(self, a.detach())
    ),
    "second_added": _wrong("a residual around the second half", second=lambda self, a: a + Steps.second(self, a)),
    "mish_for_silu": _wrong(
        "Mish", finished=lambda self, out, part: F.mish(part.bn(out)) if self.acts() else part.bn(out)
    ),
    "relu_for_silu": _wrong(
        "ReLU", finished=lambda self, out, part: F.relu(part.bn(out)) if self.acts() else part.bn(out)
    ),
    "activation_first": _wrong(
        "activation before the norm",
        finished=lambda self, out, part: part.bn(F.silu(out)),
    ),
    "norm_missing": _wrong("no norm", finished=lambda self, out, part: part.act(out) + 0 * part.bn(out)),
    "norm_of_the_first": _wrong(
        "the first norm for both", finished=lambda self, out, part: part.act(self.cv1.bn(out)) + 0 * part.bn(out)
    ),
    "images_rolled": _wrong(
        "the second half of the image before", second=lambda self, a: Steps.second(self, a).roll(1, 0)
    ),
    "wrong_past_64_channels": _wrong("depthwise channels from the 65th on are shifted", depthwise=_past_64),
    "in_bfloat16": _wrong("convolved in bfloat16", convolved=_through(torch.bfloat16)),
    "in_float16": _wrong("convolved in float16", convolved=_through(torch.float16)),
}
Steps.acts = lambda self: isinstance(self.cv1.act, torch.nn.SiLU)


def __getattr__(name):
    if name not in MUTANTS:
        raise AttributeError(name)
    return type(name, (MUTANTS[name],), {})
