"""Panels whose baseline has no contender beside it: said in a line, or refused where filters left no contender at all.

A run of baselines alone has no ratio to show, so it must not pass for the comparison that was asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from opbench import registry, suites
from opbench.contenders import Filters, contenders
from opbench.schema import Case, Filter, OpbenchError, Panel, Plan, Skipped, Suite

# The filters that choose among the contenders of a panel; the others choose panels.
_OF_CONTENDERS: tuple[Filter, ...] = ("operator", "implementation")
# Of panels and contenders, more than these are counted, not named.
_MOST = 3
_MOST_LISTED = 8


def refuse(suite: Suite, plan: Plan, filters: Filters) -> None:
    """Raises OpbenchError where the filters leave no panel, or no contender beside the baseline in any panel.

    Two things are no error: filters that name the baseline and nothing else, and a suite that has no contenders
    even without filters.
    """
    if not any(filters.values()) or any(not _is_alone(panel) for panel in plan.panels):
        return
    if plan.panels and (_asks_for_it(suite, plan, filters) or not any(contenders(suite, {}).values())):
        return
    found, otherwise = f"no panel of suite {suite.name!r} is left", ""
    if plan.panels:
        baseline = plan.panels[0].cases[0]
        found = f"no panel of suite {suite.name!r} has a contender beside the baseline"
        name = f"--operator {baseline.operator} --implementation {baseline.implementation}"
        otherwise = f"; to measure a baseline alone, name it ({name})"
    raise OpbenchError(f"{_given(filters)}: {found}: {_reason(suite, plan, filters)}{otherwise}")


def sentences(suite: Suite, plan: Plan, filters: Filters) -> Iterator[str]:
    """What a reader of the plan's run must know: where the baseline is alone, and which filter values plan nothing."""
    alone = [panel.id for panel in plan.panels if _is_alone(panel)]
    if alone:
        total = len(plan.panels)
        under = " under these filters" if any(filters.values()) else ""
        if len(alone) == total and _asks_for_it(suite, plan, filters):
            under = f", which {_given(filters, _OF_CONTENDERS)} asks for"
        yield (
            f"{len(alone)} of {total} {'panel' if total == 1 else 'panels'} {'has' if len(alone) == 1 else 'have'} "
            f"no contender beside the baseline{under}: {_some(alone, _MOST)}"
        )
    for key, values in filters.items():
        for value in values if plan.panels else ():
            if not any(getattr(case, key) == value for panel in plan.panels for case in panel.cases):
                skipped = [skip for skip in plan.skipped if key in _OF_CONTENDERS and _part(skip, key) == value]
                yield f"no case is planned under {_flag(key)} {value}" + (f": {_why(skipped)}" if skipped else "")


def _is_alone(panel: Panel) -> bool:
    return all(case.contender == panel.baseline for case in panel.cases)


def _asks_for_it(suite: Suite, plan: Plan, filters: Filters) -> bool:
    """Whether the operators and implementations that the filters name are a baseline's, and no other contender's."""
    named = [(key, value) for key in _OF_CONTENDERS for value in filters.get(key, ())]
    baselines = [case for panel in plan.panels for case in panel.cases if case.contender == panel.baseline]
    meant = [case for case in baselines if all(_passes(case, key, filters) for key in _OF_CONTENDERS)]
    covered = bool(named) and all(any(getattr(case, key) == value for case in meant) for key, value in named)
    return covered and not any(contenders(suite, filters).values())


def _passes(case: Case, key: Filter, filters: Filters) -> bool:
    return not filters.get(key) or getattr(case, key) in filters[key]


def _reason(suite: Suite, plan: Plan, filters: Filters) -> str:
    """Why there is nothing, and what to do about it."""
    skipped = [skip for skip in plan.skipped if not plan.panels or not _of_a_baseline(skip)]
    if skipped:
        return f"{_why(skipped)}; `opbench list implementations` says where each one runs"
    if not plan.panels:
        on_what = filters.get("device")
        places = [f"{w.task}/{w.name}" + (f" on {', '.join(w.devices)}" if on_what else "") for w in suite.workloads]
        return f"its workloads are {_some(places, _MOST_LISTED)}; filter otherwise, or choose another --suite"
    listed = contenders(suite, {key: filters[key] for key in ("task", "workload") if key in filters})
    shown = {task: list(dict.fromkeys(_shown(name, filters) for name in names)) for task, names in listed.items()}
    has = "; ".join(f"in {task} {_some(names, _MOST_LISTED) or 'none'}" for task, names in shown.items())
    named = any(filters.get(key) for key in _OF_CONTENDERS)
    found = [name for name in suites.names() if named and name != suite.name and _holds(name, filters)]
    there = f"choose a suite that has it (--suite {' or '.join(found)}), " if found else ""
    return (
        f"its contenders are: {has}; {there}list it under [contenders] in a suite file of your own "
        "(--suite FILE.toml), or bring a contender by --with FILE.py"
    )


def _holds(suite: str, filters: Filters) -> bool:
    chosen = {key: filters[key] for key in ("task", *_OF_CONTENDERS) if key in filters}
    return any(contenders(suites.load(suite), chosen).values())


def _shown(contender: str, filters: Filters) -> str:
    """As finely as it was asked for: `carafe`, or `carafe[cpu]` where the filters name an implementation."""
    return contender if filters.get("implementation") else contender.partition("[")[0]


def _why(skipped: Sequence[Skipped]) -> str:
    """Each reason once, the most frequent first, with the contenders it was given for."""
    reasons: dict[str, list[str]] = {}
    for skip in skipped:
        contender = skip.contender
        reasons.setdefault(skip.reason.removeprefix(f"{contender} "), []).append(contender)
    most_first = sorted(reasons.items(), key=lambda reason: -len(reason[1]))
    return "skipped here: " + ", ".join(
        f"{_some(list(dict.fromkeys(names)), _MOST)} ({why})" for why, names in most_first
    )


def _of_a_baseline(skip: Skipped) -> bool:
    return registry.tasks()[skip.case.partition("/")[0]].baseline == skip.contender


def _part(skip: Skipped, key: Filter) -> str:
    operator, _, implementation = skip.contender.partition("[")
    return operator if key == "operator" else implementation.partition("]")[0]


def _given(filters: Filters, keys: Sequence[Filter] = ()) -> str:
    return " ".join(f"{_flag(key)} {value}" for key in keys or filters for value in filters.get(key, ()))


def _flag(key: Filter) -> str:
    return f"--{key.replace('_', '-')}"


def _some(names: Sequence[str], most: int) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
