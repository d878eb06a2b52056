"""`pytest --benchmark-only`: the cases of a suite through pytest-benchmark, each verified before it is timed."""

import time

import pytest
import torch
import watched

from opbench import plan, registry, suites
from opbench.engine.check_case import check_case, count_case
from opbench.verify.gate import call


def pytest_generate_tests(metafunc):
    if not metafunc.config.getoption("--benchmark-only"):
        metafunc.parametrize("case", [])
        return
    registry.load()
    suite = suites.load(metafunc.config.getoption("--opbench-suite"))
    laid_out = plan.plan(suite, {}, cuda=torch.cuda.is_available())
    cases = [pytest.param(case, id=case.id) for panel in laid_out.panels for case in panel.cases]
    cases += [
        pytest.param(None, id=skipped.case, marks=pytest.mark.skip(reason=skipped.reason))
        for skipped in laid_out.skipped
    ]
    metafunc.parametrize("case", cases)


def device_clock():
    """Seconds, read when the device has finished what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


@pytest.mark.benchmark(timer=device_clock)
def test_case(benchmark, case):
    proof = check_case(case)
    built, verdict = proof.built, proof.verdict
    assert verdict.correct, f"{case.id} is incorrect and is not timed: {verdict.reason}"
    counts, memory = count_case(built)
    benchmark.group = case.panel_id
    benchmark.extra_info.update(
        case=case.id,
        correct=verdict.correct,
        worst_error_over_bound=verdict.worst_ratio,
        params=counts.params,
        macs=counts.macs,
        min_bytes=counts.min_bytes,
        traffic_bytes=counts.traffic_bytes,
        peak_bytes=memory.peak_bytes,
        saved_bytes=memory.saved_bytes,
    )
    if case.device == "cpu":
        watched.run(benchmark, call, built)
    else:
        benchmark(call, built)
