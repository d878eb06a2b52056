"""Which cases a test goes through: those of a suite, or of one contender, which may be the tester's own."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import torch

from opbench import plan, registry, suites
from opbench.contenders import Filters
from opbench.schema import Case, Device, DType, Mode, OpbenchError, Operator, Plan, Suite
from opbench.testing.contestants import Contestant, contestants


class CollectedCase(NamedTuple):
    """A case with its id, or the id of one that can't run and why (`skipped`)."""

    id: str
    case: Case | None
    skipped: str = ""


def of_suite(name: str) -> list[CollectedCase]:
    """Every case of a suite. Raises OpbenchError for one that there isn't."""
    registry.load()
    return _of_plan(_laid_out(suites.load(name), {}), lambda contestant: True)


def of_marker(
    operator: str | Operator,
    *,
    core: Callable[..., torch.Tensor] | None,
    module: Callable[[Mapping[str, Any]], torch.nn.Module] | None,
    name: str,
    task: str,
    suite: str,
    workloads: Mapping[str, Mapping[str, int]] | None,
    dtypes: Sequence[DType],
    modes: Sequence[Mode],
    devices: Sequence[Device],
) -> list[CollectedCase]:
    """The cases of `opbench.testing.cases`. Raises OpbenchError for what isn't known, and where there is none."""
    registry.load()
    found = contestants(operator, core, module, name, task)
    given = _written(workloads, {one.task for one in found}) if workloads else suites.load(suite)
    by_task: dict[str, list[str]] = {}
    for one in found:
        by_task.setdefault(one.task, []).append(one.name)
    chosen = tuple(
        msgspec.structs.replace(
            workload,
            contenders=tuple(by_task[workload.task]),
            dtypes=tuple(dtypes),
            modes=tuple(modes),
            devices=tuple(devices),
            runtimes=("torch",),
            across_runtimes=False,
        )
        for workload in given.workloads
        if workload.task in by_task
    )
    if not chosen:
        raise OpbenchError(
            f"suite {given.name!r} has no workload of task {' or '.join(sorted(by_task))}; give workloads={{...}}"
        )
    implementations = sorted({one.name.partition("[")[2].removesuffix("]") for one in found})
    planned = _laid_out(
        msgspec.structs.replace(given, workloads=chosen, targets=()), {"implementation": implementations}
    )
    return _of_plan(planned, set(found).__contains__)


def _laid_out(suite: Suite, filters: Filters) -> Plan:
    return plan.plan(suite, filters, cuda=torch.cuda.is_available())


def _of_plan(planned: Plan, wanted: Callable[[Contestant], bool]) -> list[CollectedCase]:
    runnable = [case for panel in planned.panels for case in panel.cases]
    found = [CollectedCase(case.id, case) for case in runnable if wanted(Contestant(case.task, case.named))]
    for skipped in planned.skipped:
        task, named = skipped.case.partition("/")[0], skipped.contender.partition("]")[0] + "]"
        # Only what stands in its id is known of a case that was planned away.
        if wanted(Contestant(task, named)):
            found.append(CollectedCase(skipped.case, None, skipped.reason))
    return found


def _written(workloads: Mapping[str, Mapping[str, int]], tasks: Iterable[str]) -> Suite:
    """Dimensions by name as a suite: what is said of a suite's file is said of them."""
    tables = [
        f'[[workload]]\ntask = {json.dumps(task)}\nname = {json.dumps(name)}\nsource = "a test"\n'
        f"dims = {{ {', '.join(f'{json.dumps(key)} = {json.dumps(value)}' for key, value in dims.items())} }}\n"
        for task in sorted(tasks)
        for name, dims in workloads.items()
    ]
    return suites.parse("\n".join(tables), "workloads", where="opbench.testing.cases(workloads=...)")
