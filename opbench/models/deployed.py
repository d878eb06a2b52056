"""Anybody's network as the operators of a task: as it is, and with each swap in it, as `opbench deploy` holds them.

The file that declares one is written by that command and loaded like any other that declares operators: in the
processes that build and measure, never in the one that judges.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from opbench.models import network_case
from opbench.models.copying import deep_copy
from opbench.models.costs import Swap, parse_swap
from opbench.models.detectors import forget_anchors
from opbench.models.networks import plain, register_network
from opbench.models.replacements import operators, resolved
from opbench.models.swap import swap
from opbench.models.target import load_model
from opbench.operators.common.choice import Core
from opbench.registry import register_task
from opbench.schema import Dims, Implementation, OpbenchError, Task

TASK = "deployed_model"
AS_IT_IS = "as-it-is"
# Of several swaps together: what each takes by itself in torch, and what each exports best as.
AUTO, EXPORTED = "auto", "exported"


class OneOutput(nn.Module):
    """A network with one tensor out: its own, or all of its tensors as (N, everything), joined.

    A detection head of ultralytics decodes its boxes and leaves the feature maps out, as in its own exports.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model.eval()
        for part in model.modules():
            if isinstance(getattr(part, "export", None), bool):
                part.export = True  # type: ignore[assignment]

    def forward(self, *inputs: Tensor) -> Tensor:
        """Raises OpbenchError where nothing comes out."""
        found = [one for one in tree_leaves(self.model(*inputs)) if isinstance(one, Tensor) and one.is_floating_point()]
        if not found:
            raise OpbenchError(f"{type(self.model).__name__}: it returns no tensor of floating-point numbers")
        return found[0] if len(found) == 1 else torch.cat([one.flatten(1) for one in found], 1)


def free_sizes(network: nn.Module) -> None:
    """Before an export with free axes: a head of ultralytics is told to compute its anchors at each call."""
    for part in network.modules():
        if isinstance(getattr(part, "dynamic", None), bool):
            part.dynamic = True  # type: ignore[assignment]


def swap_names(swaps: Sequence[Swap]) -> dict[str, tuple[Swap, ...]]:
    """The networks beside the one as it is, by the names that they compete under: each swap alone, then all of them."""
    names: dict[str, tuple[Swap, ...]] = {}
    count: Counter[str] = Counter()
    for one in swaps:
        count[one.with_] += 1
        again = f"-{count[one.with_]}" if count[one.with_] > 1 else ""
        names[f"with-{one.with_}{again}"] = (one,)
    if len(swaps) > 1:
        names["with-" + "+".join(one.with_ for one in swaps)] = tuple(swaps)
    return names


def register_deployed(
    target: str,
    *,
    swaps: Sequence[str] = (),
    arguments: Sequence[str] = (),
    seed: int = 0,
) -> None:
    """Declares the task `deployed_model` with the network that `target` names (see `load_model`).

    Its own weights stay; those of a YAML file's network, and of what is swapped in, are drawn as every operator's are.
    Raises OpbenchError for what can't be loaded or swapped.
    """
    parsed = [parse_swap(text) for text in swaps]

    @functools.lru_cache(maxsize=1)
    def loaded() -> nn.Module:
        return load_model(target, arguments, seed).eval().float()

    def given(dims: Dims) -> dict[str, tuple[int, ...]]:
        return {"x": (dims["N"], dims["C"], dims["H"], dims["W"])}

    # Found when a network is made, and the same at every size: what was swapped in, by name.
    changed: dict[str, tuple[str, ...]] = {}

    def network(dims: Dims, core: Core | str, *, name: str, chosen: Sequence[Swap]) -> nn.Module:
        twin = deep_copy(loaded())
        forget_anchors(twin)
        if chosen:
            example = torch.zeros(given(dims)["x"])
            torch.manual_seed(seed)
            made = []
            for one in chosen:
                made += [(one, change) for change in swap(twin, one.what, one.with_, where=one.where, example=example)]
            changed[name] = tuple(known for _, change in made for known in change.names)
            for one, change in made:
                _appoint(twin.get_submodule(change.name), one, core)
            forget_anchors(twin)
        return OneOutput(twin)

    drawn = target.endswith((".yaml", ".yml"))

    def kept(entry: str, *, name: str) -> bool:
        """Whether an entry of the state dict, or a module, is the network's own."""
        return not drawn and not any(f"{entry}.".startswith(f"model.{new}.") for new in changed.get(name, ()))

    register_task(
        Task(
            name=TASK,
            title=f"{target}: as it is, and with what is swapped in",
            baseline=f"{AS_IT_IS}[torch]",
            dims=("N", "C", "H", "W"),
            deformable=True,
        )
    )
    table: Mapping[str, tuple[Swap, ...]] = {AS_IT_IS: (), **swap_names(parsed)}
    for name, chosen in table.items():
        register_network(
            task=TASK,
            name=name,
            title=f"{target} {' and '.join(one.text for one in chosen) or 'as it is'}",
            source="the user's own",
            network=functools.partial(network, name=name, chosen=chosen),
            inputs=given,
            implementations=implementations(chosen) if chosen else plain(),
            requires=lambda dims: None,
            forget=forget_anchors,
            kept=functools.partial(kept, name=name),
            closed_form=False,
        )


