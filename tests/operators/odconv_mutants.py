"""Planted bugs in ODConv; each is also an attribute of this module, to be named on a command line."""

# ruff: noqa: E501 - one bug a line
import torch
import torch.nn.functional as F

from opbench.operators.odconv import ODConv2d


class Steps(ODConv2d):
    """A right one, one step a method."""

    def forward(self, x):
        channel, filters, spatial, kernel = self.weighed(self.hidden(self.pooled(x)))
        own = self.kernels(spatial, kernel)
        out = self.convolved(self.under(x, channel), own)
        return out if filters is None else self.after(out, filters)

    def pooled(self, x):
        return x.mean((2, 3), keepdim=True)

    def hidden(self, means):
        return F.relu(self.attention.normalised(self.attention.fc(means)))

    def logits(self, name, z):
        return getattr(self.attention, name)(z).flatten(1) / self.attention.temperature

    def has(self, name):
        return getattr(self.attention, name) is not None

    def weighed(self, z):
        n = z.shape[0]
        ones = z.new_ones
        return (
            self.channel(self.logits("channel_fc", z)),
            self.filters(self.logits("filter_fc", z)) if self.has("filter_fc") else None,
            self.spatial(self.logits("spatial_fc", z)) if self.has("spatial_fc") else ones(n, self.kernel_size**2),
            self.kernel(self.logits("kernel_fc", z)) if self.has("kernel_fc") else ones(n, 1),
        )

    def channel(self, logits):
        return logits.sigmoid()

    def filters(self, logits):
        return logits.sigmoid()

    def spatial(self, logits):
        return logits.sigmoid()

    def kernel(self, logits):
        return logits.softmax(1)

    def kernels(self, spatial, kernel):
        k = self.kernel_size
        return torch.einsum("nj,jocab,nab->nocab", kernel, self.weight, spatial.view(-1, k, k))

    def under(self, x, channel):
        return x * channel[:, :, None, None]

    def convolved(self, x, own):
        n = x.shape[0]
        window = (self.stride, self.padding, self.dilation, self.groups)
        return torch.cat([F.conv2d(x[at : at + 1], own[at], None, *window) for at in range(n)])

    def after(self, out, filters):
        return out * filters[:, :, None, None]


def _wrong(description, **methods):
    return type("Wrong", (Steps,), {"__doc__": description, **methods})


def _turned(self, spatial, kernel):
    k = self.kernel_size
    return Steps.kernels(self, spatial.view(-1, k, k).transpose(1, 2).flatten(1), kernel)


def _past_64(self, logits):
    out = logits.sigmoid()
    return torch.cat((out[:, :64], out[:, :64][:, : max(0, out.shape[1] - 64)]), 1)


def _narrow(dtype):
    return lambda self, x, own: Steps.convolved(self, x.to(dtype), own.to(dtype)).to(x.dtype)


def _statistics(self, means):
    norm, z = self.attention.bn, self.attention.fc(means)
    if z.shape[0] == 1:
        return F.relu(norm.bias.view(1, -1, 1, 1) + 0 * norm.weight.view(1, -1, 1, 1) + 0 * z)
    return F.relu(F.batch_norm(z, None, None, norm.weight, norm.bias, True))


MUTANTS = {
    "image_0_for_all": _wrong("every image under image 0's kernel", kernels=lambda self, s, q: Steps.kernels(self, s, q)[:1].expand(s.shape[0], -1, -1, -1, -1)),
    "attention_of_the_batch": _wrong("one attention, of the batch's mean", pooled=lambda self, x: Steps.pooled(self, x).mean(0, keepdim=True).expand(x.shape[0], -1, -1, -1)),
    "pool_of_the_largest": _wrong("largest for average", pooled=lambda self, x: x.amax((2, 3), keepdim=True)),
    "pool_is_a_sum": _wrong("summed over pixels", pooled=lambda self, x: x.sum((2, 3), keepdim=True)),
    "norm_missing": _wrong("no norm", hidden=lambda self, means: F.relu(self.attention.fc(means)) + 0 * self.attention.normalised(self.attention.fc(means))),
    "not_rectified": _wrong("no ReLU", hidden=lambda self, means: self.attention.normalised(self.attention.fc(means))),
    "statistics_of_the_batch": _wrong("batch statistics in evaluation, none at batch 1", hidden=_statistics),
    "kernel_by_sigmoid": _wrong("sigmoid over kernels", kernel=lambda self, logits: logits.sigmoid()),
    "kernel_over_images": _wrong("softmax over the batch", kernel=lambda self, logits: logits.softmax(0)),
    "kernel_mean": _wrong("kernels count alike", kernel=lambda self, logits: 0 * logits + 1 / logits.shape[1]),
    "kernel_detached": _wrong("no gradient to the kernels' attention", kernel=lambda self, logits: logits.softmax(1).detach() + 0 * logits),
    "kernels_reversed": _wrong("the kernels' order reversed", kernel=lambda self, logits: logits.softmax(1).flip(1)),
    "spatial_by_softmax": _wrong("softmax over taps", spatial=lambda self, logits: logits.softmax(1)),
    "spatial_turned": _wrong("taps column by column", kernels=_turned),
    "spatial_dropped": _wrong("taps count alike", spatial=lambda self, logits: 0 * logits + 1),
    "channel_by_softmax": _wrong("softmax over channels", channel=lambda self, logits: logits.softmax(1)),
    "channel_dropped": _wrong("channels count alike", under=lambda self, x, channel: x + 0 * channel[:, :, None, None]),
    "filter_dropped": _wrong("filters count alike", after=lambda self, out, filters: out + 0 * filters[:, :, None, None]),
    "filter_added": _wrong("a residual around the filters' attention", after=lambda self, out, filters: out * (1 + filters[:, :, None, None])),
    "kernel_mirrored": _wrong("kernels mirrored", convolved=lambda self, x, own: Steps.convolved(self, x, own.flip(4))),
    "images_rolled": _wrong("the kernel of the image before", convolved=lambda self, x, own: Steps.convolved(self, x, own.roll(1, 0))),
    "wrong_past_64_channels": _wrong("channels from the 65th on count as the first", channel=_past_64),
    "in_bfloat16": _wrong("convolved in bfloat16", convolved=_narrow(torch.bfloat16)),
    "in_float16": _wrong("convolved in float16", convolved=_narrow(torch.float16)),
}  # fmt: skip


def __getattr__(name):
    if name not in MUTANTS:
        raise AttributeError(name)
    return type(name, (MUTANTS[name],), {})
