"""Planted bugs in RFAConv: a right one, one step a method, and classes that get one step wrong.

Each is also an attribute of this module, so that `opbench check tests/operators/rfaconv_mutants.py:pool_of_the_inside
--operator rfaconv` names one.
"""

import torch
import torch.nn.functional as F

from opbench.operators.rfaconv import RFAConv


class Steps(RFAConv):
    """A right one."""

    def forward(self, x):
        attention = self.attended(self.logits(self.pooled(x))).to(x.dtype)
        fields = self.weighted(self.by_taps(self.features(x)), attention)
        return self.finished(self.contracted(fields))

    def by_taps(self, channels):
        """(N, C, k*k, Ho, Wo)."""
        return channels.unflatten(1, (self.in_channel, self.kernel_size**2))

    def pooled(self, x):
        return self.get_weight[0](x)

    def logits(self, pooled):
        return self.get_weight[1](pooled)

    def attended(self, logits):
        return self.by_taps(logits).softmax(2)

    def made(self, x):
        return self.generate_feature[0](x)

    def features(self, x):
        return self.generate_feature[2](self.generate_feature[1](self.made(x)))

    def weighted(self, features, attention):
        return features * attention

    def kernel(self):
        return self.conv[0].weight

    def contracted(self, fields):
        matrix = self.kernel().flatten(1)[:, :, None, None]
        return F.conv2d(fields.flatten(1, 2), matrix, self.conv[0].bias)

    def finished(self, out):
        for layer in list(self.conv)[1:]:
            out = layer(out)
        return out


def _wrong(description, **methods):
    return type("Wrong", (Steps,), {"__doc__": description, **methods})


def _pool(self, x, **options):
    pool = self.get_weight[0]
    return F.avg_pool2d(x, pool.kernel_size, pool.stride, pool.padding, **options)


def _shifted(self, x):
    k, pool = self.kernel_size, self.get_weight[0]
    return F.avg_pool2d(F.pad(x, (k - 1, 0, k - 1, 0)), k, pool.stride)


def _reflected(self, x):
    layer, half = self.generate_feature[0], self.kernel_size // 2
    if min(x.shape[2:]) <= half:
        return layer(x)
    return F.conv2d(F.pad(x, (half,) * 4, "reflect"), layer.weight, None, layer.stride, groups=self.in_channel)


def _turned(self, attention):
    k = self.kernel_size
    return attention.unflatten(2, (k, k)).transpose(2, 3).flatten(2, 3)


def _laid_out_whole(self, fields):
    """The k*k images as tiles, not their pixels side by side."""
    k = self.kernel_size
    n, c, _, h, w = fields.shape
    tiled = fields.unflatten(2, (k, k)).permute(0, 1, 2, 4, 3, 5).reshape(n, c, k * h, k * w)
    return F.conv2d(tiled, self.kernel(), self.conv[0].bias, stride=k)


def _unbiased(self, x):
    made, norm = self.made(x), self.generate_feature[1]
    if not self.training:
        return F.relu(norm(made))
    variance, mean = torch.var_mean(made, (0, 2, 3), keepdim=True, correction=1)
    scale = norm.weight.view(-1, 1, 1) * (variance + norm.eps).rsqrt()
    return F.relu((made - mean) * scale + norm.bias.view(-1, 1, 1))


def _past_64(self, logits):
    attention = Steps.attended(self, logits)
    return torch.cat([attention[:, :64], attention[:, :64][:, : max(0, attention.shape[1] - 64)]], 1)


def _of_the_first_image(self, pooled):
    return self.get_weight[1](pooled)[:1].expand(pooled.shape[0], -1, -1, -1)


def _narrow(dtype):
    return lambda self, features, attention: (features.to(dtype) * attention.to(dtype)).to(features.dtype)


