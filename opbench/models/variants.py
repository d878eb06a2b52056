"""The networks that are held side by side: the model as it is, with each swap alone, and with all swaps together."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from opbench.errors import said
from opbench.models import network_case
from opbench.models.copying import deep_copy
from opbench.models.costs import BASELINE, CostRequest, PassedOver, Swap, TakenPlaces
from opbench.models.places import NO_PART, called, counted
from opbench.models.replacements import operators, published, resolved
from opbench.models.roles import BOTTLENECK, PARTS, roles
from opbench.models.selecting import matching, predicate, slot_of
from opbench.models.sites import input_shape
from opbench.models.slots import Predicate, passed_over
from opbench.models.swap import Change, swap
from opbench.schema import Implementation, OpbenchError

Places = Mapping[Swap, Sequence[tuple[str, ...]]]


@dataclass(frozen=True)
class VariantNetwork:
    """A variant while it is measured. `compiles`: one of its parts goes through a compiler that nothing looks into."""

    name: str
    model: nn.Module
    title: str = BASELINE
    made: tuple[tuple[Swap, Change], ...] = ()
    compiles: bool = False

    @property
    def changes(self) -> tuple[Change, ...]:
        """All that was swapped in it, in the order of the swaps."""
        return tuple(change for _, change in self.made)

    @property
    def swaps(self) -> tuple[Swap, ...]:
        """The swaps that it holds."""
        return tuple(dict.fromkeys(one for one, _ in self.made))


def check_request(request: CostRequest) -> None:
    """Raises OpbenchError for what no model is needed to refuse."""
    if request.device == "cuda" and not torch.cuda.is_available():
        raise OpbenchError("--device cuda: there is no CUDA device here")
    if not math.isfinite(request.spread):
        raise OpbenchError(f"--spread {request.spread}: expected a number of pixels")
    twice = [one.text for one, times in Counter(request.swaps).items() if times > 1]
    if twice:
        raise OpbenchError(f"--swap {twice[0]}: given twice")
    for one in request.swaps:
        implementation_of(one, request)


def places(model: nn.Module, request: CostRequest, x: Tensor) -> Places:
    """The names of the modules that each swap replaces; of a slot, those that an evaluation on x calls, if any."""
    found = {one: matching(model, one.what, one.where) for one in request.swaps}
    used = called(model, [names[0] for names in itertools.chain(*found.values())], x)
    kept = {one: [names for names in places if names[0] in used] for one, places in found.items()}
    return {one: kept[one] if slot_of(one.what) and kept[one] else places for one, places in found.items()}


def taken(model: nn.Module, places: Places) -> tuple[TakenPlaces, ...]:
    """Where in the network the places of each swap are."""
    known = roles(model)
    found = []
    for one, names in places.items():
        inside = counted(names, known)
        parts = {part: inside[part] for part in (*PARTS, NO_PART) if inside[part]}
        found.append(TakenPlaces(one.text, len(names), parts, inside[BOTTLENECK]))
    return tuple(found)


def image(model: nn.Module, request: CostRequest) -> Tensor:
    """(N, C, H, W), uniform in 0..1 as an image is, on the CPU."""
    elsewhere = {str(value.device) for value in model.parameters()} - {"cpu"}
    if elsewhere:
        raise OpbenchError(
            f"target {request.target!r}: its parameters are on {', '.join(sorted(elsewhere))}, expected the CPU: "
            f"build it there, and --device moves it"
        )
    shape = (request.batch, *input_shape(model.float(), request.size)[1:])
    try:
        return torch.rand(shape, generator=torch.Generator().manual_seed(request.seed))
    except (RuntimeError, MemoryError) as error:
        raise OpbenchError(f"an input of {shape} can't be held: {said(error)}") from error


def rivals(places: Places) -> tuple[str, ...]:
    """The first two swaps that want one layer, or one a layer inside the other's; none where all can stand together."""
    for (one, mine), (other, theirs) in itertools.combinations(places.items(), 2):
        for a, b in itertools.product(itertools.chain(*mine), itertools.chain(*theirs)):
            if f"{a}.".startswith(f"{b}.") or f"{b}.".startswith(f"{a}."):
                return (one.text, other.text)
    return ()


def left(model: nn.Module, places: Places) -> tuple[PassedOver, ...]:
    """What swaps of a slot leave as it is: of `conv3x3`, other 3x3 convolutions; of any, what no evaluation calls."""
    found = []
    for one, names in places.items():
        slot, *narrowed = one.what.split("@")
        if not slot_of(slot):
            continue
        reasons: dict[str, int] = {}
        if slot == "conv3x3":
            with_role = predicate("@".join(("*", *narrowed)), model)
            named = predicate(one.where if one.where is not None else "*", model)
            reasons |= passed_over(model, _both(with_role, named))
        uncalled = len(matching(model, one.what, one.where)) - len(names)
        if uncalled:
            reasons["that no evaluation calls"] = uncalled
        if reasons:
            found.append(PassedOver(one.text, len(names), reasons, slot))
    return tuple(found)


def _both(one: Predicate, other: Predicate) -> Predicate:
    return lambda name, module: one(name, module) and other(name, module)


def networks(model: nn.Module, request: CostRequest, x: Tensor, places: Places) -> list[VariantNetwork]:
    """The model, with each swap alone, and with all of them unless two are rivals; on the CPU."""
    alone = [(one,) for one in request.swaps]
    together = [] if len(alone) < 2 or rivals(places) else [request.swaps]
    return [
        VariantNetwork(BASELINE, model),
        *(_swapped(model, swaps, request, x, places) for swaps in (*alone, *together)),
    ]


def _swapped(
    model: nn.Module, swaps: Sequence[Swap], request: CostRequest, x: Tensor, places: Places
) -> VariantNetwork:
    name = " + ".join(one.text for one in swaps)
    request.announce(f"swapping: {name}")
    twin = deep_copy(model)
    torch.manual_seed(request.seed)
    made: list[tuple[Swap, Change]] = []
    titles = []
    for one in swaps:
        # Of the model's own modules: what an earlier swap brought along is no match.
        wanted = {name for names in places[one] for name in names}
        what = (lambda name, module, wanted=wanted: name in wanted) if wanted else one.what
        able = "cpu" in implementation_of(one, request).devices
        implementation = one.implementation if able else "auto"  # until it is on the device: `appoint`
        changes = swap(twin, what, one.with_, where=one.where, example=x, implementation=implementation)
        stood = Counter(change.before for change in changes)
        titles.append(f"{one.with_} for {', '.join(f'{count} {kind}' for kind, count in stood.items())}")
        made += [(one, change) for change in changes]
    compiles = any(implementation_of(one, request).compiles for one in swaps)
    return VariantNetwork(name, twin, " and ".join(titles), tuple(made), compiles)


def appoint(network: VariantNetwork, request: CostRequest) -> None:
    """Gives every swapped core the implementation that was asked for, now that it is where that runs."""
    kinds, by_name = tuple(network_case.cored()), published()
    for one, change in network.made:
        for module in network.model.get_submodule(change.name).modules():
            if isinstance(module, kinds) and hasattr(module, "implementation"):
                # The published modules take a name; another operator's take the core itself.
                given = one.implementation if one.with_ in by_name else implementation_of(one, request).function
                module.implementation = given  # type: ignore[assignment]


def implementation_of(one: Swap, request: CostRequest) -> Implementation:
    """What computes the parts that a swap brings. Raises OpbenchError where it can't run on the device."""
    return resolved(operators()[one.with_], one.implementation, request.device)
