"""Whether a result can be what its process measured, by what the run's side has seen of it meanwhile.

The worker writes its own results, and a contender runs in the worker: it could write one, too. What it says is
therefore held against what is known here: whom the work was given for, the clock of this side, and the heartbeat,
which counts every block of calls and says whose call is going on.
"""

from __future__ import annotations

import math

from opbench.engine.messages import Measure, PanelMeasured
from opbench.engine.steps import CaseStep
from opbench.process.heartbeat import Beat

# A clock of the worker's may go this much faster than the one here.
CLOCKS_DIFFER = 1.05
SLACK_SECONDS = 0.1


def forged(work: Measure, result: PanelMeasured, beats: int, last: Beat, seconds: float) -> str:
    """Why a result can't be one, in words; "" where it may be. `beats` and `seconds` are since the work was begun."""
    if [record.case for record in result.records] != list(work.panel.cases):
        return "its records are of other cases than it was given"
    if last.position is not None or last.step != CaseStep.IDLE:
        return "it came out of a contender's call"
    latencies = [latency for record in result.records for latency in record.latencies]
    blocks = sum(len(samples) for latency in latencies for samples in latency.samples_seconds)
    if blocks > beats:
        return f"it tells of {blocks} blocks of calls, and {beats} steps were begun"
    claimed = sum(
        seconds * latency.calls_per_sample
        for latency in latencies
        if latency.method == "cpu-wall"
        for samples in latency.samples_seconds
        for seconds in samples
        if math.isfinite(seconds)
    )
    if claimed > CLOCKS_DIFFER * seconds + SLACK_SECONDS:
        return f"it tells of {claimed:.3g} s of calls, and {seconds:.3g} s have passed"
    return ""
