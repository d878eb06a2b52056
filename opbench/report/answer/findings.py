"""What is said first of a run: which operators, at which places, by which of their rows. Data in, data out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from opbench import registry
from opbench.analyse.standings import Row, Standing
from opbench.report.marks import operator_of
from opbench.schema import DEFAULT_RUNTIME, Case
from opbench.statistics.ratios import Ratio

# What the name of a task ends in whose contenders are whole networks.
NETWORK = "_model"
# Baselines whose kernel for the CPU is many times slower in torch's default memory format than in the other.
WEAK = ("nearest",)
# The quotient of the two from which on a reader must know.
NOTEWORTHY = 1.5
# Another implementation of an operator is named where it takes so many times as long as its fastest.
MUCH_SLOWER = 1.5


class SpokenSite(msgspec.Struct, frozen=True):
    """An operator's fastest row in a panel, or where none has a figure the first; and its slowest, if much slower."""

    standing: Standing
    row: Row
    slowest: Row | None = None

    @property
    def ratio(self) -> Ratio | None:
        """Its latency over the baseline's."""
        return self.standing.ratio(self.row)

    @property
    def baseline(self) -> Row | None:
        """The row of the baseline."""
        return self.standing.row(self.standing.panel.baseline)


class SpokenOperator(msgspec.Struct, frozen=True):
    """One operator of a task on one device in one dtype, at every place where it was measured; the first leads.

    `deployed` is that place in other runtimes than torch, each over the same baseline there.
    """

    sites: tuple[SpokenSite, ...]
    deployed: tuple[SpokenSite, ...] = ()

    @property
    def lead(self) -> SpokenSite:
        """The place that is said in full."""
        return self.sites[0]

    @property
    def case(self) -> Case:
        """That of its row there."""
        return self.lead.row.case

    @property
    def network(self) -> bool:
        """Whether it is a whole network."""
        return is_network(self.case)

    @property
    def baseline(self) -> str:
        """The operator of the baseline."""
        return operator_of(self.lead.standing.panel.baseline)


class FormatEffect(msgspec.Struct, frozen=True):
    """A baseline in the default memory format and channels last, in seconds, and who competes with it there."""

    default: Standing
    last: Standing
    default_seconds: float
    last_seconds: float
    others: tuple[SpokenSite, ...]


def is_network(case: Case) -> bool:
    """Whether what competes are whole networks."""
    return case.task.endswith(NETWORK)


def seconds_of(standing: Standing, row: Row | None) -> float | None:
    """A row's median by the first timing method of its panel."""
    found = row.timing(standing.methods[0]).latency if row is not None and standing.methods else None
    return found.median_seconds if found else None


def subjects(standings: Sequence[Standing], order: Sequence[str]) -> tuple[SpokenOperator, ...]:
    """Networks first, then operators in the order of their tasks, those in `order` before others.

    Of an operator's own core alone nothing is said where a network or a slot was measured, too: it is no choice.
    """
    told = [standing for standing in standings if not _elsewhere(standing.case)]
    deployed = [one for one in standings if one.case.runtime != DEFAULT_RUNTIME and not one.case.unusual_format]
    groups: dict[tuple[object, ...], list[SpokenSite]] = {}
    for standing in told:
        for operator in dict.fromkeys(row.case.operator for row in standing.rows):
            if (found := at_site(standing, operator)) is not None:
                case = standing.case
                groups.setdefault((case.task, operator, case.device, case.dtype), []).append(found)
    found_subjects = [_spoken(tuple(_of_leading_mode(sites)), deployed) for sites in groups.values()]
    choices = [one for one in found_subjects if one.network or _is_choice(one)]
    kept = choices or found_subjects
    tasks = list(dict.fromkeys(one.case.task for one in kept))

    def place(one: SpokenOperator) -> tuple[bool, int, int]:
        name = one.case.operator
        rank = order.index(name) if name in order else len(order)
        return not one.network, tasks.index(one.case.task), rank

    return tuple(sorted(kept, key=place))


