"""Operations that put elements elsewhere, choose among them or make new ones: nothing is rounded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._pytree import tree_map

from opbench.verify.rounding.arithmetic import Spread
from opbench.verify.rounding.sums import drawn, settled, terms, tracked
from opbench.verify.rounding.tracked import RULES, Sum, Tracked, Unanalysed, current, plain, rule

aten = torch.ops.aten
# Standard deviations within which two elements of a pooling window may change places.
TIE = 4.0
Move = Callable[..., Any]


def moved(operation: Move, operand: Tracked, longer: int = 1) -> Any:
    """An operation on every part of a tensor; `longer` is how many elements it adds up into one at most."""
    drawn(operand)
    spread, sum_ = operand.spread, operand.sum_ if longer == 1 else terms(operand)
    parts = [operand.value]
    if spread is not None:
        parts.append(spread.mean)
    if spread is not None and spread.excess is not None:
        parts.append(spread.excess)
    if sum_ is not None:
        parts.append(sum_.squares)
    if sum_ is not None and sum_.peak is not None and longer == 1:
        parts.append(sum_.peak)

    def together(found: Iterator[Tensor]) -> Tracked:
        value = next(found)
        error = None if spread is None else Spread(next(found), None if spread.excess is None else next(found))
        if sum_ is None:
            return Tracked(value, error)
        roundings = sum_.roundings * longer + longer - 1
        joins, scattered = sum_.joins * longer, sum_.scattered or longer > 1
        squares, peak = next(found), next(found, None)
        return Tracked(value, error, Sum(sum_.count * longer, squares, peak, joins, roundings, scattered, sum_.layer))

    done = [operation(part) for part in parts]
    if isinstance(done[0], Tensor):
        return together(iter(done))
    return [together(iter(pieces)) for pieces in zip(*done, strict=True)]


@rule(
    aten.alias, aten.detach, aten.lift_fresh, aten.t, aten.transpose, aten.permute, aten.expand, aten.unsqueeze,
    aten.squeeze, aten.slice, aten.select, aten.split, aten.split_with_sizes, aten.unbind, aten.unfold, aten.diagonal,
    aten.clone, aten.contiguous, aten.index_select, aten.gather, aten.flip, aten.roll, aten.repeat,
    aten.pixel_shuffle, aten.pixel_unshuffle, aten.constant_pad_nd, aten.upsample_nearest2d,
    aten.select_backward, aten.slice_backward, aten.channel_shuffle, aten.native_channel_shuffle, aten.im2col,
    aten.movedim, aten.narrow, aten.reflection_pad2d, aten.replication_pad2d, aten.tril, aten.triu, aten.chunk,
)  # fmt: skip
def _move(func: Any, operand: Any, *rest: Any, **options: Any) -> Any:
    if not isinstance(operand, Tracked):
        return func(*tree_map(plain, (operand, *rest)), **options)
    if func.overloadpacket is aten.constant_pad_nd and len(rest) > 1 and rest[1]:
        raise Unanalysed(f"{func} with another value than zero")
    return moved(lambda part: func(part, *(plain(one) for one in rest), **options), operand)


@rule(aten.view, aten._unsafe_view, aten.reshape, aten._reshape_alias)
def _view(func: Any, operand: Tracked, shape: Any, *_: Any) -> Tracked:
    if not isinstance(shape, list | tuple):
        raise Unanalysed(f"{func} as {shape}")
    return moved(lambda part: part.reshape(shape), operand)  # type: ignore[no-any-return]


@rule(aten._to_copy)
def _to(func: Any, operand: Tracked, **options: Any) -> Any:
    wanted = options.get("dtype")
    if wanted is not None and wanted != operand.dtype:
        if not wanted.is_floating_point:
            return func(operand.value, **options)
        # The definition leaves the dtype that it was called in: what then is exact is not for us to say.
        raise Unanalysed(f"a conversion to {wanted}")
    return moved(lambda part: func(part, **options), operand)


@rule(aten.cat, aten.stack)
def _cat(func: Any, given: Any, dim: int = 0) -> Any:
    like = next(one for one in given if isinstance(one, Tracked))
    parts = [tracked(one, like) for one in given]

    def joined(pieces: Iterator[Tensor]) -> Tensor:
        return func(list(pieces), dim)  # type: ignore[no-any-return]

    return gathered(joined, parts)


def gathered(join: Callable[[Iterator[Tensor]], Tensor], parts: Sequence[Tracked]) -> Tracked:
    """Several tensors made one, whose elements are each of one of them."""
    for part in parts:
        drawn(part)
    value = join(part.value for part in parts)
    spread = sum_ = None
    if any(part.spread is not None for part in parts):
        spread = Spread(join(_mean(part) for part in parts))
        if any(part.spread is not None and part.spread.excess is not None for part in parts):
            spread = Spread(spread.mean, join(_excess(part) for part in parts))
    if any(part.sum_ is not None for part in parts):
        sums = [terms(part) for part in parts]
        peaks = (part.value.square() if one.peak is None else one.peak for one, part in zip(sums, parts, strict=True))
        sum_ = Sum(
            max(one.count for one in sums),
            join(one.squares for one in sums),
            join(peaks),
            max(one.joins for one in sums),
            max(one.roundings for one in sums),
            any(one.scattered for one in sums),
            any(one.layer for one in sums),
        )
    return Tracked(value, spread, sum_)


def _mean(part: Tracked) -> Tensor:
    return torch.zeros_like(part.value) if part.spread is None else part.spread.mean


def _excess(part: Tracked) -> Tensor:
    if part.spread is None or part.spread.excess is None:
        return torch.zeros_like(part.value)
    return part.spread.excess


@rule(aten.where)
def _where(func: Any, condition: Any, one: Any, other: Any) -> Any:
    like = next((value for value in (one, other) if isinstance(value, Tracked)), None)
    if like is None:
        return func(plain(condition), one, other)
    return chosen(plain(condition), tracked(one, like), tracked(other, like))


def chosen(condition: Tensor, one: Tracked, other: Tracked) -> Tracked:
    """Elements of one where the condition holds, else of the other."""
    shape = torch.broadcast_shapes(condition.shape, one.shape, other.shape)

    def choose(pieces: Iterator[Tensor]) -> Tensor:
        return torch.where(condition, next(pieces), next(pieces))

    return gathered(choose, [wide(one, shape), wide(other, shape)])


def wide(operand: Tracked, shape: torch.Size) -> Tracked:
    """Broadcast to a shape."""
    return moved(lambda part: part.expand(shape), operand)  # type: ignore[no-any-return]


@rule(aten.masked_fill)
def _masked_fill(func: Any, operand: Any, mask: Any, value: Any) -> Any:
    return _where(aten.where.self, plain(mask), value, operand)


@rule(aten.index)
def _index(func: Any, operand: Any, indices: Any) -> Any:
    indices = [plain(one) for one in indices]
    return moved(lambda part: func(part, indices), operand) if isinstance(operand, Tracked) else func(operand, indices)


# --- What the backward passes of moves add up -------------------------------------------------------------------


@rule(aten.upsample_nearest2d_backward)
def _nearest_backward(func: Any, grad: Tracked, output: Any, given: Any, *rest: Any) -> Any:
    children = -(-output[0] // given[-2]) * -(-output[1] // given[-1])
    return moved(lambda part: func(part, output, given, *rest), grad, children)


@rule(aten.max_pool2d_with_indices)
def _max_pool(func: Any, operand: Tracked, *rest: Any) -> Any:
    settled(operand)
    value, indices = func(operand.value, *rest)
    pick = lambda part: part.expand_as(operand.value).flatten(2).gather(2, indices.flatten(2)).view_as(value)  # noqa: E731
    return Tracked(value, None if operand.spread is None else operand.spread.moved(pick)), indices


@rule(aten.max_pool2d_with_indices_backward)
def _max_pool_backward(func: Any, grad: Tracked, given: Any, kernel: Any, *rest: Any) -> Any:
    reads = kernel[0] * kernel[-1]
    options = [plain(one) for one in rest]
    out = moved(lambda part: func(part, plain(given), kernel, *options), grad, reads)
    stride, padding, dilation, ceil = options[:4]
    plainly = all(step == 1 for step in dilation) and not ceil
    if plainly and isinstance(given, Tracked) and given.spread is not None:
        out.spread = _ties(settled(grad)[0], given, kernel, stride, padding).plus(out.spread)
    return out


def _ties(grad: Tensor, given: Tracked, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int]) -> Spread:
    """What a window's gradient may be off by where rounding decides which of its largest elements it goes to."""
    value, spread = settled(given)
    assert spread is not None
    N, C, H, W = value.shape
    sides = (padding[-1], padding[-1], padding[0], padding[0])
    padded = F.pad(value.reshape(N * C, 1, H, W), sides, value=-torch.inf)
    tall, wide_ = padded.shape[2:]
    options: dict[str, Any] = {"kernel_size": tuple(kernel), "stride": tuple(stride or kernel)}
    windows = F.unfold(padded.nan_to_num(neginf=-1e300), **options)
    numbers = torch.arange(tall * wide_, dtype=torch.float64, device=value.device).view(1, 1, tall, wide_)
    places = F.unfold(numbers, **options).long().expand(len(windows), -1, -1)
    top, index = windows.max(1, keepdim=True)
    deviation = F.pad(spread.whole.expand_as(value).reshape(N * C, 1, H, W), sides).flatten(1)
    uncertain = deviation.gather(1, places.flatten(1)).view_as(windows)
    near = (top - windows).square() <= TIE**2 * (uncertain + uncertain.gather(1, index))
    near &= near.sum(1, keepdim=True) > 1  # the largest is always near itself
    # Neighbouring windows have their largest element in common, and change together.
    jump = grad.reshape(N * C, 1, -1).abs() * near
    out = torch.zeros(N * C, tall * wide_, dtype=torch.float64, device=value.device)
    out.scatter_add_(1, places.flatten(1), jump.flatten(1))
    inside = out.view(N, C, tall, wide_)[:, :, padding[0] : padding[0] + H, padding[-1] : padding[-1] + W]
    return Spread(inside.square())


