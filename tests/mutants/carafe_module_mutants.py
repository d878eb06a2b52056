"""Wrong CARAFE modules, one small change each to a right forward pass, that gate and checker must convict.

Each is also an attribute of this module, a class with the constructor of the module it gets wrong, so that
`opbench check tests/mutants/carafe_module_mutants.py:softmax_missing --operator carafe` names one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from opbench.conformance.declared_kinds import kind_named
from opbench.operators.carafe import carafe


@dataclass(frozen=True)
class ModuleMutant:
    """A wrong forward pass `forward(module, x)` of an operator's module (task upsample2x)."""

    name: str
    description: str
    operator: str
    forward: Callable


def over_taps(logits, g):
    """Softmax over the taps of each group."""
    return logits.unflatten(1, (g, -1)).softmax(2).flatten(1, 2)


def predicted(encoded, s, g, shuffle=F.pixel_shuffle, normalise=over_taps):
    return normalise(shuffle(encoded, s), g)


def reassembled(x, mask, k, g, s):
    return carafe(x, mask, kernel_size=k, group_size=g, scale_factor=s, implementation="shift-add")


def paper(compress=None, encode=None, predict=predicted, reassemble=reassembled):
    """The paper's forward pass, but for the steps given."""

    def forward(m, x):
        compressed = compress(m.channel_compressor, x) if compress else m.channel_compressor(x)
        encoded = encode(m.content_encoder, compressed) if encode else m.content_encoder(compressed)
        mask = predict(encoded, m.scale_factor, m.up_group)
        return reassemble(x, mask, m.up_kernel, m.up_group, m.scale_factor)

    return forward


def conv_bn_act(layer, x):
    return layer.act(layer.bn(layer.conv(x)))


def yolo(compress=conv_bn_act, encode=conv_bn_act, predict=predicted, reassemble=reassembled):
    """The write-up's forward pass, but for the steps given."""

    def forward(m, x):
        mask = predict(encode(m.enc, compress(m.comp, x)), m.scale, 1)
        return reassemble(x, mask, m.k_up, 1, m.scale)

    return forward


# --- Steps that are wrong ---------------------------------------------------------------------------------------


def shuffled_children_first(encoded, s):
    """Channel (a*s + b)*K + tap instead of tap*s*s + a*s + b."""
    return F.pixel_shuffle(encoded.unflatten(1, (s * s, -1)).transpose(1, 2).flatten(1, 2), s)


def shuffled_transposed(encoded, s):
    return F.pixel_shuffle(encoded.unflatten(1, (-1, s, s)).transpose(2, 3).flatten(1, 3), s)


def before_the_shuffle(encoded, s, g):
    return F.pixel_shuffle(encoded.softmax(1), s)


def groups_interleaved(logits, g):
    return logits.unflatten(1, (-1, g)).softmax(1).flatten(1, 2)


def without_bias(convolution, x):
    return F.conv2d(x, convolution.weight, None, padding=convolution.padding)


def padded(mode):
    def encode(convolution, x):
        r = convolution.padding[0]
        return F.conv2d(F.pad(x, (r, r, r, r), mode=mode), convolution.weight, convolution.bias)

    return encode


def padded_before(convolution, x):
    r = 2 * convolution.padding[0]
    return F.conv2d(F.pad(x, (r, 0, r, 0)), convolution.weight, convolution.bias)


def bn_with(training):
    def conv_bn(layer, x):
        bn = layer.bn
        mean, variance = bn.running_mean.clone(), bn.running_var.clone()
        return layer.act(F.batch_norm(layer.conv(x), mean, variance, bn.weight, bn.bias, training, eps=bn.eps))

    return conv_bn


def bn_epsilon(layer, x):
    bn = layer.bn
    y = layer.conv(x)
    return layer.act(F.batch_norm(y, None, None, bn.weight, bn.bias, True, eps=1e-3))