def try_swaps(model: nn.Module, chosen: Sequence[Swap], example: Tensor) -> None:
    """Swaps in a copy of the model. Raises OpbenchError for what can't be."""
    twin = deep_copy(model)
    for one in chosen:
        swap(twin, one.what, one.with_, where=one.where, example=example)


def implementations(chosen: Sequence[Swap]) -> dict[str, Implementation]:
    """The ways to compute what was swapped in: of one operator its own, of several together what each does best."""
    if len(chosen) > 1:
        ours = [resolved(operators()[one.with_], one.implementation, "cpu") for one in chosen]
        theirs = [_best_export(one) for one in chosen]
        said = " and ".join(f"{one.with_}[{found.name}]" for one, found in zip(chosen, ours, strict=True))
        why = next((found.obstacle_to_export for found in ours if found.obstacle_to_export), "")
        found = {AUTO: Implementation(AUTO, devices=("cpu",), note=said, unexportable=why)}
        if not any(one is None for one in theirs):
            said = " and ".join(f"{one.with_}[{two.name}]" for one, two in zip(chosen, theirs, strict=True) if two)
            found[EXPORTED] = Implementation(EXPORTED, devices=("cpu",), note=said, exported=bool(why))
        return found
    (one,) = chosen
    usual = resolved(operators()[one.with_], one.implementation, "cpu")
    able = [
        found
        for found in operators()[one.with_].implementations.values()
        if "cpu" in found.devices and (found is usual or not found.obstacle_to_export)
    ]
    able = [usual] if one.implementation != AUTO else able
    return {found.name: replace(found, function=None) for found in able}


def _best_export(one: Swap) -> Implementation | None:
    """What a swap is exported as where nothing else is asked for: the graph that is made for it, or the first."""
    table = operators()[one.with_].implementations
    if one.implementation != AUTO:
        return None if table[one.implementation].obstacle_to_export else table[one.implementation]
    able = [found for found in table.values() if not found.obstacle_to_export and found.missing() is None]
    return next((found for found in able if found.exported), next(iter(able), None))


def _appoint(module: nn.Module, one: Swap, core: Core | str) -> None:
    """Gives what a swap brought the implementation of a name; a core itself is for all of them."""
    kinds = tuple(network_case.cored())
    operator = operators()[one.with_]
    wanted: Any = core
    if isinstance(core, str):
        if core == EXPORTED:
            best = _best_export(one)
            wanted = best.function if best else AUTO
        else:
            name = one.implementation if core == AUTO else core
            wanted = resolved(operator, name, "cpu").function
    if wanted is None:
        return
    for part in module.modules():
        if isinstance(part, kinds) and hasattr(part, "implementation"):
            part.implementation = wanted
