"""Planted bugs in VoVGSCSP; each is also an attribute of this module, to be named on a command line."""

import torch
import torch.nn.functional as F

from opbench.operators.gsconv import VoVGSCSP
from opbench.operators.gsconv.cores import placed


class Steps(VoVGSCSP):
    """A right one, one step a method."""

    def forward(self, x):
        return self.fused(self.kept(x), self.deepened(self.cv1(x)))

    def kept(self, x):
        return self.cv2(x)

    def deepened(self, first):
        for part in self.gsb:
            first = self.bottleneck(first, part)
        return first

    def bottleneck(self, x, part):
        return self.lightened(x, part) + self.shortened(x, part)

    def lightened(self, x, part):
        return part.conv_lighting(x)

    def shortened(self, x, part):
        return part.shortcut(x)

    def fused(self, kept, deepened):
        return self.cv3(torch.cat((kept, deepened), 1))


def _wrong(description, **methods):
    return type("Wrong", (Steps,), {"__doc__": description, **methods})


def _other_shuffle(self, x, part):
    for one in part.conv_lighting:
        first = one.cv1(x)
        x = placed(first, one.cv2(first), shuffle="halves" if one.shuffle == "parity" else "parity")
    return x


def _finished_twice(self, x, part):
    return F.silu(part.conv_lighting(x))


def _through(dtype):
    def kept(self, x):
        weight = self.cv2.conv.weight
        return self.cv2.act(self.cv2.bn(F.conv2d(x.to(dtype), weight.to(dtype)).to(x.dtype)))

    return kept


def _first_image(self, x):
    return torch.cat((Steps.kept(self, x)[:1],) * len(x), 0)


def _past_32(self, kept, deepened):
    moved = torch.cat((deepened[:, :32], deepened[:, 32:].roll(1, 3)), 1)
    return Steps.fused(self, kept, moved)


MUTANTS = {
    "halves_exchanged": _wrong("the bottlenecks' half first", fused=lambda self, a, b: Steps.fused(self, b, a)),
    "halves_added": _wrong("the halves added in both places", fused=lambda self, a, b: Steps.fused(self, a + b, a + b)),
    "no_bottleneck": _wrong("bottlenecks left out", deepened=lambda self, first: first),
    "only_the_first": _wrong(
        "the first bottleneck alone", deepened=lambda self, first: self.bottleneck(first, self.gsb[0])
    ),
    "the_first_again": _wrong(
        "the first bottleneck for all of them",
        deepened=lambda self, first: [first := self.bottleneck(first, self.gsb[0]) for _ in self.gsb][-1],
    ),
    "no_shortcut": _wrong("no convolution beside", shortened=lambda self, x, part: 0 * part.shortcut(x)),
    "plain_shortcut": _wrong("x itself added", shortened=lambda self, x, part: x + 0 * part.shortcut(x)),
    "shortcut_besides": _wrong("x added, too", shortened=lambda self, x, part: x + part.shortcut(x)),
    "shortcut_subtracted": _wrong("subtracted", shortened=lambda self, x, part: -part.shortcut(x)),
    "shortcut_activated": _wrong("an activation behind", shortened=lambda self, x, part: F.silu(part.shortcut(x))),
    "shortcut_unnormed": _wrong(
        "no norm behind the shortcut",
        shortened=lambda self, x, part: part.shortcut.conv(x) + 0 * part.shortcut(x),
    ),
    "bottleneck_activated": _wrong("an activation behind the second GSConv", lightened=_finished_twice),
    "other_shuffle": _wrong("the inverse shuffle", lightened=_other_shuffle),
    "one_gsconv": _wrong(
        "the second GSConv of x itself", lightened=lambda self, x, part: part.conv_lighting[1](x) + 0 * part(x)
    ),
    "fused_without_activation": _wrong(
        "no activation at the end", fused=lambda self, a, b: self.cv3.bn(self.cv3.conv(torch.cat((a, b), 1)))
    ),
    "kept_is_the_first": _wrong("cv1 for both halves", kept=lambda self, x: self.cv1(x) + 0 * self.cv2(x)),
    "kept_without_activation": _wrong("cv2 linear", kept=lambda self, x: self.cv2.bn(self.cv2.conv(x))),
    "deepened_detached": _wrong(
        "no gradient through the bottlenecks", deepened=lambda self, first: Steps.deepened(self, first.detach())
    ),
    "first_image": _wrong("the half past nothing is the first image's", kept=_first_image),
    "images_rolled": _wrong("the half past nothing is the image's before", kept=lambda self, x: self.cv2(x).roll(1, 0)),
    "wrong_past_32_inside": _wrong("channels from the 33rd on are shifted", fused=_past_32),
    "in_bfloat16": _wrong("convolved in bfloat16", kept=_through(torch.bfloat16)),
    "in_float16": _wrong("convolved in float16", kept=_through(torch.float16)),
}


def __getattr__(name):
    if name not in MUTANTS:
        raise AttributeError(name)
    return type(name, (MUTANTS[name],), {})