def unscaled_window(x, mask, k, g, s):
    """The write-up's unfold without its dilation: the window lies over output pixels."""
    windows = F.unfold(F.interpolate(x, scale_factor=s, mode="nearest"), k, padding=k // 2)
    windows = windows.unflatten(1, (x.shape[1], k * k)).unflatten(3, mask.shape[2:])
    return (windows * mask.unsqueeze(1)).sum(2)


CARAFE, YOLO = "carafe", "yolo-carafe"
MODULE_MUTANTS = {
    row[0]: ModuleMutant(*row)
    for row in (
        (
            "softmax_over_all_groups",
            "the softmax runs over all groups at once",
            CARAFE,
            paper(predict=lambda e, s, g: predicted(e, s, g, normalise=lambda logits, g: logits.softmax(1))),
        ),
        (
            "softmax_over_columns",
            "the softmax runs over columns",
            CARAFE,
            paper(predict=lambda e, s, g: predicted(e, s, g, normalise=lambda logits, g: logits.softmax(3))),
        ),
        (
            "softmax_over_interleaved_groups",
            "the softmax takes every g-th channel for a group",
            CARAFE,
            paper(predict=lambda e, s, g: predicted(e, s, g, normalise=groups_interleaved)),
        ),
        ("softmax_before_shuffle", "the softmax comes before the shuffle", CARAFE, paper(predict=before_the_shuffle)),
        (
            "softmax_missing",
            "the logits are the mask",
            CARAFE,
            paper(predict=lambda e, s, g: predicted(e, s, g, normalise=lambda logits, g: logits)),
        ),
        (
            "sigmoid_for_softmax",
            "sigmoid, divided by its sum, for softmax",
            CARAFE,
            paper(predict=lambda e, s, g: predicted(e, s, g, normalise=lambda m, g: over_taps(m.sigmoid().log(), g))),
        ),
        (
            "shuffle_children_first",
            "the shuffle takes the children for the outer axis of the channels",
            CARAFE,
            paper(predict=lambda e, s, g: predicted(e, s, g, shuffle=shuffled_children_first)),
        ),
        (
            "shuffle_transposed",
            "the shuffle swaps rows and columns of children",
            CARAFE,
            paper(predict=lambda e, s, g: predicted(e, s, g, shuffle=shuffled_transposed)),
        ),
        (
            "upsampled_for_shuffled",
            "the first child's mask for all children",
            CARAFE,
            paper(predict=lambda e, s, g: over_taps(e[:, :: s * s].repeat_interleave(s, 2).repeat_interleave(s, 3), g)),
        ),
        ("compressor_bias_missing", "the compressor has no bias", CARAFE, paper(compress=without_bias)),
        ("encoder_bias_missing", "the encoder has no bias", CARAFE, paper(encode=without_bias)),
        ("encoder_replicates", "the encoder pads with the border", CARAFE, paper(encode=padded("replicate"))),
        ("encoder_padded_before", "the encoder pads above and left only", CARAFE, paper(encode=padded_before)),
        ("compressor_activated", "a SiLU after the compressor", CARAFE, paper(compress=lambda c, x: F.silu(c(x)))),
        (
            "mask_detached",
            "the mask passes no gradient to the encoder",
            CARAFE,
            paper(reassemble=lambda x, mask, k, g, s: reassembled(x, mask.detach(), k, g, s)),
        ),
        (
            "x_detached_in_reassembly",
            "x gets its gradient from the mask alone",
            CARAFE,
            paper(reassemble=lambda x, mask, k, g, s: reassembled(x.detach(), mask, k, g, s)),
        ),
        ("write_up_window_undilated", "the window lies over output pixels", YOLO, yolo(reassemble=unscaled_window)),
        (
            "write_up_softmax_over_rows",
            "the softmax runs over rows",
            YOLO,
            yolo(predict=lambda e, s, g: F.pixel_shuffle(e, s).softmax(2)),
        ),
        (
            "write_up_softmax_before_shuffle",
            "the softmax comes before the shuffle",
            YOLO,
            yolo(predict=before_the_shuffle),
        ),
        (
            "write_up_shuffle_transposed",
            "the shuffle swaps rows and columns of children",
            YOLO,
            yolo(predict=lambda e, s, g: predicted(e, s, g, shuffle=shuffled_transposed)),
        ),
        ("write_up_bn_frozen", "the running statistics normalise in training", YOLO, yolo(encode=bn_with(False))),
        (
            "write_up_bn_after_act",
            "the activation comes before the normalisation",
            YOLO,
            yolo(compress=lambda layer, x: layer.bn(layer.act(layer.conv(x)))),
        ),
        ("write_up_bn_epsilon", "epsilon is 1e-3 instead of 1e-5", YOLO, yolo(compress=bn_epsilon)),
        ("write_up_act_missing", "no SiLU", YOLO, yolo(compress=lambda layer, x: layer.bn(layer.conv(x)))),
        (
            "write_up_act_relu",
            "ReLU for SiLU",
            YOLO,
            yolo(compress=lambda layer, x: torch.relu(layer.bn(layer.conv(x)))),
        ),
    )
}
RIGHT_FORWARDS = {CARAFE: paper(), YOLO: yolo()}


def __getattr__(name):
    if name not in MODULE_MUTANTS:
        raise AttributeError(name)
    mutant = MODULE_MUTANTS[name]
    return type(name, (kind_named(mutant.operator).module,), {"__doc__": mutant.description, "forward": mutant.forward})
