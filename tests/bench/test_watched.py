"""What of pytest-benchmark's rounds counts, beside other processes."""

import pytest
from waiting import Waiting

from opbench.measure.disturbance import Counters, DisturbanceGuard
from opbench.testing import watched


class Benchmark:
    """pytest-benchmark's fixture, as far as it is used: rounds of a second each."""

    def __init__(self):
        self.stats, self.extra_info = None, {}

    def pedantic(self, call, setup, rounds):
        data = []
        self.stats = type("Metadata", (), {"stats": type("Stats", (), {"data": data})})
        for _ in range(rounds):
            setup()
            call()
            data.append(1.0)


class Kernel(Waiting):
    """The process waits for half a second in each of so many rounds."""

    def __init__(self, rounds):
        self.rounds, self.waited = rounds, 0.0

    def read(self):
        return Counters(self.waited, None, None)

    def call(self):
        if self.rounds > 0:
            self.waited += 0.5
        self.rounds -= 1


def run(monkeypatch, benchmark, disturbed, rounds=10):
    monkeypatch.setattr(watched, "MOST_ROUNDS", rounds)
    kernel = Kernel(disturbed + 2)  # two calls go before
    watched.run(benchmark, kernel.call, DisturbanceGuard(kernel))
    return benchmark.stats.stats.data, benchmark.extra_info


def test_rounds_that_waited_for_a_core_are_left_out_and_counted(monkeypatch):
    data, said = run(monkeypatch, Benchmark(), 4)
    assert data == [1.0] * 6
    assert said == {"disturbed_rounds": 4}


def test_a_case_without_enough_other_rounds_is_skipped_as_disturbed_and_stands_in_no_table(monkeypatch):
    benchmark = Benchmark()
    with pytest.raises(pytest.skip.Exception, match="disturbed: for 50% of a block's time its threads"):
        run(monkeypatch, benchmark, 9)
    assert benchmark.stats.stats.data == []


def test_a_quiet_case_keeps_all_of_its_rounds(monkeypatch):
    assert run(monkeypatch, Benchmark(), 0) == ([1.0] * 10, {"disturbed_rounds": 0})
