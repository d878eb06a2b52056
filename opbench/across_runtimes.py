"""Panels of one operator in several runtimes: what it costs in each, over what it costs in torch.

A panel of the usual kind is of one runtime, so that a ratio says what an operator costs there beside its rivals. This
one is of one operator, so that a ratio says what leaving torch costs it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from opbench import registry
from opbench.runtimes import RUNTIMES
from opbench.schema import DEFAULT_RUNTIME, Case, Panel


def runtimes_asked(listed: Sequence[str], named: Sequence[str]) -> tuple[str, ...]:
    """Torch first, then those that were asked for by name, else those that the suite lists, else every one."""
    others = [name for name in named or listed if name != DEFAULT_RUNTIME]
    return (DEFAULT_RUNTIME, *(others or [name for name in RUNTIMES if name != DEFAULT_RUNTIME]))


def regrouped(cases: Sequence[Case], source: str) -> Iterator[Panel]:
    """One panel for each operator among cases that differ in contender and runtime alone.

    An operator has one where it runs in torch and in another runtime. The baseline is what `auto` takes in torch.
    """
    operators: dict[str, list[Case]] = {}
    for case in cases:
        operators.setdefault(case.operator, []).append(msgspec.structs.replace(case, across_runtimes=True))
    for found in operators.values():
        in_torch = [case for case in found if case.runtime == DEFAULT_RUNTIME]
        elsewhere = [case for case in found if case.runtime != DEFAULT_RUNTIME]
        if in_torch and elsewhere:
            baseline = min(in_torch, key=_preference)
            rest = [case for case in (*in_torch, *elsewhere) if case is not baseline]
            yield Panel(baseline.panel_id, source, baseline.contender, (baseline, *rest))


def _preference(case: Case) -> int:
    """The place of its implementation in the order that `auto` tries; of what it doesn't, behind."""
    order = registry.operator(case.task, case.operator).preferred
    return order.index(case.implementation) if case.implementation in order else len(order)
