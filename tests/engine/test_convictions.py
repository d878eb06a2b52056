"""Who is guilty of a lost worker: whoever fails alone; and what no process can have measured."""

import pytest
from factory import make_case, make_latency, make_record
from msgspec.structs import replace
from toy_plan import toy_plan, toy_settings

from opbench.engine.convictions import LINGER_SECONDS, guilty, kills_the_run
from opbench.engine.forgery import forged
from opbench.engine.limits import Fault
from opbench.engine.messages import Measure, PanelMeasured
from opbench.engine.steps import CaseStep
from opbench.process.heartbeat import Beat

CASES = [make_case(f"toy[{name}]") for name in ("first", "second", "third")]
DIED = Fault(1, "crashed", "died with SIGSEGV")


def tried(fault, *failing, seconds=3.0):
    """(who is guilty, the cases that were tried, with how long each trial was to wait)."""
    trials = []

    def alone(case, linger):
        trials.append((case.implementation, linger))
        return DIED if case.implementation in failing else PanelMeasured((), 0.0)

    found = guilty(CASES, fault, seconds, alone)
    return found and found[0].implementation, trials


def test_a_suspect_that_fails_alone_is_convicted_at_once():
    assert tried(DIED, "second") == ("second", [("second", 3.0)])


def test_a_suspect_that_is_well_alone_is_innocent_and_the_others_are_tried():
    assert tried(DIED, "third") == ("third", [("second", 3.0), ("first", 3.0), ("third", 3.0)])


def test_nobody_is_convicted_who_is_well_alone():
    assert tried(DIED)[0] is None


def test_where_nobody_was_called_everybody_is_tried():
    assert tried(DIED._replace(contender=None), "first") == ("first", [("first", 3.0)])


def test_a_trial_has_an_end():
    assert tried(DIED, "second", seconds=1e6)[1] == [("second", LINGER_SECONDS)]


WORK = Measure(toy_plan(1).panels[0], toy_settings(), memory_bytes=1)
IDLE = Beat(None, CaseStep.IDLE, 100, 7)


def result(*, cases=WORK.panel.cases, rounds=3, **changes):
    latency = replace(make_latency(rounds=rounds), method="cpu-wall", calls_per_sample=1, **changes)
    return PanelMeasured(tuple(make_record(case, latencies=(latency,)) for case in cases), 0.1)


@pytest.mark.parametrize(
    ("given", "beats", "last", "seconds", "said"),
    [
        (result(), 6, IDLE, 60.0, ""),
        (result(cases=WORK.panel.cases[:1]), 6, IDLE, 60.0, "records are of other cases"),
        (result(), 6, Beat(0, CaseStep.TIME, 100, 7), 60.0, "out of a contender's call"),
        (result(), 5, IDLE, 60.0, "6 blocks of calls, and 5 steps"),
        (result(samples_seconds=((40.0, 40.0),)), 6, IDLE, 60.0, "160 s of calls, and 60 s have passed"),
    ],
)
def test_a_result_that_nobody_can_have_measured_is_told(given, beats, last, seconds, said):
    found = forged(WORK, given, beats, last, seconds)
    assert said in found
    assert bool(found) == bool(said)


def test_a_case_that_was_well_before_needs_more_kills_alone_to_be_the_cause_of_them():
    case = toy_plan(1, ("ok", "also-ok")).panels[0].cases[0]
    together, alone = (case.id, "another"), (case.id,)
    thrice = [together, together, alone]
    assert kills_the_run(case, thrice).outcome == "crashed"
    assert kills_the_run(case, thrice, was_well=True) is None
    assert kills_the_run(case, [together, together, *[alone] * 7], was_well=True) is None
    assert kills_the_run(case, [together, together, *[alone] * 8], was_well=True).outcome == "crashed"
