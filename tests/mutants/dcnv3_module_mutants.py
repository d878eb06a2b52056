"""Planted bugs in DCNv3's module: a right one, one step a method, and classes that get one step wrong.

Each is also an attribute of this module, channels last as DCNv3's own, so that `opbench check
tests/mutants/dcnv3_module_mutants.py:softmax_missing --operator dcnv3 --fix center_feature_scale=True` names one.
"""

import torch
import torch.nn.functional as F

from opbench.operators.dcnv3 import dcnv3
from opbench.operators.dcnv3.module import DCNv3


class Module(DCNv3):
    """x (N, C, H, W) -> (N, C, H, W), with center_feature_scale; state-dict keys are DCNv3's."""

    def forward(self, x):
        x = x.permute(0, 2, 3, 1)
        projected = self.projected(x)
        features = self.features(self.branch_input(x, projected))
        offset = self.offset(self.offset_features(features))
        mask = self.normalised(self.mask(features).unflatten(-1, (self.group, -1))).flatten(-2)
        settings = {name: getattr(self, name) for name in ("kernel_size", "stride", "pad", "dilation", "group")}
        settings |= {"offset_scale": self.offset_scale, "remove_center": self.remove_center}
        out = dcnv3(projected, offset, mask, **settings, implementation=self.implementation)
        return self.finished(out, x, projected, features).permute(0, 3, 1, 2)

    def projected(self, x):
        return self.input_proj(x)

    def branch_input(self, x, projected):
        return x

    def features(self, x):
        return self.activated(self.locally(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))

    def locally(self, x):
        return self.dw_conv[0](x)

    def activated(self, x):
        return F.gelu(self.layer_norm(x))

    def layer_norm(self, x):
        return self.dw_conv[1][1](x)

    def offset_features(self, features):
        return features

    def normalised(self, logits):
        """(N, H, W, G, P)."""
        return logits.softmax(-1)

    def finished(self, out, x, projected, features):
        return self.output_proj(self.blended(out, x, projected, self.per_channel(self.scale(features))))

    def scale(self, features):
        weight, bias = self.center_feature_scale_proj_weight, self.center_feature_scale_proj_bias
        return F.linear(features, weight, bias).sigmoid()

    def per_channel(self, scale):
        return scale.repeat_interleave(self.channels // self.group, -1)

    def blended(self, out, x, projected, scale):
        return out * (1 - scale) + projected * scale


def _wrong(description, **methods):
    return type("Wrong", (Module,), {"__doc__": description, **methods})


def _flipped(self, x):
    convolution = self.dw_conv[0]
    return F.conv2d(x, convolution.weight.flip(-1), convolution.bias, 1, convolution.padding, groups=self.channels)


def _over(*axes):
    """Layer norm over other axes of (N, H, W, C), with the layer's own scale and shift."""

    def layer_norm(self, x):
        layer = self.dw_conv[1][1]
        centred = x - x.mean(axes, keepdim=True)
        return centred / (centred.square().mean(axes, keepdim=True) + layer.eps).sqrt() * layer.weight + layer.bias

    return layer_norm


MODULE_MUTANTS = {
    "softmax_over_groups": _wrong("softmax over G instead of P", normalised=lambda self, logits: logits.softmax(-2)),
    "softmax_over_everything": _wrong(
        "one softmax over all groups' points",
        normalised=lambda self, logits: logits.flatten(-2).softmax(-1).view_as(logits),
    ),
    "softmax_over_columns": _wrong("softmax over W", normalised=lambda self, logits: logits.softmax(2)),
    "softmax_missing": _wrong("the mask's logits as they are", normalised=lambda self, logits: logits),
    "sigmoid_for_softmax": _wrong("sigmoid in place of softmax", normalised=lambda self, logits: logits.sigmoid()),
    "softmax_detached": _wrong("no gradient to the mask", normalised=lambda self, logits: logits.softmax(-1).detach()),
    "branch_on_projection": _wrong(
        "offsets and mask predicted from the projected input", branch_input=lambda self, x, projected: projected
    ),
    "branch_detached": _wrong("no gradient to x from offsets and mask", branch_input=lambda self, x, _: x.detach()),
    "offset_detached": _wrong("no gradient through offsets", offset_features=lambda self, f: f.detach()),
    "input_projection_missing": _wrong("x sampled unprojected", projected=lambda self, x: x + 0 * self.input_proj(x)),
    "input_projection_transposed": _wrong(
        "the input projection's matrix transposed",
        projected=lambda self, x: x @ self.input_proj.weight + self.input_proj.bias,
    ),
    "output_projection_twice": _wrong(
        "projected twice", finished=lambda self, *a: self.output_proj(Module.finished(self, *a))
    ),
    "output_projection_missing": _wrong(
        "the output left unprojected",
        finished=lambda self, out, x, p, f: (
            self.blended(out, x, p, self.per_channel(self.scale(f))) + 0 * self.output_proj(out)
        ),
    ),
    "depthwise_padding_one_sided": _wrong(
        "the depthwise window padded on one side only",
        locally=lambda self, x: F.conv2d(
            F.pad(x, (2, 0, 2, 0)), self.dw_conv[0].weight, self.dw_conv[0].bias, groups=self.channels
        ),
    ),
    "depthwise_padding_reflected": _wrong(
        "the depthwise window padded by reflection",
        locally=lambda self, x: F.conv2d(
            F.pad(x, (1, 1, 1, 1), "reflect"), self.dw_conv[0].weight, self.dw_conv[0].bias, groups=self.channels
        ),
    ),
    "depthwise_kernel_mirrored": _wrong("the depthwise kernel mirrored", locally=_flipped),
    "layer_norm_over_width": _wrong("layer norm over W", layer_norm=_over(2)),
    "layer_norm_over_image": _wrong("layer norm over H, W and C together", layer_norm=_over(1, 2, 3)),
    "layer_norm_unbiased": _wrong(
        "layer norm with the unbiased variance",
        layer_norm=lambda self, x: (
            (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True) + 1e-6).sqrt() * self.dw_conv[1][1].weight
            + self.dw_conv[1][1].bias
        ),
    ),
    "norm_after_activation": _wrong(
        "activation first, then norm", activated=lambda self, x: self.layer_norm(F.gelu(x))
    ),
    "gelu_by_tanh": _wrong(
        "GELU's tanh approximation", activated=lambda self, x: F.gelu(self.layer_norm(x), approximate="tanh")
    ),
    "activation_missing": _wrong("no activation", activated=lambda self, x: self.layer_norm(x)),
    "blend_swapped": _wrong(
        "scale and 1 - scale swapped", blended=lambda self, out, x, p, scale: out * scale + p * (1 - scale)
    ),
    "blend_with_input": _wrong(
        "blended with the input, not its projection",
        blended=lambda self, out, x, p, scale: out * (1 - scale) + x * scale,
    ),
    "blend_added": _wrong(
        "the scaled projection added to the whole output", blended=lambda self, out, x, p, scale: out + p * scale
    ),
    "blend_after_projection": _wrong(
        "blended after the output projection",
        finished=lambda self, out, x, p, f: self.blended(self.output_proj(out), x, p, self.per_channel(self.scale(f))),
    ),
    "blend_without_sigmoid": _wrong(
        "the blend's scale without its sigmoid",
        scale=lambda self, f: F.linear(f, self.center_feature_scale_proj_weight, self.center_feature_scale_proj_bias),
    ),
    "blend_of_other_groups": _wrong(
        "scales handed to channels round robin",
        per_channel=lambda self, scale: torch.cat([scale] * (self.channels // self.group), -1),
    ),
}


def __getattr__(name):
    if name not in MODULE_MUTANTS:
        raise AttributeError(name)
    wrong = MODULE_MUTANTS[name]

    def forward(self, x):
        return wrong.forward(self, x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)

    return type(name, (wrong,), {"__doc__": wrong.__doc__, "forward": forward})