# --- What makes or fills ----------------------------------------------------------------------------------------


@rule(
    aten.new_zeros, aten.zeros_like, aten.new_full, aten.full_like, aten.ones_like, aten.new_ones, aten.new_empty,
    aten.empty_like, aten.new_empty_strided,
)  # fmt: skip
def _new(func: Any, like: Tracked, *rest: Any, **options: Any) -> Any:
    value = func(like.value, *rest, **options)
    if not value.is_floating_point() or current().generator is not None:
        return Tracked(value) if value.is_floating_point() else value
    # With a variance of its own to be written into.
    return Tracked(value, Spread(torch.zeros_like(value)))


def in_place(func: Any, target: Any, *rest: Any, **options: Any) -> Any:
    """`add_` and the like: what the plain operation gives, written over the target's parts."""
    name = func.overloadpacket.__name__
    if not isinstance(target, Tracked):
        raise Unanalysed(f"{func} of a tracked tensor into one that isn't")
    if name == "copy_":
        out = tracked(rest[0], target)
    elif name in ("fill_", "zero_"):
        out = Tracked(torch.full_like(target.value, float(plain(rest[0])) if rest else 0.0))
    else:
        plain_operation = getattr(getattr(aten, name.removesuffix("_")), func._overloadname)
        found = RULES.get(plain_operation.overloadpacket)
        if found is None:
            raise Unanalysed(str(func))
        out = found(plain_operation, target, *rest, **options)
    value, spread = settled(out)
    target.value.copy_(value)
    whole = torch.zeros_like(target.value) if spread is None else spread.whole
    if current().generator is not None:
        # The error is in the value already.
        target.spread = None
    elif target.spread is None:
        target.spread = Spread(whole.expand_as(target.value).clone())
    else:
        # Into the memory that it shares with what it is a view of.
        target.spread.mean.copy_(whole)
    target.sum_ = None
    return target


_IN_PLACE = (
    "add_ sub_ mul_ div_ neg_ index_add_ scatter_add_ exp_ sigmoid_ relu_ silu_ clamp_ leaky_relu_ hardtanh_ "
    "masked_fill_ copy_ fill_ zero_"
)
for _name in _IN_PLACE.split():
    RULES[getattr(aten, _name)] = in_place
