"""Bugs planted in CARAFE++'s downsampling: functions with a core's signature, and modules with the constructor's.

Each is also an attribute of this module, to be named on a command line.
"""

import torch
import torch.nn.functional as F

from opbench.operators.carafe_downsample import CARAFEDownsample


def recipe(
    description,
    *,
    image=lambda x, r: F.pad(x, (r, r, r, r)),
    weights=lambda mask, g, k: mask.unflatten(1, (g, k, k)),
    start=0,
    channels=lambda x, g: x,
    back=lambda out, g: out,
    end=lambda out: out,
):
    """The core by its steps, but for those given."""

    def core(x, mask, *, kernel_size, group_size, stride):
        k, g, s = kernel_size, group_size, stride
        rows, columns = mask.shape[2:]
        # Room for a start that is one pixel off.
        wide = F.pad(image(channels(x, g), k // 2), (1, s, 1, s))
        own = weights(mask, g, k)
        total = 0
        for iy in range(k):
            for ix in range(k):
                y, x_ = iy + 1 + start, ix + 1 + start
                taken = wide[:, :, y : y + (rows - 1) * s + 1 : s, x_ : x_ + (columns - 1) * s + 1 : s]
                total = total + taken.unflatten(1, (g, -1)) * own[:, :, iy, ix].unsqueeze(2)
        return end(back(total.flatten(1, 2), g))

    core.__doc__ = description
    return core


def dealt(x, g):
    return x.unflatten(1, (-1, g)).transpose(1, 2).flatten(1, 2)


def undealt(x, g):
    return x.unflatten(1, (g, -1)).transpose(1, 2).flatten(1, 2)


def taps(change):
    return lambda mask, g, k: change(mask.unflatten(1, (g, k, k)))


def past_64(out):
    return torch.cat((out[:, :64], out[:, 64:].roll(1, 3)), 1)


def mean_of_the_window(x, mask, *, kernel_size, group_size, stride):
    """the plain mean; the mask is dropped"""
    return F.avg_pool2d(x, kernel_size, stride, kernel_size // 2) + 0 * mask.sum()


def strided_pixels(x, mask, *, kernel_size, group_size, stride):
    """every second pixel; the mask is dropped"""
    return x[:, :, ::stride, ::stride] + 0 * mask.sum()


def renormalised(x, mask, *, kernel_size, group_size, stride):
    """taps outside the image weighed anew"""
    options = {"kernel_size": kernel_size, "group_size": group_size, "stride": stride}
    return RIGHT["steps"](x, mask, **options) / RIGHT["steps"](torch.ones_like(x), mask, **options)


def in_(dtype):
    def core(x, mask, **options):
        return RIGHT["steps"](x.to(dtype), mask.to(dtype), **options).to(x.dtype)

    core.__doc__ = f"computed in {dtype}"
    return core


def bordered(mode):
    def image(x, r):
        return F.pad(x, (r, r, r, r), mode if min(x.shape[2:]) > r else "constant")

    return image


RIGHT = {"steps": recipe("a right one")}
CORES = {
    "one_pixel_early": recipe("the window one pixel too far up and left", start=-1),
    "one_pixel_late": recipe("the window one pixel too far down and right", start=1),
    "mirrored_taps": recipe("taps counted from their end", weights=taps(lambda own: own.flip(2, 3))),
    "turned_taps": recipe("rows and columns of the taps exchanged", weights=taps(lambda own: own.transpose(2, 3))),
    "reflected": recipe("reflected borders, as some copies have", image=bordered("reflect")),
    "replicated": recipe("replicated borders", image=bordered("replicate")),
    "wrapped": recipe("borders that wrap round", image=bordered("circular")),
    "renormalised": renormalised,
    "dealt": recipe("channels dealt to the groups in turn", channels=dealt, back=undealt),
    "groups_exchanged": recipe("masks of the other group", weights=taps(lambda own: own.flip(1))),
    "first_group_for_all": recipe("the first group's mask for all", weights=taps(lambda own: own[:, :1])),
    "taps_before_groups": recipe(
        "mask channels as (tap, group)",
        weights=lambda mask, g, k: mask.unflatten(1, (k, k, g)).permute(0, 3, 1, 2, 4, 5),
    ),
    "first_image_s_mask": recipe("the first image's mask for all", weights=taps(lambda own: own[:1].expand_as(own))),
    "softmax_again": recipe(
        "softmax once more", weights=lambda mask, g, k: mask.unflatten(1, (g, k * k)).softmax(2).unflatten(2, (k, k))
    ),
    "mask_without_gradient": recipe("no gradient through the mask", weights=taps(lambda own: own.detach())),
    "wrong_past_64_channels": recipe("channels from the 65th on are shifted", end=past_64),
    "mean_of_the_window": mean_of_the_window,
    "strided_pixels": strided_pixels,
    "in_bfloat16": in_(torch.bfloat16),
    "in_float16": in_(torch.float16),
}


class Steps(CARAFEDownsample):
    """A right one, one step a method."""

    def forward(self, x):
        mask = self.normalised(self.encoded(self.channel_compressor(x))).to(x.dtype)
        out = RIGHT["steps"](
            x, mask, kernel_size=self.down_kernel, group_size=self.down_group, stride=self.scale_factor
        )
        return out if self.project is None else self.project(out)

    def encoded(self, compressed):
        return self.content_encoder(compressed)

    def normalised(self, logits):
        return logits.unflatten(1, (self.down_group, self.down_kernel**2)).softmax(2).flatten(1, 2)


def _pooled(self, compressed):
    layer, s = self.content_encoder, self.scale_factor
    every = F.conv2d(compressed, layer.weight, layer.bias, padding=layer.padding)
    return F.max_pool2d(every, s, s, ceil_mode=True)


MODULES = {
    "softmax_over_all": {"normalised": lambda self, logits: logits.softmax(1)},
    "sigmoid": {"normalised": lambda self, logits: logits.sigmoid()},
    "not_normalised": {"normalised": lambda self, logits: logits},
    "pooled_logits": {"encoded": _pooled},
    "activated": {"encoded": lambda self, compressed: self.content_encoder(compressed.relu())},
}
MODULES = {name: type(name, (Steps,), {**changed, "__doc__": name}) for name, changed in MODULES.items()}
MUTANTS = {**CORES, **MODULES}
globals().update(MUTANTS)
