"""The module that a line of ultralytics' YAML makes: its arguments, in whichever of the write-ups' orders.

Which operator the line's name stands for, `opbench.models.ultralytics_names` says. A wrapper ("C2f_DCNv3") has the
operator in the place of the second convolution of each bottleneck.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from typing import Any

from torch import nn

from opbench.errors import said
from opbench.models.replacements import choosing, dims_of, resolved
from opbench.models.ultralytics_block import UnfusedConv
from opbench.models.ultralytics_names import Line, positional
from opbench.schema import OpbenchError

_OUTPUT = re.compile(r"^(?:ou|c2$|c_?out$)")
_GROUPS = ("g", "group", "groups")
_KERNEL = ("k", "kernel_size")
# From here on a number is one of channels: no kernel, scale or number of groups that a write-up gives is as large.
_LEAST_CHANNELS = 16


def plainly(arguments: Sequence[Any]) -> list[Any]:
    """YAML reads None as a word."""
    return [None if value == "None" else value for value in arguments]


# --- A line that keeps its channels -------------------------------------------------------------------------------


def upsampler(line: Line, channels: int, nominal: int | None, arguments: Sequence[Any]) -> nn.Module:
    """Of the channels it reads. `nominal`: what the line's first number comes to by the network's width.

    Understood: nothing; the class's own arguments after its channels; the scale first; channels before them, if they
    are those of the layer that it reads; what was left of `nn.Upsample, [None, 2, nearest]`. Raises OpbenchError else.
    """
    given = plainly(arguments)
    right = f"the channels are those of the layer it reads, {channels}: [-1, 1, {line.name}, []]"
    if given and _number(given[0]) and given[0] >= _LEAST_CHANNELS:
        if channels not in (given[0], nominal):
            raise OpbenchError(f"{line.name}, {list(arguments)}: {right}")
        given = given[1:]
    if given[:1] == [None]:
        if len(given) != 3 or given[2] not in ("nearest", "bilinear", "bicubic"):
            raise OpbenchError(f"{line.name}, {list(arguments)}: {right}")
        given = given[1:2]
    kind = line.operator.classes[0]
    names = positional(kind)
    own = names[2 if _two_channels(names) else 1 :]
    keywords = _by_meaning(own, given)
    if keywords is None:
        raise OpbenchError(f"{line.name}, {list(arguments)}: expected at most {_listed(own)}; {right}")
    return _made(line, kind, (channels, channels) if _two_channels(names) else (channels,), keywords, arguments)


def _by_meaning(own: Sequence[str], given: Sequence[Any]) -> dict[str, Any] | None:
    """The arguments by name; None where there are too many.

    An even number in the place of a kernel is the scale, written first; of the two kernels behind it the larger one
    reassembles, as k_enc = k_up - 2 in the paper (section 4.3).
    """
    scaled = own and own[0].startswith("k_") and "scale" in own and given and _number(given[0]) and given[0] % 2 == 0
    if not scaled:
        return dict(zip(own, given, strict=False)) if len(given) <= len(own) else None
    first, *rest = given
    found = {"scale": first}
    kernels = [name for name in own if name in ("k_enc", "k_up")]
    sizes = sorted(rest[:2]) if len(kernels) == 2 and len(rest) >= 2 else rest[:1]
    found |= dict(zip(kernels if len(sizes) == 2 else kernels[-1:], sizes, strict=False))
    others = [name for name in own if name not in found and name not in kernels]
    rest = rest[len(sizes) :]
    return {**found, **dict(zip(others, rest, strict=False))} if len(rest) <= len(others) else None


# --- A line that may change its channels ---------------------------------------------------------------------------


def convolution(line: Line, c1: int, c2: int, arguments: Sequence[Any], repeats: int = 1) -> nn.Module:
    """Of the channels in and out, and the line's further arguments, in the order of the operator's class.

    Padded as a `Conv` line is, where the class leaves it open. Raises OpbenchError for what it can't take.
    """
    kind, given = line.kind, plainly(arguments)
    names = positional(kind)
    written = ["channels", *arguments]
    if line.repeats:
        return _block(line, c1, c2, repeats, given, written)
    if not _two_channels(names):
        if c1 != c2:
            raise OpbenchError(
                f"{line.name}: it keeps its channels, got {c1} and {c2}: put a line [-1, 1, Conv, [{c2}, 1]] before it"
            )
        if given in ([], [3], [3, 1]):
            return slotted(line, c1, 1)
        if getattr(kind, "channels_last", False):
            raise OpbenchError(f"{line.name}, {written}: expected [channels] or [channels, 3]")
        return _made(line, kind, (c1,), dict(zip(names[1:], given, strict=False)), written)
    own, keywords = names[2:], _keywords(kind)
    if "k" in keywords and not {"s", "stride"} & {*own} and _as_a_convs(given, bool(own)):
        return _made(line, kind, (c1, c2), {"k": given[0]}, written)
    if len(given) > len(own):
        raise OpbenchError(f"{line.name}, {written}: expected at most [channels, {_listed(own)}]")
    found = dict(zip(own, given, strict=False))
    if inspect.signature(kind).parameters.get("padding", inspect.Parameter("none", _ANY)).default == 0:
        found.setdefault("padding", found.get("kernel_size", 3) // 2)
    return _made(line, kind, (c1, c2), found, written)


def _as_a_convs(given: Sequence[Any], other: bool) -> bool:
    """Whether these are k, s and p of a `Conv`, of a class that halves whatever the stride says.

    `other`: a lone 1 is the class's own argument, such as a dimension.
    """
    k, s, p = [*given[:3], None, None, None][:3]
    if not _whole(k) or len(given) > 3 or (other and len(given) == 1 and k == 1):
        return False
    return s in (None, 1, 2) and p in (None, k // 2)


def _block(line: Line, c1: int, c2: int, repeats: int, given: Sequence[Any], written: Sequence[Any]) -> nn.Module:
    """A block of so many repeats inside: after the channels come its own arguments, or a lone share of the channels."""
    own = positional(line.kind)[3:]
    if len(given) > len(own):
        raise OpbenchError(f"{line.name}, {written}: expected at most [channels, {_listed(own)}]")
    found = dict(zip(own, given, strict=False))
    if len(given) == 1 and isinstance(given[0], float) and "e" in own:
        found = {"e": given[0]}
    return _made(line, line.kind, (c1, c2), {"n": repeats, **found}, written)


def slotted(line: Line, channels: int, groups: int) -> nn.Module:
    """The operator's own module in the slot, at these channels; it chooses its core when it is called."""
    operator = line.operator
    dims = {**dims_of(operator, 1, channels, 8, 8, channels)}
    if "G" in dims and groups != 1:
        dims["G"] = groups
    reason = operator.requires(dims)
    if reason is not None:
        raise OpbenchError(f"{line.name}: {reason}")
    return choosing(operator.module(dims, resolved(operator, "auto", "cpu")))


