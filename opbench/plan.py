"""Plan: declarations -> panels of cases. Every case that can't run is listed with its reason, never dropped."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import cast

import msgspec

from opbench import across_runtimes, registry
from opbench.contenders import Filters, competing, for_exports, not_installed, passes
from opbench.declarations import settings_of
from opbench.errors import nearest
from opbench.runtimes import RUNTIMES
from opbench.schema import (
    DEFAULT_MEMORY_FORMAT,
    DEFAULT_RUNTIME,
    DEVICES,
    DTYPES,
    MEMORY_FORMATS,
    MODES,
    Case,
    Device,
    DType,
    Filter,
    MemoryFormat,
    Mode,
    OpbenchError,
    Operator,
    Panel,
    Plan,
    Setting,
    Skipped,
    Suite,
    Target,
    Task,
    Workload,
    spread_part,
)

# By operator, beside what a workload names.
Asked = Mapping[str, Mapping[str, Setting]]


def plan(
    suite: Suite,
    filters: Filters,
    *,
    cuda: bool,
    seed: int = 0,
    settings: Asked = MappingProxyType({}),
    here: bool = True,
    across: bool = False,
) -> Plan:
    """Lays out the panels of a suite under the given filters, operators at the settings asked for.

    The baseline of a panel always stays in it: without it there is no ratio. Contenders that came from a user's own
    file always compete, whatever the suite lists. `here=False` lays out what can't run on this machine, too; `across`
    makes panels of one operator in several runtimes, whatever the suite says. Raises OpbenchError for a filter value
    nothing answers to.
    """
    _check(suite, filters, cuda=cuda)
    settings = checked(suite, settings)
    panels: list[Panel] = []
    skipped: list[Skipped] = []
    for workload in suite.workloads:
        if not passes(filters, "task", workload.task) or not passes(filters, "workload", workload.name):
            continue
        if workload.unless and any(panel.cases[0].task == workload.unless for panel in panels):
            continue
        task = registry.tasks()[workload.task]
        contenders = list(competing(task, workload, filters))
        if across or workload.across_runtimes:
            asked = across_runtimes.runtimes_asked(workload.runtimes, filters.get("runtime", ()))
            workload = msgspec.structs.replace(workload, runtimes=asked, across_runtimes=True)
        pools: dict[str, list[Case]] = {}
        for template in _templates(task, workload, filters, seed):
            cases = []
            for operator, implementation in not_installed(task, workload, filters):
                absent = _cases(template, operator, implementation, workload, settings)
                skipped += [Skipped(case.id, f"{implementation} is not installed") for case in absent]
            for operator, implementation in contenders:
                if template.runtime == DEFAULT_RUNTIME and for_exports(operator, implementation, filters):
                    continue
                for case in _cases(template, operator, implementation, workload, settings):
                    reason = _obstacle(case, operator, cuda=cuda, here=here)
                    if reason is None:
                        cases.append(case)
                    else:
                        skipped.append(Skipped(case=case.id, reason=reason))
            if workload.across_runtimes:
                pools.setdefault(_in_torch(template).panel_id, []).extend(cases)
            elif cases:
                # Where a setting is asked of the baseline, it goes by that.
                names = [case.contender for case in cases if case.named == task.baseline]
                baseline = task.baseline if task.baseline in names else next(iter(names), task.baseline)
                panels.append(
                    Panel(id=template.panel_id, source=workload.source, baseline=baseline, cases=tuple(cases))
                )
        for pool in pools.values():
            panels.extend(across_runtimes.regrouped(pool, workload.source))
    planned = {_place(case) for panel in panels for case in panel.cases if not case.unusual_format}
    targets = tuple(target for target in suite.targets if _place(target) in planned)
    return Plan(suite=suite.name, panels=tuple(panels), skipped=tuple(skipped), targets=targets)


def _in_torch(case: Case) -> Case:
    return msgspec.structs.replace(case, runtime=DEFAULT_RUNTIME)


def _place(one: Case | Target) -> tuple[object, ...]:
    """What a target and a case that it speaks of have in common."""
    return one.task, one.workload, one.dtype, one.device, one.mode, one.runtime, one.across_runtimes


def _templates(task: Task, workload: Workload, filters: Filters, seed: int) -> Iterator[Case]:
    """What the cases of one panel share; the contender is filled in later."""
    for device in (device for device in workload.devices if passes(filters, "device", device)):
        # A dtype or mode asked for by name is measured even where the suite doesn't list it.
        for dtype in cast("Sequence[DType]", filters.get("dtype") or workload.dtypes):
            for mode in cast("Sequence[Mode]", filters.get("mode") or workload.modes):
                for runtime, memory_format, spread in itertools.product(
                    _runtimes(workload, filters, device, mode),
                    _memory_formats(workload, filters),
                    workload.spreads if task.deformable else (None,),
                ):
                    yield Case(
                        task=task.name,
                        workload=workload.name,
                        operator="",
                        implementation="",
                        dims=workload.dims,
                        dtype=dtype,
                        device=device,
                        mode=mode,
                        spread=spread,
                        seed=seed,
                        runtime=runtime,
                        memory_format=memory_format,
                    )


def _runtimes(workload: Workload, filters: Filters, device: Device, mode: Mode) -> Iterator[str]:
    """What executes the contenders; beside torch, of inference alone, on the CPU or where the runtime executes."""
    listed = workload.runtimes if workload.across_runtimes else filters.get("runtime") or workload.runtimes
    for runtime in listed:
        if runtime == DEFAULT_RUNTIME or (mode == "inference" and device in ("cpu", RUNTIMES[runtime].device)):
            yield runtime


def _memory_formats(workload: Workload, filters: Filters) -> Iterator[MemoryFormat]:
    """As asked for; but a workload that is about another memory format is not measured in the default one."""
    for memory_format in cast("Sequence[MemoryFormat]", filters.get("memory_format") or workload.memory_formats):
        if memory_format != DEFAULT_MEMORY_FORMAT or memory_format in workload.memory_formats:
            yield memory_format


def _cases(template: Case, operator: Operator, implementation: str, workload: Workload, asked: Asked) -> Iterator[Case]:
    """A contender's cases of a panel: one, or where it alone is deformable one for each offset spread."""
    # Those that the workload names go by its name; those asked for are the contender's.
    usual = {**operator.settings, **workload.settings.get(operator.name, {})}
    chosen = {key: value for key, value in asked.get(operator.name, {}).items() if key in usual}
    settings = {**usual, **chosen}
    variant = [f"{key}={value}" for key, value in sorted(chosen.items()) if value != usual[key]]
    alone = operator.deformable and template.spread is None
    for spread in workload.spreads if alone else (template.spread,):
        own = [spread_part(spread)] if alone and spread is not None else []
        yield msgspec.structs.replace(
            template,
            operator=operator.name,
            implementation=implementation,
            spread=spread,
            settings=settings,
            variant=(*own, *variant),
        )


