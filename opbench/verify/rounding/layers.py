"""Operations that torch has as one and that are several: written out as the others."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from opbench.verify.rounding.arithmetic import Spread
from opbench.verify.rounding.elementwise import applied, gelu_slope
from opbench.verify.rounding.sums import made, settled, written
from opbench.verify.rounding.tracked import Tracked, arithmetic, current, fused, rule

aten = torch.ops.aten


@rule(aten._softmax)
def _softmax(func: Any, x: Tracked, dim: int, half_to_float: bool = False) -> Any:
    raised = torch.exp(x - x.amax(dim, keepdim=True))
    return raised / raised.sum(dim, keepdim=True)


@rule(aten._softmax_backward_data)
def _softmax_backward(func: Any, grad: Any, output: Any, dim: int, dtype: Any = None) -> Any:
    weighed = grad * output
    return weighed - output * weighed.sum(dim, keepdim=True)


@rule(aten.sigmoid_backward)
def _sigmoid_backward(func: Any, grad: Any, output: Any) -> Any:
    return grad * (output * (1 - output))


@rule(aten.tanh_backward)
def _tanh_backward(func: Any, grad: Any, output: Any) -> Any:
    return grad * (1 - output * output)


@rule(aten.silu_backward)
def _silu_backward(func: Any, grad: Any, x: Any) -> Any:
    gate = torch.sigmoid(x)
    return grad * (gate * (1 + x * (1 - gate)))


@rule(aten.gelu_backward)
def _gelu_backward(func: Any, grad: Any, x: Tracked, approximate: str = "none") -> Any:
    def bend(x: Tensor, _: Tensor) -> Tensor:
        return (2 - x.square()) * torch.exp(-x.square() / 2) / math.sqrt(2 * math.pi)

    return grad * applied(x, gelu_slope, bend, 4.0)


@rule(aten.var)
def _var(func: Any, x: Any, dim: Any = None, correction: Any = 1, keepdim: bool = False) -> Any:
    mean = x.mean(dim, keepdim=True)
    centred = x - mean
    length = x.numel() // max(1, mean.numel())
    return (centred * centred).sum(dim, keepdim=keepdim) / (length - (1 if correction is None else correction))


@rule(aten.var_mean)
def _var_mean(func: Any, x: Any, dim: Any = None, correction: Any = 1, keepdim: bool = False) -> Any:
    return _var(func, x, dim, correction, keepdim), x.mean(dim, keepdim=keepdim)


# --- Normalisation ----------------------------------------------------------------------------------------------


def normalised(x: Tracked, over: list[int], eps: float) -> tuple[Tracked, Tracked, Tracked]:
    """(x - mean) / sqrt(variance + eps) over some axes; the mean; and one over that root.

    An error of one x moves the mean and the variance too: with n its share of the result and m elements,
    d out_i = scale * (e_i - mean(e) - n_i * mean(n e)). Taken for independent, these three would add up: each layer of
    batch statistics over a few pixels would double the variance where in truth it takes some away.
    """
    if current().generator is not None:
        return _written_out(x, over, eps)
    value, spread = settled(x)
    mean = value.mean(over, keepdim=True)
    centred = value - mean
    power = centred.square().mean(over, keepdim=True)
    scale = (power + eps).rsqrt()
    normal = centred * scale
    held, m = arithmetic(), value.numel() // max(1, mean.numel())
    unit = held.summed**2 / 3
    # Of the mean's own sum; of taking it away; and, relative, of the power's sum, root and product.
    summing = held.summing(m, (mean * m).square(), value.square().sum(over, keepdim=True)).mean / m**2
    own = (summing + torch.maximum(value.square(), mean.square()) * unit) * scale.square()
    relative = (m / 12 + 4) * unit
    made_of = Spread(own + normal.square() * relative)
    if spread is not None:
        made_of = made_of.plus(_projected(spread.whole, normal, scale, over, m))
    of_scale = scale.square() * relative
    of_mean = summing
    if spread is not None:
        of_scale = of_scale + scale.square().square() * (spread.mean * normal.square()).sum(over, keepdim=True) / m**2
        of_mean = of_mean + spread.mean.sum(over, keepdim=True) / m**2
    return Tracked(normal, made_of), Tracked(mean, Spread(of_mean)), Tracked(scale, Spread(of_scale))


def _written_out(x: Tracked, over: list[int], eps: float) -> tuple[Tracked, Tracked, Tracked]:
    """Mean and scale are stored, in a half type too, where all pixels have their error in common."""
    settled(x)
    mean: Any = x.mean(over, keepdim=True)
    settled(mean)
    with fused():
        centred: Any = x - mean
        power = (centred * centred).mean(over, keepdim=True)
        settled(power)
    scale: Any = torch.rsqrt(power + eps)
    settled(scale)
    with fused():
        normal: Any = centred * scale
        settled(normal)
    return normal, mean, scale


def _projected(variance: Tensor, normal: Tensor, scale: Tensor, over: list[int], m: int) -> Spread:
    """The variance of scale * (e - mean(e) - normal * mean(normal * e)) for independent e of this variance."""
    square = normal.square()
    own = variance * (1 - 2 / m - 2 * square / m)
    shared = variance.sum(over, keepdim=True) + square * (variance * square).sum(over, keepdim=True)
    shared = shared + 2 * normal * (variance * normal).sum(over, keepdim=True)
    # What a projection takes away entirely leaves the roundings of the subtraction.
    return Spread((own + shared / m**2).clamp(min=0) * scale.square())


def _normalised_backward(
    grad: Any, normal: Any, scale: Any, weight: Any, over: list[int], others: list[int], centred: bool
) -> tuple[Any, Any, Any]:
    """Gradients of x, weight and bias of weight * normal + bias, where `over` says what normal was taken over."""
    inner = grad if weight is None else grad * weight
    slope = _projection(inner, normal, over) if centred else inner
    product = grad * normal
    return slope * scale, product.sum(others), grad.sum(others)


def _projection(inner: Tracked, normal: Tracked, over: list[int]) -> Tracked:
    """inner - mean(inner) - normal * mean(inner * normal)."""
    if current().generator is not None:
        with fused():
            out: Any = inner - inner.mean(over, keepdim=True) - normal * (inner * normal).mean(over, keepdim=True)
            settled(out)
        return out  # type: ignore[no-any-return]
    (g, ge), (n, ne) = settled(inner), settled(normal)
    m = g.numel() // max(1, g.mean(over, keepdim=True).numel())
    mean, product = g.mean(over, keepdim=True), (g * n).mean(over, keepdim=True)
    value = g - mean - n * product
    held = arithmetic()
    unit = held.summed**2 / 3
    sums = held.summing(m, (mean * m).square(), g.square().sum(over, keepdim=True)).mean
    products = held.summing(m, (product * m).square(), (g * n).square().sum(over, keepdim=True)).mean
    spread = Spread(2 * unit * torch.maximum(g.square(), value.square()) + (sums + n.square() * products) / m**2)
    if ge is not None:
        spread = spread.plus(_projected(ge.whole, n, torch.ones_like(mean), over, m))
    if ne is not None:
        moved = ne.mean * product.square() + n.square() * (g.square() * ne.mean).sum(over, keepdim=True) / m**2
        spread = spread.plus(Spread(moved))
    return made(value, spread)


def _along_channels(value: Any, ndim: int) -> Any:
    return None if value is None else value.view(-1, *[1] * (ndim - 2))


def _pixels(x: Any) -> list[int]:
    return [0, *range(2, x.ndim)]


def _fused_norm(x: Any, mean: Any, variance: Any, weight: Any, bias: Any, eps: float) -> Any:
    """With statistics that are known beforehand: x times one factor a channel, plus one number, both stored."""
    settled(x)
    with fused():
        scale: Any = torch.rsqrt(variance + eps)
        factor: Any = scale if weight is None else scale * _along_channels(weight, x.ndim)
        settled(factor)
    written(factor)
    with fused():
        shift: Any = -mean * factor if bias is None else _along_channels(bias, x.ndim) - mean * factor
        settled(shift)
    written(shift)
    with fused():
        out = x * factor + shift
        settled(out)
    written(out)
    return out, mean.flatten(), scale.flatten()


@rule(aten.native_batch_norm, aten._native_batch_norm_legit, aten.cudnn_batch_norm)
def _batch_norm(
    func: Any, x: Any, weight: Any, bias: Any, mean: Any, variance: Any, training: bool, momentum: float, eps: float
) -> Any:
    scale: Any
    if training:
        out, mean, scale = normalised(x, _pixels(x), eps)
    else:
        mean, variance = (_along_channels(value, x.ndim) for value in (mean, variance))
        if current().generator is not None:
            return _fused_norm(x, mean, variance, weight, bias, eps)
        scale = torch.rsqrt(variance + eps)
        out = (x - mean) * scale
    if weight is not None:
        out = out * _along_channels(weight, x.ndim)
    if bias is not None:
        out = out + _along_channels(bias, x.ndim)
    return out, mean.flatten(), scale.flatten()


@rule(aten.native_batch_norm_backward)
def _batch_norm_backward(
    func: Any, grad: Any, x: Any, weight: Any, mean: Any, variance: Any, saved: Any, scale: Any, training: bool,
    eps: float, wanted: Any,
) -> Any:  # fmt: skip
    ndim, over = x.ndim, _pixels(x)
    if training:
        normal, _, scale = normalised(x, over, eps)
    else:
        scale = torch.rsqrt(_along_channels(variance, ndim) + eps)
        normal = (x - _along_channels(mean, ndim)) * scale
    return _normalised_backward(grad, normal, scale, _along_channels(weight, ndim), over, over, training)


@rule(aten.native_layer_norm)
def _layer_norm(func: Any, x: Any, shape: Any, weight: Any, bias: Any, eps: float) -> Any:
    out, mean, scale = normalised(x, list(range(x.ndim - len(shape), x.ndim)), eps)
    if weight is not None:
        out = out * weight
    if bias is not None:
        out = out + bias
    return out, mean, scale


@rule(aten.native_layer_norm_backward)
def _layer_norm_backward(
    func: Any, grad: Any, x: Any, shape: Any, mean: Any, scale: Any, weight: Any, bias: Any, wanted: Any
) -> Any:
    split = x.ndim - len(shape)
    over = list(range(split, x.ndim))
    return _normalised_backward(grad, (x - mean) * scale, scale, weight, over, list(range(split)), True)