# --- Blocks around it ----------------------------------------------------------------------------------------------


def check_wrapper(line: Line, block: type, arguments: Sequence[Any]) -> tuple[list[Any], int]:
    """What the block is parsed with, ungrouped, and the groups that the line gives the operator.

    Raises OpbenchError for arguments in another order than the block's.
    """
    own = [one for one in inspect.signature(block).parameters.values() if one.name not in ("c1", "n")]
    given = plainly(arguments)
    groups = 1
    shown = f"{line.name}, {list(arguments)}"
    expected = f"[{', '.join(('channels', *(f'{one.name}={one.default}' for one in own[1:])))}]"
    if not given or len(given) > len(own):
        raise OpbenchError(f"{shown}: expected {expected}")
    for at, (one, value) in enumerate(zip(own, given, strict=False)):
        flag = isinstance(one.default, bool)
        if at and value is not None and (flag != isinstance(value, bool) or (one.name == "g" and not _whole(value))):
            raise OpbenchError(f"{shown}: expected {expected}, got {one.name}={value!r}")
        if one.name == "g" and value is not None:
            groups, given[at] = value, 1
    return given, groups


def fill(line: Line, block: nn.Module, groups: int) -> None:
    """The operator in the place of the second convolution of each bottleneck inside a block, or of itself.

    A module with a norm of its own behind it takes the place of convolution, norm and activation, as in the write-ups;
    one without takes the convolution's alone.
    """
    from opbench.models.ultralytics_package import import_ultralytics

    kind = import_ultralytics("ultralytics.nn.modules.block").Bottleneck
    for bottleneck in [part for part in block.modules() if isinstance(part, kind)]:
        old = bottleneck.cv2
        c1, c2, k = old.conv.in_channels, old.conv.out_channels, old.conv.kernel_size[0]
        new = _inside(line, c1, c2, k, groups)
        if any(isinstance(part, nn.BatchNorm2d) and part.num_features == c2 for part in new.modules()):
            bottleneck.cv2 = new
        else:
            old.conv = new
            old.__class__ = UnfusedConv


def _inside(line: Line, c1: int, c2: int, k: int, groups: int) -> nn.Module:
    kind = line.operator.classes[0]
    parameters = inspect.signature(kind).parameters
    grouped, sized = ([name for name in names if name in parameters] for names in (_GROUPS, _KERNEL))
    if groups != 1 and not grouped:
        raise OpbenchError(f"{line.name}: {line.operator.name} has no groups, got g={groups}: leave it 1")
    if groups != 1 and (c1 % groups or c2 % groups):
        fitting = [n for n in range(1, c2 + 1) if c1 % n == c2 % n == 0]
        nearest = min(fitting, key=lambda n: abs(n - groups))
        raise OpbenchError(
            f"{line.name}: its bottlenecks have {c2} channels inside, which {groups} groups don't divide: "
            f"g={nearest} would"
        )
    if _two_channels(positional(kind)) and sized:
        chosen = {sized[0]: k, **({grouped[0]: groups} if grouped else {})}
        if parameters.get("padding", inspect.Parameter("none", _ANY)).default == 0:
            chosen["padding"] = k // 2
        return _made(line, kind, (c1, c2), chosen, [c2])
    if c1 != c2:
        raise OpbenchError(f"{line.name}: {line.operator.name} keeps its channels, got {c1} and {c2}: give e=1.0")
    return slotted(line, c1, groups)


# --- Classes -------------------------------------------------------------------------------------------------------

_ANY = inspect.Parameter.POSITIONAL_OR_KEYWORD


def _keywords(kind: type) -> set[str]:
    return {one.name for one in inspect.signature(kind).parameters.values() if one.kind is one.KEYWORD_ONLY}


def _two_channels(names: Sequence[str]) -> bool:
    return len(names) > 1 and _OUTPUT.search(names[1]) is not None


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "nothing"


def _made(
    line: Line, kind: type, channels: Sequence[int], keywords: dict[str, Any], written: Sequence[Any]
) -> nn.Module:
    try:
        module: nn.Module = kind(*channels, **keywords)
    except OpbenchError:
        raise
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:  # what constructors say of arguments
        order = _listed(positional(kind)[len(channels) :])
        raise OpbenchError(f"{line.name}, {list(written)}: {said(error)}; after the channels: {order}") from error
    return module