MUTANTS = {
    "pool_of_the_inside": _wrong(
        "zeros outside the image don't count in the average",
        pooled=lambda self, x: _pool(self, x, count_include_pad=False),
    ),
    "pool_of_the_largest": _wrong(
        "largest for average",
        pooled=lambda self, x: F.max_pool2d(x, self.kernel_size, self.stride, self.kernel_size // 2),
    ),
    "pool_one_sided": _wrong("the pooled window lies up and left of the pixel", pooled=_shifted),
    "softmax_over_channels": _wrong("softmax over C", attended=lambda self, logits: self.by_taps(logits).softmax(1)),
    "softmax_over_columns": _wrong("softmax over W", attended=lambda self, logits: self.by_taps(logits).softmax(4)),
    "softmax_over_everything": _wrong(
        "one softmax over channels and taps",
        attended=lambda self, logits: self.by_taps(logits.softmax(1)),
    ),
    "sigmoid_for_softmax": _wrong("sigmoid", attended=lambda self, logits: self.by_taps(logits).sigmoid()),
    "softmax_missing": _wrong("logits as weights", attended=lambda self, logits: self.by_taps(logits)),
    "attention_detached": _wrong(
        "no gradient through the attention", attended=lambda self, logits: Steps.attended(self, logits.detach())
    ),
    "attention_turned": _wrong(
        "taps of the attention column by column",
        weighted=lambda self, features, attention: features * _turned(self, attention),
    ),
    "attention_of_the_first_image": _wrong("image 0's attention for all", logits=_of_the_first_image),
    "attention_dropped": _wrong(
        "features as they are", weighted=lambda self, features, attention: features + 0 * attention
    ),
    "taps_before_channels": _wrong(
        "channels counted within taps",
        by_taps=lambda self, channels: channels.unflatten(1, (-1, self.in_channel)).transpose(1, 2),
    ),
    "features_reflected": _wrong("features padded by reflection", made=_reflected),
    "features_without_norm": _wrong(
        "no batch norm of the features",
        features=lambda self, x: F.relu(self.made(x)) + 0 * self.generate_feature[1](self.made(x)),
    ),
    "features_rectified_first": _wrong(
        "ReLU before the norm", features=lambda self, x: self.generate_feature[1](F.relu(self.made(x)))
    ),
    "features_not_rectified": _wrong("no ReLU", features=lambda self, x: self.generate_feature[1](self.made(x))),
    "norm_unbiased": _wrong("batch norm with the unbiased variance", features=_unbiased),
    "kernel_turned": _wrong("the kernel's rows and columns exchanged", kernel=lambda self: self.conv[0].weight.mT),
    "fields_as_tiles": _wrong("receptive fields laid out as k*k images", contracted=_laid_out_whole),
    "bias_missing": _wrong(
        "no bias", contracted=lambda self, fields: Steps.contracted(self, fields) - self.conv[0].bias.view(-1, 1, 1)
    ),
    "silu_at_the_end": _wrong(
        "SiLU for ReLU, as in copies that use a YOLO package's Conv",
        finished=lambda self, out: F.silu(self.conv[1](out)) if self.norm else out,
    ),
    "norm_at_the_end_missing": _wrong(
        "ReLU alone at the end", finished=lambda self, out: F.relu(out) + 0 * self.conv[1](out) if self.norm else out
    ),
    "statistics_of_the_batch": _wrong(
        "batch statistics in evaluation",
        features=lambda self, x: F.relu(
            F.batch_norm(
                self.made(x), None, None, self.generate_feature[1].weight, self.generate_feature[1].bias, True
            )
        ),
    ),
    "wrong_past_64_channels": _wrong("channels from the 65th on have the attention of the first", attended=_past_64),
    "in_bfloat16": _wrong("fields rounded to bfloat16", weighted=_narrow(torch.bfloat16)),
    "in_float16": _wrong("fields rounded to float16", weighted=_narrow(torch.float16)),
}  # fmt: skip


def __getattr__(name):
    if name not in MUTANTS:
        raise AttributeError(name)
    return type(name, (MUTANTS[name],), {})
