"""Which rounds of training steps count, on a machine that others share for a while."""

import numpy as np
import pytest

from opbench.study import steps
from opbench.study.steps import step_seconds


class Entrant:
    def __init__(self, name):
        self.name = name


class Study:
    name, batch, entrants = "toy", 4, (Entrant("base"), Entrant("bends"))


class Data:
    def batch(self, draw, size):
        return (np.zeros(size),)


class Watch:
    """The machine is as the test says in each round."""

    def __init__(self, clear):
        self.clear, self.begun = clear, []

    def begin_panel(self):
        self.begun.append("panel")

    def begin_round(self):
        self.begun.append("round")

    def end_panel(self):
        return self.clear


@pytest.fixture
def taken(monkeypatch):
    """`taken(clear)`: the rounds that count; a step of round r takes r nanoseconds."""

    def take(clear):
        watch, now, calls = Watch(clear), [0], [0]

        def step():
            calls[0] += 1
            now[0] += max(0, (calls[0] - 1) // 2)  # each of two contenders has one call before the rounds

        monkeypatch.setattr(steps, "_step", lambda study, name, batch: step)
        monkeypatch.setattr(steps.time, "process_time_ns", lambda: now[0])
        found = step_seconds(Study, Data(), 12, watch)
        assert watch.begun == ["panel", *["round"] * 12]
        assert found.seconds["base"] == found.seconds["bends"]
        return [round(1e9 * seconds) - 1 for seconds in found.seconds["base"]], found.phase

    return take


def test_rounds_of_another_phase_are_left_out(taken):
    assert taken([True] * 10 + [False] * 2) == (list(range(10)), "clear")
    assert taken([False] * 2 + [True] * 10) == (list(range(2, 12)), "clear")


def test_too_few_clear_rounds_are_left_out_and_the_phase_is_said(taken):
    assert taken([True] * 2 + [False] * 10) == (list(range(2, 12)), "shared")