def checked(suite: Suite, asked: Asked) -> dict[str, dict[str, Setting]]:
    """The settings asked for. Raises OpbenchError for an operator that no task of the suite has, or its settings."""
    found: dict[str, dict[str, Setting]] = {}
    tasks = {workload.task for workload in suite.workloads}
    known: dict[str, list[Operator]] = {}
    for task in sorted(tasks):
        for name, operator in registry.operators(task).items():
            known.setdefault(name, []).append(operator)
    for name, settings in asked.items():
        if name not in known:
            raise OpbenchError(f"--set {name}: {registry.unknown_operator('operator', name, known)}")
        # A core and its module go by one name; the one that has settings is meant.
        meant = max(known[name], key=lambda operator: len(set(settings) & set(operator.settings)))
        found[name] = settings_of(meant, settings, f"--set {name}", spoken=True)
    return found


def _obstacle(case: Case, operator: Operator, *, cuda: bool, here: bool) -> str | None:
    """Why the case can't run (here, if that is asked), or None."""
    implementation = operator.implementations[case.implementation]
    if case.device == "cuda" and not cuda:
        return "no CUDA device on this machine"
    if case.device not in implementation.devices:
        return f"{case.contender} runs on {', '.join(implementation.devices)} only"
    if case.dtype not in implementation.dtypes:
        return f"{case.contender} computes in {', '.join(implementation.dtypes)} only"
    if case.memory_format not in registry.tasks()[case.task].memory_formats:
        return f"the inputs of {case.task} have no memory format {case.memory_format}"
    runtime = RUNTIMES[case.runtime]
    if runtime.records and case.unusual_format:
        return f"{runtime.name} is given tensors in the default memory format only"
    if runtime.name != DEFAULT_RUNTIME and implementation.compiles:
        return f"{case.contender} is compiled for torch"
    if runtime.records and implementation.obstacle_to_export:
        return f"{case.contender} can't be exported: {implementation.obstacle_to_export}"
    if here and (reason := runtime.missing()):
        return reason
    if runtime.device not in ("", case.device):
        return f"{runtime.name} runs on {runtime.device} only"
    try:
        return operator.requires(registry.given(case)) or (implementation.missing() if here else None)
    except Exception as error:  # of a user's own declaration
        return f"{case.contender}: its requirements raised {type(error).__name__}: {error}"


def _check(suite: Suite, filters: Filters, *, cuda: bool) -> None:
    """Refuses filter values that nothing answers to, naming the known ones and the nearest."""
    in_suite = {workload.task for workload in suite.workloads}
    operators = {name: op for task in in_suite for name, op in registry.operators(task).items()}
    known: dict[Filter, set[str]] = {
        "task": set(registry.tasks()),
        "workload": {workload.name for workload in suite.workloads},
        "operator": set(operators),
        "implementation": {
            name for task in in_suite for op in registry.operators(task).values() for name in op.implementations
        },
        "dtype": set(DTYPES),
        "device": set(DEVICES),
        "mode": set(MODES),
        "runtime": set(RUNTIMES),
        "memory_format": set(MEMORY_FORMATS),
    }
    for key, values in filters.items():
        for value in values:
            if value not in known[key]:
                say = registry.unknown_operator if key == "operator" else nearest
                raise OpbenchError(say(key.replace("_", " "), value, known[key]))
    for task_name in filters.get("task", ()):
        if task_name not in in_suite:
            raise OpbenchError(
                f"suite {suite.name!r} has no workload of task {task_name!r} (it has: {', '.join(sorted(in_suite))})"
            )
    if "cuda" in filters.get("device", ()) and not cuda:
        raise OpbenchError(
            "device cuda was asked for, but torch sees no CUDA device here; leave --device out or use cpu"
        )
