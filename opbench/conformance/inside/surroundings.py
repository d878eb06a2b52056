"""What stands around a core in a module, in plain words, held against what the operator's own module has there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from opbench.conformance.inside.found import Found
from opbench.conformance.inside.tracing import INPUT, CallResult, Place, Trace

# What torch calls a layer, and what people do.
_WORDS = {
    "batch_norm": "batch norm", "layer_norm": "layer norm", "group_norm": "group norm",
    "instance_norm": "instance norm",
    "silu": "SiLU", "gelu": "GELU", "relu": "ReLU", "leaky_relu": "leaky ReLU", "relu6": "ReLU6", "mish": "Mish",
    "hardswish": "hard swish", "elu": "ELU", "sigmoid": "sigmoid", "tanh": "tanh", "softmax": "softmax",
    "pixel_shuffle": "pixel shuffle", "interpolate": "interpolation", "dropout": "dropout", "linear": "1x1 convolution",
    "rms_norm": "RMS norm", "prelu": "PReLU", "softplus": "softplus", "conv_transpose2d": "transposed convolution",
}  # fmt: skip
BEFORE, BRANCH, BEHIND = "before", "branch", "behind"


def word(event: CallResult) -> str:
    """What a call is called; "" for what only moves values or is arithmetic."""
    name = event.call.strip("_")
    if name != "conv2d":
        return _WORDS.get(name, "")
    weight = event.given[1]
    if weight[2:] == (1, 1):
        return "1x1 convolution"
    kind = "depthwise convolution" if weight[1] == 1 < weight[0] else "convolution"
    return f"{weight[2]}x{weight[3]} {kind}"


def differences(found: Found, trace: Trace, elsewhere: Collection[Place] = ()) -> tuple[str, ...]:
    """What the module has that the operator's own has not, and the other way round; `elsewhere` are other cores'."""
    anatomy = found.anatomy
    first, *_ = found.tensors
    places = {name: part.place for name, part in found.tensors.items() if part.place is not None}
    before = trace.before((places[first],)) if first in places else set()
    predicted = tuple(places[name] for name in anatomy.predicted if name in places)
    shared = before if places.get(first, (INPUT, 0))[0] != INPUT else set()
    branch = trace.before(predicted) - shared
    assert found.output.place is not None
    behind = trace.behind(found.output.place) - {found.output.place}
    names = " and ".join(anatomy.predicted)
    told = []
    for region, inside, where in (
        (BEFORE, before, "before the core"),
        (BRANCH, branch, f"in the branch that predicts {names}"),
        (BEHIND, behind, "behind the core"),
    ):
        told += _told(
            _words(trace, inside.difference(elsewhere)), Counter(anatomy.around.get(region, ())), where, anatomy.own
        )
    return (*told, *_orders(found))


def _words(trace: Trace, inside: set[Place]) -> Counter[str]:
    return Counter(name for event in trace.events if event.place in inside and (name := word(event)))


def _told(seen: Counter[str], own: Counter[str], where: str, whose: str) -> list[str]:
    lacking = Counter(own)
    told = []
    for name, count in seen.items():
        # A size in front of it isn't the operator's to say, as in 3x3 convolution.
        plain = name if name in own else name.partition(" ")[2] if name.partition(" ")[2] in own else name
        kept = min(count, lacking[plain])
        lacking[plain] -= kept
        more = count - kept
        if more:
            often = f" ({more} of them)" if more > 1 else ""
            told.append(f"{name} {where}, where {whose} has {'one less' if kept else 'none'}{often}")
    told += [f"no {name} {where}, where {whose} has one" for name, count in lacking.items() if count > 0]
    return told


def _orders(found: Found) -> list[str]:
    """Channels that are counted in another order than the core's: weights of the operator's own need permuting."""
    told = []
    spatial = {part for part, length in found.lengths.items() if length == 1} | {"n", "c", "h", "w", "a", "b", "v", "u"}
    for name in found.anatomy.predicted:
        if name not in found.tensors:
            continue
        own = [part for axis in found.anatomy.layouts[name] for part in axis if part not in spatial]
        here = [part for axis in found.tensors[name].layout for part in axis if part.removeprefix("-") not in spatial]
        if here != own:
            told.append(
                f"the channels of {name} are counted in the order {_counted(here)}, "
                f"the operator's own in {_counted(own)}"
            )
    return told


def _counted(order: list[str]) -> str:
    return f"({', '.join(part if part[0] != '-' else f'{part[1:]} from its end' for part in order)})"


# Of two modules whose parameters have the same names and shapes, what may still differ by the author's choice.
_CHOSEN = frozenset(
    (
        "SiLU", "GELU", "ReLU", "leaky ReLU", "ReLU6", "Mish", "hard swish", "ELU", "PReLU", "softplus", "tanh",
        "sigmoid", "batch norm", "layer norm", "group norm", "instance norm", "RMS norm", "dropout",
    )
)  # fmt: skip


def chosen_otherwise(theirs: Trace, own: Trace, whose: str) -> tuple[str, ...]:
    """The activations and norms that one module has and the published one has not, and the other way round."""
    kept = [Counter(name for event in trace.events if (name := word(event)) in _CHOSEN) for trace in (theirs, own)]
    more, fewer = kept[0] - kept[1], kept[1] - kept[0]
    told = [f"{name}, where {whose} has {_one_of(fewer)}" for name in more]
    return tuple(told or [f"no {name}, where {whose} has one" for name in fewer])


def _one_of(words: Counter[str]) -> str:
    return " or ".join(words) or "none"
