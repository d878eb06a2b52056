"""How good a run's own figures are: what was left out because the machine was disturbed, and in which phase it was."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from opbench.measure.phases import Phases
from opbench.measure.probes import Probe
from opbench.schema import ProbedPanel, Run


class Quality(msgspec.Struct, frozen=True):
    """Counts over every latency that was watched: samples, those that no figure is of, and latencies by phase.

    `clear_share`: of all rounds that were probed, by the best that the whole run has seen; NaN where none was.
    `selfcheck`: the age and figures of the machine's, "none", or "" in a document that doesn't say.
    """

    samples: int
    left_out: int
    clear: int
    shared: int
    disturbed: int
    shared_cpu: bool = False
    visits: int = 1
    clear_share: float = math.nan
    selfcheck: str = ""

    @property
    def watched(self) -> bool:
        """Whether anything was; an older document's figures were not."""
        return bool(self.samples or self.disturbed)


def quality(run: Run) -> Quality:
    """Of a whole run."""
    watched = [latency for record in run.records for latency in record.latencies if latency.waited]
    return Quality(
        samples=sum(len(samples) for latency in watched for samples in latency.samples_seconds),
        left_out=sum(len(out) for latency in watched for out in latency.left_out),
        clear=sum(latency.phase == "clear" for latency in watched),
        shared=sum(latency.phase == "shared" for latency in watched),
        disturbed=sum(record.outcome == "disturbed" for record in run.records),
        shared_cpu=run.settings.share_cpu,
        visits=run.settings.replicas,
        clear_share=_clear_share(run.probes),
        selfcheck=run.environment.details.get("selfcheck", ""),
    )


def _clear_share(panels: Sequence[ProbedPanel]) -> float:
    phases = [Phases(rounds=list(map(Probe, panel.integers, panel.copy, panel.product))) for panel in panels]
    phases = [one for one in phases if one.rounds]
    if not phases:
        return math.nan
    best = Probe(*map(min, zip(*(one.known_best() for one in phases), strict=True)))
    clear = [seen for one in phases for seen in Phases(best, one.rounds).clear()]
    return sum(clear) / len(clear)


def sentence(found: Quality) -> str:
    """The quality in one line; "" where nothing was watched."""
    if found.shared_cpu:
        return "Quality: other processes may have had the cores, and no round was left out for it (--share-cpu)."
    if not found.watched:
        return ""
    share = f"{found.left_out / found.samples:.0%}" if found.samples else "none"
    said = [f"{share} of {found.samples} samples left out (a core was waited for, or the machine was in another phase)"]
    if found.shared:
        said.append(f"{found.shared} of {found.clear + found.shared} figures are of a machine that others shared")
    if not math.isnan(found.clear_share):
        said.append(f"the machine was clear in {found.clear_share:.0%} of all rounds")
    if found.visits > 1:
        said.append(f"{found.visits} visits of each panel")
    if found.disturbed:
        said.append(
            f"{found.disturbed} case{'' if found.disturbed == 1 else 's'} disturbed, without a figure: other "
            "processes had the cores; use --threads auto, another hour, or --share-cpu to let such rounds count"
        )
    if found.selfcheck == "none":
        said.append("no selfcheck says what this machine can tell apart")
    elif found.selfcheck:
        said.append(f"selfcheck {found.selfcheck.rstrip('.')}")
    return "Quality: " + "; ".join(said) + "."
