"""Nodes that are alike make one type: their rows stand in one document and are compared, others' are kept apart.

Each type has a plan of its own, laid out by a node of it: what is installed there can be measured there. A workload's
panels of one device all go to one type, so that they can be compared; which, decides who would be done first.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from opbench.engine.resuming import COMPARED, differences
from opbench.schema import Environment, Panel, Plan, Skipped
from opbench.slug import slug

# A task's workload on a device: what isn't shared out any further.
Share = tuple[str, str, str]


@dataclass(frozen=True)
class NodeType:
    """`name` is a folder's, too; `environment` that of the first node; `apart` says in what it differs from others."""

    name: str
    environment: Environment
    apart: str = ""


def told_apart(
    environments: Mapping[str, Environment], taken: Collection[str] = ()
) -> list[tuple[NodeType, tuple[str, ...]]]:
    """The types of the named nodes, each with its nodes' names.

    Their order, and with it their names, is the same in whichever order the nodes come: a resumed run needs that.
    Names of types that are `taken` are given to none.
    """
    members: list[list[str]] = []
    for name, environment in environments.items():
        like = next((one for one in members if not differences(environments[one[0]], environment)), None)
        if like is None:
            members.append([name])
        else:
            like.append(name)
    members.sort(key=lambda names: _place(environments[names[0]]))
    found: list[tuple[NodeType, tuple[str, ...]]] = []
    names_taken = set(taken)
    for names in members:
        environment = environments[names[0]]
        reasons = differences(environments[members[0][0]], environment)
        apart = f"kept apart from {found[0][0].name}: {'; '.join(reasons)}" if found else ""
        found.append((NodeType(_free(type_name(environment), names_taken), environment, apart), tuple(names)))
    return found


def _place(environment: Environment) -> tuple[str, ...]:
    """What types are ordered by."""
    versions = (f"{name} {version}" for name, version in sorted(environment.versions.items()))
    return (*(str(getattr(environment, name)) for name in COMPARED), str(environment.share), *versions)


def type_name(environment: Environment) -> str:
    """What a node of this kind is called, as a part of a file's name.

    >>> type_name(Environment("x86_64", "Intel(R) Xeon(R) CPU", 8, 8, 1 << 34, None, "3.11", "Linux", None, None, {}))
    'intel-r-xeon-r-cpu-8-cores'
    """
    return slug(environment.gpu or f"{environment.cpu} {environment.cores} cores")


def _free(name: str, taken: set[str]) -> str:
    """The name, or with a number after it that makes it one that no other type has."""
    found, number = name, 1
    while found in taken:
        number += 1
        found = f"{name}-{number}"
    taken.add(found)
    return found


def shared_out(plans: Sequence[Plan], slots: Sequence[int], seconds: Sequence[Mapping[str, float]]) -> tuple[Plan, ...]:
    """What each type measures of its plan. Of each type: its plan, how many panels it measures at once, their seconds.

    A share goes to a type that can measure as many of its cases as any can; of those, the longest shares first, to
    the one that would have finished it first. A case that is skipped is told of by the type that has its share, and
    where nobody has it by the first.
    """
    by_share = [_panels(plan) for plan in plans]
    every = dict.fromkeys(share for panels in by_share for share in panels)

    def cost(share: Share, place: int) -> float:
        return sum(seconds[place].get(panel.id, 1.0) for panel in by_share[place].get(share, ()))

    def longest(share: Share) -> float:
        return max(cost(share, place) for place in range(len(plans)))

    load = [0.0] * len(plans)
    owner: dict[Share, int] = {}
    for share in sorted(every, key=longest, reverse=True):
        cases = [sum(len(panel.cases) for panel in panels.get(share, ())) for panels in by_share]
        able = [place for place, count in enumerate(cases) if count == max(cases)]
        chosen = min(able, key=lambda place: ((load[place] + cost(share, place)) / slots[place], place))
        load[chosen] += cost(share, chosen)
        owner[share] = chosen
    return tuple(_of_type(plan, place, owner) for place, plan in enumerate(plans))


def _panels(plan: Plan) -> dict[Share, list[Panel]]:
    found: dict[Share, list[Panel]] = {}
    for panel in plan.panels:
        found.setdefault(_share_of_panel(panel), []).append(panel)
    return found


def _share_of_panel(panel: Panel) -> Share:
    case = panel.cases[0]
    return case.task, case.workload, case.device


def _of_type(plan: Plan, place: int, owner: Mapping[Share, int]) -> Plan:
    kept = {share for share, chosen in owner.items() if chosen == place}
    panels = tuple(panel for panel in plan.panels if _share_of_panel(panel) in kept)
    skipped = tuple(one for one in plan.skipped if owner.get(_share_of(one), 0) == place)
    targets = tuple(one for one in plan.targets if (one.task, one.workload, one.device) in kept)
    return Plan(plan.suite, panels, skipped, targets)


def _share_of(skipped: Skipped) -> Share:
    """From the case's id: task/workload/dtype/device/mode/..."""
    task, workload, _, device, *_ = (*skipped.case.split("/"), "", "", "", "")
    return task, workload, device
