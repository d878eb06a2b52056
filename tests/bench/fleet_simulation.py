"""How well a fleet is used: the real planner and scheduler on simulated nodes that fail, straggle and are preempted.

    python tests/bench/fleet_simulation.py -o results/simulation

A sweep of convolutions and upsamplers is planned as `opbench run` plans it, and its visits are given out by the
scheduler of `--executor ray` to 1, 8, 64 and 512 nodes that exist only here. Their durations are drawn about the
planner's estimate; everything follows from the seed, so that the same code writes the same files.

    ideal       hours that as many nodes need where nothing fails and none ever waits
    throughput  the ideal as a share of what the sweep took
    lost        node hours that came to nothing, with nodes that failed or were slower than a second one, as a share of
                all that were worked
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import json
import random
import statistics
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

from kept_rows import keep

from opbench import plan as planning
from opbench import registry, suites
from opbench.engine.estimate import panel_seconds
from opbench.engine.executor import Visit
from opbench.engine.fleet.scheduling import Scheduler
from opbench.report.charts import svg
from opbench.report.drawing import PALETTE, STYLE
from opbench.schema import Settings

NODES = (1, 8, 64, 512)
SEEDS = 5
# Of the visits begun: how many fail with their node at a moment of theirs, and how many take how many times as long.
FAILURES, STRAGGLERS, SLOWER = 0.02, 0.005, 4.0
# Hours between two preemptions of a node; seconds until another is there, and until one that starts can measure.
PREEMPTED_HOURS, BACK_SECONDS, START_SECONDS = 12.0, 300.0, 20.0
# Nodes that have nothing to do ask again so often: something may be overdue by then.
ASK_SECONDS = 10.0
# Of a duration's logarithm about the estimate.
SPREAD = 0.25
VISITS, BUDGET_SECONDS = 3, 60.0
# A later visit builds each case and calls it a few times beside its timing.
LATER_SECONDS = 0.5
# The sweep's shapes, of each task.
CHANNELS = (8, 16, 24, 32, 40, 48, 64, 80, 96, 128, 160, 192, 224, 256, 320, 384)
SIDES = (7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 112)
BATCHES = (1, 2, 3, 4, 6, 8, 16, 32)
# Of an input: larger ones take hours to prove.
MOST_ELEMENTS = 1 << 21
CONTENDERS = {
    "upsample2x": ["nearest", "bilinear", "deconv", "carafe[shift-add]", "carafe[cpu]"],
    "conv3x3": ["conv3x3", "depthwise3x3", "dcnv3[gather]", "dcnv3[cpu]"],
}


@dataclass(frozen=True)
class FleetOutcome:
    """What a sweep came to, in seconds of the simulated clock; `doubled` are visits that a second node was given."""

    nodes: int
    took: float
    ideal: float
    worked: float
    lost: float
    nodes_lost: int
    doubled: int
    finished: tuple[tuple[int, str], ...]

    @property
    def throughput(self) -> float:
        """The ideal as a share of what it took."""
        return self.ideal / self.took


@dataclass(frozen=True)
class Odds:
    """What may happen to a visit, and to a node; for so long is one away that failed, beside its start."""

    failures: float = FAILURES
    stragglers: float = STRAGGLERS
    preempted_hours: float = PREEMPTED_HOURS
    failed_seconds: float = 0.0


USUAL = Odds()


class Row(NamedTuple):
    """What came of all seeds on so many nodes, where a node that has `failed` starts again or is replaced."""

    failed: str
    nodes: int
    found: Sequence[FleetOutcome]


class _Clock:
    """Simulated nodes and what happens to them, in the order of time."""

    def __init__(self, nodes: int, seed: int, odds: Odds) -> None:
        self.draw = random.Random(f"{seed} {nodes}")
        self.odds = odds
        self.now = 0.0
        self._order = itertools.count()
        self._events: list[tuple[float, int, Happening]] = []
        self.preempted = [self._until_preempted() for _ in range(nodes)]
        for node in range(nodes):
            self.at(START_SECONDS, Happening(node))

    def _until_preempted(self) -> float:
        return self.draw.expovariate(1 / (3600 * self.odds.preempted_hours))

    def at(self, when: float, what: Happening) -> None:
        heapq.heappush(self._events, (when, next(self._order), what))

    def next(self) -> Happening:
        self.now, _, what = heapq.heappop(self._events)
        return what

    def begin(self, node: int, visit: Visit, seconds: float) -> None:
        """The node has the visit until it is finished, or the node is lost."""
        takes = seconds * (SLOWER if self.draw.random() < self.odds.stragglers else 1.0)
        share = self.draw.random() if self.draw.random() < self.odds.failures else 1.0
        ends = min(self.now + takes * share, max(self.now, self.preempted[node]))
        fails = ends < self.now + takes
        self.at(ends, Happening(node, visit, fails, self.now))

    def lose(self, node: int) -> None:
        """It starts again or, if it was preempted, another comes in its place some minutes later."""
        back = self.now + START_SECONDS
        if self.now >= self.preempted[node]:
            back += self.draw.expovariate(1 / BACK_SECONDS)
            self.preempted[node] = back + self._until_preempted()
        elif self.odds.failed_seconds:
            back += self.draw.expovariate(1 / self.odds.failed_seconds)
        self.at(back, Happening(node))


class Happening(NamedTuple):
    """A node is free, with `visit` finished or `failed` that it had `since` then; node None: time passes."""

    node: int | None
    visit: Visit | None = None
    failed: bool = False
    since: float = 0.0


def simulated(
    visits: Sequence[Visit],
    seconds: Callable[[Visit], float],
    nodes: int,
    seed: int,
    odds: Odds = USUAL,
) -> FleetOutcome:
    """The visits on so many nodes. `seconds` is the estimate, about which durations are drawn."""
    clock = _Clock(nodes, seed, odds)
    # A visit takes as long on whichever node has it, but for stragglers: the ideal is of these.
    true = {visit.key: seconds(visit) * clock.draw.lognormvariate(0.0, SPREAD) for visit in visits}
    scheduler = Scheduler(visits, seconds)
    idle: list[int] = []
    running: Counter[tuple[int, str]] = Counter()
    finished: list[tuple[int, str]] = []
    worked = lost = 0.0
    nodes_lost = doubled = 0
    clock.at(ASK_SECONDS, Happening(None))
    while scheduler.left:
        node, visit, failed, since = clock.next()
        if visit is not None:
            spent = clock.now - since
            worked += spent
            running[visit.key] -= 1
            if failed:
                scheduler.lost(visit)
            elif scheduler.finished(visit):
                finished.append(visit.key)
                spent = 0.0
            lost += spent
        if node is None:
            clock.at(clock.now + ASK_SECONDS, Happening(None))
        elif failed:
            nodes_lost += 1
            clock.lose(node)
        else:
            idle.append(node)
        while idle and (given := scheduler.begin(clock.now)) is not None:
            doubled += running[given.key] > 0
            running[given.key] += 1
            clock.begin(idle.pop(0), given, true[given.key])
    return FleetOutcome(
        nodes, clock.now, sum(true.values()) / nodes, worked, lost, nodes_lost, doubled, tuple(finished)
    )


def sweep(workloads: int | None = None) -> tuple[list[Visit], Callable[[Visit], float]]:
    """Every visit of the sweep, of `workloads` of its shapes, as the planner lays it out, and the estimate of each."""
    registry.load()
    laid_out = planning.plan(suites.parse("\n".join(_suite(workloads)), "sweep", where="sweep"), {}, cuda=False)
    settings = Settings("sweep", precision=0.01, budget_seconds=BUDGET_SECONDS, replicas=VISITS)
    expected = panel_seconds(laid_out, settings)
    visits = [Visit(replica, panel) for replica in range(VISITS) for panel in laid_out.panels]

    def seconds(visit: Visit) -> float:
        """A later visit times for its part of the budget and builds; all else falls to the first."""
        later = settings.budget_seconds / VISITS + LATER_SECONDS * len(visit.panel.cases)
        return later if visit.replica else max(later, expected[visit.panel.id] - (VISITS - 1) * later)

    return visits, seconds


def _suite(workloads: int | None) -> Iterator[str]:
    shapes = (
        one for one in itertools.product(BATCHES, CHANNELS, SIDES) if one[0] * one[1] * one[2] ** 2 <= MOST_ELEMENTS
    )
    for batch, channels, side in itertools.islice(shapes, workloads):
        for task, contenders in CONTENDERS.items():
            groups = f", G = {channels // 8}" if task == "conv3x3" else ""
            yield f"""
                [[workload]]
                task = "{task}"
                name = "n{batch}-c{channels}-{side}"
                source = "swept"
                dims = {{ N = {batch}, C = {channels}, H = {side}, W = {side}{groups} }}
                devices = ["cpu"]
                dtypes = ["float32", "bfloat16"]
                modes = ["inference", "training"]
                contenders = {json.dumps(contenders)}
            """


def table(rows: Sequence[Row]) -> Iterator[str]:
    """Markdown: medians over the seeds, and the least and the largest throughput."""
    yield "| a failed node | nodes | ideal, h | took, h | throughput | least | most | lost | nodes lost | twice |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    for failed, nodes, found in rows:
        shares = [one.throughput for one in found]
        ideal, took, lost, gone, twice = (
            statistics.median(values)
            for values in zip(
                *((o.ideal / 3600, o.took / 3600, o.lost / o.worked, o.nodes_lost, o.doubled) for o in found),
                strict=True,
            )
        )
        yield (
            f"| {failed} | {nodes} | {ideal:.2f} | {took:.2f} | {statistics.median(shares):.1%} | {min(shares):.1%} | "
            f"{max(shares):.1%} | {lost:.2%} | {gone:.0f} | {twice:.0f} |"
        )


def chart(rows: Sequence[Row]) -> bytes:
    """Throughput by the number of nodes, a point a seed and a line through the medians: SVG."""
    data = [
        {"failed": failed, "nodes": nodes, "share": one.throughput} for failed, nodes, found in rows for one in found
    ]
    x = {
        "field": "nodes",
        "type": "quantitative",
        "title": "nodes (log scale)",
        "scale": {"type": "log", "base": 2, "domain": [0.8, 700], "nice": False},
        "axis": {"values": list(NODES), "labelExpr": "datum.value"},
    }
    y = {
        "field": "share",
        "type": "quantitative",
        "title": "throughput, as a share of the ideal",
        "scale": {"domain": [0.6, 1.0]},
        "axis": {"format": "%"},
    }
    colour = {
        "field": "failed",
        "type": "nominal",
        "title": "a failed node",
        "scale": {"range": list(PALETTE[: len({failed for failed, _, _ in rows})])},
    }
    spec = {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "title": f"A sweep on simulated nodes: {FAILURES:.0%} of the visits fail with their node",
        "width": 420,
        "height": 260,
        "data": {"values": data},
        "encoding": {"x": x, "color": colour},
        "layer": [
            {"mark": {"type": "point", "opacity": 0.6}, "encoding": {"y": y}},
            {"mark": "line", "encoding": {"y": {**y, "aggregate": "median"}}},
        ],
        "config": STYLE,
    }
    return svg(spec).encode()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("-o", dest="output", type=Path, help="folder for fleet.md, fleet.svg and fleet.jsonl.gz")
    parser.add_argument("--workloads", type=int, help="only so many of the sweep's shapes")
    asked = parser.parse_args()
    visits, seconds = sweep(asked.workloads)
    rows: list[Row] = []
    for failed, odds in (
        ("starts again", USUAL),
        ("is replaced", Odds(failed_seconds=BACK_SECONDS)),
    ):
        for nodes in NODES:
            seeds = range(SEEDS)
            found = [simulated(visits, seconds, nodes, seed, odds) for seed in seeds]
            rows.append(Row(failed, nodes, found))
            print(list(table(rows))[-1], flush=True)
    if asked.output:
        keep(asked.output, "fleet", "\n".join(_page(visits, rows)) + "\n", outcomes(rows), sort_keys=True)
        (asked.output / "fleet.svg").write_bytes(chart(rows))


def outcomes(rows: Sequence[Row]) -> Iterator[dict[str, object]]:
    """What each seed came to, which every figure of the page is made of."""
    for failed, nodes, found in rows:
        for seed, one in enumerate(found):
            told = {name: getattr(one, name) for name in ("took", "ideal", "worked", "lost", "nodes_lost", "doubled")}
            yield {"failed": failed, "nodes": nodes, "seed": seed, **told}


def _page(visits: Sequence[Visit], rows: Sequence[Row]) -> Iterator[str]:
    cases = sum(len(visit.panel.cases) for visit in visits if visit.replica == 0)
    panels = sum(visit.replica == 0 for visit in visits)
    yield "# A sweep on simulated nodes"
    yield ""
    yield (
        f"{cases:,} cases in {panels:,} panels, {VISITS} visits of each, given out by the scheduler of `--executor "
        f"ray`. {FAILURES:.0%} of the visits begun fail with their node at a moment of theirs, {STRAGGLERS:.1%} take "
        f"{SLOWER:g} times as long, and a node is preempted every {PREEMPTED_HOURS:g} hours. A failed node "
        f"starts again, which takes {START_SECONDS:.0f} s; in the place of a preempted one another comes after "
        f"{BACK_SECONDS:.0f} s, and in the second rows in the place of a failed one, too. "
        f"Durations are drawn about the planner's estimate. Medians of {SEEDS} seeds."
    )
    yield ""
    yield "![throughput by the number of nodes](fleet.svg)"
    yield ""
    yield from table(rows)
    yield ""
    yield "Throughput is the ideal, in which nothing fails and nobody waits, as a share of what the sweep took. Lost is"
    yield "the share of node hours that came to nothing. Written by `python tests/bench/fleet_simulation.py -o DIR`;"
    yield "fleet.jsonl.gz has each seed."


if __name__ == "__main__":
    main()
