"""The tools' own verdicts, on measurements made up to be clear."""

import random

import pytest
from torch.utils.benchmark import Measurement
from torch.utils.benchmark.utils.common import TaskSpec

from opbench.engine import external_tools
from opbench.engine.external_tools import (
    EXTERNAL_TOOLS,
    by_plain_median,
    by_pytest_benchmark,
    by_significant_digits,
    call_all,
)


def measured(milliseconds, spread):
    times = [1e-3 * milliseconds * (1 + spread * step / 50) for step in range(-50, 51)]
    return Measurement(1, times, TaskSpec("work()", "pass"))


def test_every_tool_has_its_word_in_the_order_of_the_table():
    called = call_all(lambda: sum(range(500)), lambda: sum(range(500)), 0.02, random.Random(0))
    assert [one.method for one in called] == list(EXTERNAL_TOOLS)
    assert {one.verdict for one in called} <= {"regressed", "improved", "same"}
    assert all(one.ratio > 0 and one.seconds > 0 for one in called)


def test_torch_tells_apart_what_differs_in_significant_digits():
    assert by_significant_digits(measured(1.00, 0.001), measured(1.01, 0.001)) == "regressed"
    assert by_significant_digits(measured(1.01, 0.001), measured(1.00, 0.001)) == "improved"


def test_torch_rounds_away_what_the_spread_does_not_bear():
    assert by_significant_digits(measured(1.31, 2.0), measured(1.33, 2.0)) == "same"


@pytest.mark.parametrize(
    ("after", "verdict"), [(1.04, "same"), (1.06, "regressed"), (0.94, "improved"), (0.97, "same")]
)
def test_pytest_benchmark_judges_by_its_own_check(monkeypatch, after, verdict):
    medians = iter((1.0, after))
    monkeypatch.setattr(external_tools, "_pytest_benchmark_median", lambda work, seconds: next(medians))
    assert by_pytest_benchmark(None, None, 0.0) == (after, verdict)


@pytest.mark.parametrize(("after", "verdict"), [(1.04, "same"), (1.06, "regressed"), (0.94, "improved")])
def test_the_plain_median_has_a_threshold(monkeypatch, after, verdict):
    samples = iter(([1.0, 1.0, 9.0], [after, after, 9.0]))
    monkeypatch.setattr(external_tools, "_samples", lambda work, seconds: next(samples))
    assert by_plain_median(None, None, 0.0) == (after, verdict)
