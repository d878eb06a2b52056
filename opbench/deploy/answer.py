"""The figures of a deployment: latencies from the run, and what runtimes and contenders are called."""

from __future__ import annotations

from collections.abc import Iterator

from opbench.analyse.standings import standings
from opbench.deploy.nouns import BAD_PROOFS, Deployment, RuntimeLatency
from opbench.exit_codes import Exit, of_outcomes
from opbench.runtimes import RUNTIMES
from opbench.schema import Run


def title(runtime: str) -> str:
    """As a sentence names it: `ONNX Runtime`."""
    return RUNTIMES[runtime].title.partition(",")[0] if runtime in RUNTIMES else runtime


def latencies(run: Run) -> Iterator[RuntimeLatency]:
    """Every row of every panel, the baseline first."""
    for standing in standings(run):
        for row in standing.ranked():
            method = standing.methods[0] if standing.methods else ""
            timing = row.timing(method)
            yield RuntimeLatency(
                runtime=row.case.runtime,
                contender=row.case.named,
                baseline="" if row.is_baseline else standing.panel.baseline,
                outcome=row.outcome,
                seconds=timing.latency.median_seconds if timing.latency else None,
                ratio=None if row.is_baseline else timing.ratio,
                message=row.message,
                dtype=row.case.dtype,
            )


def exit_of(answer: Deployment, run: Run | None) -> Exit:
    """Bad news where a file is not right or a row failed; no answer where none could be judged."""
    proofs = [one.proof for one in answer.proofs]
    if any(proof in BAD_PROOFS for proof in proofs):
        return Exit.BAD_NEWS
    if "right" not in proofs:
        return Exit.NO_ANSWER
    return of_outcomes(record.outcome for record in run.records) if run else Exit.FINE
