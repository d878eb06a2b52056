"""How a selfcheck is laid out, and one small one in fresh processes."""

import re
from collections import Counter
from dataclasses import replace

import pytest
from dying import DEATHS

from opbench.engine import selfcheck as module
from opbench.engine import trials
from opbench.engine.selfcheck import SelfcheckExtent, lay_out, selfcheck
from opbench.engine.trials import EFFECTS, SUBJECTS, Batch, Wanted, take
from opbench.measure import phases
from opbench.schema import OpbenchError

SMALL = SelfcheckExtent(
    identical=2, planted=0, processes=1, threads=1, precision=0.5, budget_seconds=0.05, external_tools=False
)
FULL = SelfcheckExtent(
    identical=500, planted=100, processes=5, threads=1, precision=0.01, budget_seconds=2.0, external_tools=True
)


def test_half_of_every_kind_of_trial_is_taken_beside_a_load():
    counted = Counter(
        (one.effect, batch.loaded) for batch in lay_out(FULL) for one in batch.trials if one.effect is not None
    )
    assert counted == {
        **{(0.0, loaded): 250 for loaded in (False, True)},
        **{(effect, loaded): 50 for effect in EFFECTS for loaded in (False, True)},
    }


@pytest.mark.parametrize("processes", [1, 2, 3, 5, 7])
def test_every_process_goes_through_all_subjects(processes):
    batches = lay_out(replace(FULL, processes=processes))
    for batch in batches:
        counted = Counter(one.first for one in batch.trials if one.effect == 0)
        assert set(counted) == set(SUBJECTS)
        assert max(counted.values()) - min(counted.values()) <= 1


def test_quiet_and_loaded_processes_alternate_and_quiet_ones_take_the_replicas():
    batches = lay_out(FULL)
    assert [batch.loaded for batch in batches] == [False, True] * 5
    assert [sum(one.effect is None for one in batch.trials) for batch in batches] == [len(SUBJECTS), 0] * 5


def test_a_planted_slow_down_is_exact():
    for effect, calls in trials._CALLS.items():
        slower = calls * (1 + (effect or 0))
        assert slower == pytest.approx(round(slower))


def test_a_trial_keeps_its_raw_rounds():
    name = next(iter(SUBJECTS))
    batch = Batch((Wanted(name, name, 0.05),), 3, True, 1, 0.5, 0.05, False, 0)
    (found,) = (taken.trial for taken in take(batch))
    assert (found.contender, found.effect, found.process, found.loaded) == (name, 0.05, 3, True)
    assert len(found.first_nanoseconds) == len(found.second_nanoseconds) >= 2
    assert min(found.first_nanoseconds) > 0


def test_a_selfcheck_takes_every_trial_in_fresh_processes():
    seen = []
    found = selfcheck(SMALL, "opbench selfcheck", lambda done, total: seen.append((done, total)))
    assert Counter((trial.effect, trial.loaded) for trial in found.trials) == {
        (None, False): len(SUBJECTS), (0.0, False): 1, (0.0, True): 1,
    }  # fmt: skip
    assert {trial.process for trial in found.trials} == {0, 1}
    assert seen[-1] == (7, 7)
    assert found.environment.threads == 1
    assert found.environment.details["threads pinned"]
    best = phases.known(found.best, 1)
    assert best is not None, "no best is kept for the phases of later runs"
    assert 0 < min(best) <= max(best) < 0.1


@pytest.mark.parametrize("death", DEATHS, ids=lambda death: death.name)
def test_every_death_of_a_process_is_named(monkeypatch, death):
    monkeypatch.setattr(module, "_WORKER", "dying")
    monkeypatch.setattr(module, "_START_SECONDS", death.seconds)
    monkeypatch.setattr(module, "_TRIAL_SECONDS", 0.0)
    death.arrange(monkeypatch)
    with pytest.raises(OpbenchError, match=f"process 0 .*{re.escape(death.said)}"):
        selfcheck(SMALL, "opbench selfcheck", lambda done, total: None)