def _spoken(sites: tuple[SpokenSite, ...], deployed: Sequence[Standing]) -> SpokenOperator:
    """With its leading place among the panels of other runtimes, where it has a figure there."""
    here = sites[0].standing.case
    there = [
        standing
        for standing in deployed
        if standing.case.workload == here.workload and _in_torch(standing.case) == _site(here)
    ]
    found = (at_site(standing, sites[0].row.case.operator) for standing in there)
    return SpokenOperator(sites, tuple(one for one in found if one is not None and one.ratio is not None))


def at_site(standing: Standing, operator: str) -> SpokenSite | None:
    """An operator in a panel, the baseline aside; None where it is nothing else there."""
    rows = [row for row in standing.ranked() if row.case.operator == operator and not row.is_baseline]
    if not rows:
        return None
    timed = [(found.value, row) for row in rows if (found := standing.ratio(row))]
    if not timed:
        return SpokenSite(standing, rows[0])
    (least, fastest), (most, slowest) = timed[0], timed[-1]
    return SpokenSite(standing, fastest, slowest if most > MUCH_SLOWER * least else None)


def _elsewhere(case: Case) -> bool:
    """Whether a panel is of another runtime, of several, or of another memory format: no first answer."""
    return bool(case.executed)


def _of_leading_mode(sites: Sequence[SpokenSite]) -> Iterator[SpokenSite]:
    """Those in inference, if there are any: training is told in the tables."""
    modes = [site.row.case.mode for site in sites]
    leading = "inference" if "inference" in modes else modes[0]
    yield from (site for site in sites if site.row.case.mode == leading)


def _is_choice(one: SpokenOperator) -> bool:
    """Whether the operator says how it takes a place in a network, or is one of somebody's own; a baseline is none."""
    task, name = one.case.task, one.case.operator
    if task not in registry.tasks():
        return name != one.baseline
    declared = registry.operators(task).get(name)
    if declared is None or any(key == task and operator_of(who) == name for key, who in registry.extensions()):
        return name != one.baseline
    return declared.replaces is not None


def format_effect(standings: Sequence[Standing]) -> FormatEffect | None:
    """The place where a baseline loses most by the default memory format, among those measured in both."""
    last = {_site(one.case): one for one in standings if one.case.memory_format == "channels_last"}
    found = []
    for one in standings:
        other = last.get(_site(one.case)) if not one.case.unusual_format else None
        if other is None or other.panel.baseline != one.panel.baseline:
            continue
        slow, quick = (seconds_of(held, held.row(held.panel.baseline)) for held in (one, other))
        if slow and quick and slow / quick >= NOTEWORTHY:
            operators = dict.fromkeys(row.case.operator for row in other.rows)
            sites = (at_site(other, name) for name in operators)
            others = tuple(site for site in sites if site is not None and site.ratio is not None)
            found.append(FormatEffect(one, other, slow, quick, others))
    return max(found, key=lambda one: one.default_seconds / one.last_seconds, default=None)


def _site(case: Case) -> tuple[object, ...]:
    """What two panels have in common that differ in memory format; a suite may call them differently."""
    dims = tuple(sorted(case.dims.items()))
    return case.task, dims, case.dtype, case.device, case.mode, case.runtime, case.across_runtimes, case.spread


def _in_torch(case: Case) -> tuple[object, ...]:
    return _site(msgspec.structs.replace(case, runtime=DEFAULT_RUNTIME))


def in_weak_format(one: SpokenOperator) -> bool:
    """Whether its baseline is one that is slow in the memory format it was measured in."""
    return one.baseline in WEAK and one.case.device == "cpu" and not one.network and one.lead.ratio is not None


def unmeasured(standings: Sequence[Standing], *, studied: bool = False) -> tuple[str, ...]:
    """What none of the panels has a figure of: cpu, gpu, network, deployment, accuracy."""
    cases = [row.case for standing in standings for row in standing.rows if row.outcome == "ok"]
    held = {
        "cpu": any(case.device == "cpu" for case in cases),
        "gpu": any(case.device == "cuda" for case in cases),
        "network": any(map(is_network, cases)),
        "deployment": any(case.runtime != DEFAULT_RUNTIME for case in cases),
        "accuracy": studied,
    }
    return tuple(name for name, measured in held.items() if not measured)
