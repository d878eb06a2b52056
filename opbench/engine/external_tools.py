"""What other tools make of the same pair, each in the time that the turns took: their own loops, their own verdicts.

Each is used as its documentation shows: one contender is measured, then the other.
"""

from __future__ import annotations

import inspect
import logging
import random
import statistics
import time
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal

import torch

from opbench.schema import Called

if TYPE_CHECKING:
    from torch.utils.benchmark import Measurement

Work = Callable[[], object]
Word = Literal["regressed", "improved", "same", "undecided"]

PLAIN_MEDIAN_THRESHOLD = 0.05
LEAST_SAMPLES = 5


def call_all(first: Work, second: Work, seconds: float, draw: random.Random) -> tuple[Called, ...]:
    """Every tool's verdict on the pair, in random order; each may take `seconds` for both contenders together."""
    methods = list(EXTERNAL_TOOLS.items())
    draw.shuffle(methods)
    called = []
    for name, method in methods:
        begin = time.perf_counter()
        ratio, verdict = method(first, second, seconds / 2)
        called.append(Called(name, time.perf_counter() - begin, ratio, verdict))
    return tuple(sorted(called, key=lambda one: list(EXTERNAL_TOOLS).index(one.method)))


def by_torch(first: Work, second: Work, seconds: float) -> tuple[float, Word]:
    """torch.utils.benchmark with the duration it is given; its own significance decides."""
    from torch.utils.benchmark import Timer

    threads = torch.get_num_threads()
    before, after = (
        Timer("work()", globals={"work": work}, num_threads=threads).blocked_autorange(min_run_time=seconds)
        for work in (first, second)
    )
    return after.median / before.median, by_significant_digits(before, after)


def by_significant_digits(before: Measurement, after: Measurement) -> Word:
    """Medians rounded to the digits that each measurement calls significant, as torch's own comparison prints them."""
    from torch.utils.benchmark.utils.common import trim_sigfig

    shown = [trim_sigfig(one.median, one.significant_figures) for one in (before, after)]
    return _word(shown[1] - shown[0])


def by_pytest_benchmark(first: Work, second: Work, seconds: float) -> tuple[float, Word]:
    """pytest-benchmark's own fixture and its own check, as `--benchmark-compare-fail=median:5%` makes it.

    The check only knows slower; asking it with the sides exchanged tells faster.
    """
    from pytest_benchmark.utils import parse_compare_fail

    parse: Any = parse_compare_fail
    check = parse("median:5%")
    before, after = ({"median": _pytest_benchmark_median(work, seconds)} for work in (first, second))
    worse, better = bool(check.fails(after, before)), bool(check.fails(before, after))
    return after["median"] / before["median"], "regressed" if worse else "improved" if better else "same"


def _pytest_benchmark_median(work: Work, seconds: float) -> float:
    import pytest_benchmark.fixture
    import pytest_benchmark.utils

    # The plugin is not typed.
    fixture_type: Any = pytest_benchmark.fixture.BenchmarkFixture
    timer: Any = pytest_benchmark.utils.NameWrapper
    quiet = logging.getLogger("opbench.pytest_benchmark")
    # The plugin's own defaults, but for the time; which of them a fixture takes depends on its version.
    offered: dict[str, Any] = {
        "node": SimpleNamespace(name="pair", nodeid="pair"),
        "timer": timer(time.perf_counter),
        "min_rounds": LEAST_SAMPLES,
        "min_time": 0.000005,
        "max_time": seconds,
        "calibration_precision": 10,
        **dict.fromkeys(("disable_gc", "warmup", "disabled", "cprofile"), False),
        **dict.fromkeys(("precision", "confidence", "cprofile_loops", "cprofile_dump", "group")),
        "warmup_iterations": 100_000,
        "add_stats": lambda stats: None,
        "warner": quiet.warning,
        "logger": SimpleNamespace(debug=lambda *_, **__: None, info=quiet.info, warning=quiet.warning),
    }
    known = inspect.signature(fixture_type).parameters
    fixture = fixture_type(**{name: value for name, value in offered.items() if name in known})
    fixture(work)
    return float(fixture.stats.stats.median)


def by_plain_median(first: Work, second: Work, seconds: float) -> tuple[float, Word]:
    """The median of as many calls as fit, and a threshold of 5 %."""
    before, after = (statistics.median(_samples(work, seconds)) for work in (first, second))
    ratio = after / before
    moved = abs(ratio - 1) > PLAIN_MEDIAN_THRESHOLD
    return ratio, _word(ratio - 1) if moved else "same"


def _samples(work: Work, seconds: float) -> list[float]:
    samples: list[float] = []
    deadline = time.perf_counter() + seconds
    while len(samples) < LEAST_SAMPLES or time.perf_counter() < deadline:
        begin = time.perf_counter()
        work()
        samples.append(time.perf_counter() - begin)
    return samples


def _word(difference: float) -> Word:
    return "regressed" if difference > 0 else "improved" if difference < 0 else "same"


EXTERNAL_TOOLS: Mapping[str, Callable[[Work, Work, float], tuple[float, Word]]] = {
    "torch.utils.benchmark, its significant digits": by_torch,
    "pytest-benchmark --benchmark-compare-fail=median:5%": by_pytest_benchmark,
    "plain median, 5 % threshold": by_plain_median,
}
