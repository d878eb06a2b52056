"""What a selfcheck measures of layout and of the machine's best, with planted workers and readings."""

from factory import make_case
from planted_revisions import plant

from opbench.engine import layouts as module
from opbench.engine.layouts import layouts, planned
from opbench.schema import Panel, Plan
from opbench.statistics.layout import FEW, KINDS, moved_by

CASES = tuple(make_case(name) for name in ("carafe[cpu]", "carafe[shift-add]"))
PLAN = Plan("smoke", (Panel("panel", "made up", "nearest[torch]", CASES),), ())


def take(monkeypatch, **planted):
    root = module.Path(module.opbench.__file__).parents[1].resolve()
    planted = plant(monkeypatch, speed={root: 1e-3}, **planted)
    monkeypatch.setattr(module, "CASE_SECONDS", 0.05)
    told = []
    return layouts(PLAN, 3, threads=1, seed=0, command="opbench selfcheck", progress=told.append), planted, told


def test_each_pair_is_of_two_fresh_processes_and_each_case_of_it_is_a_trial(monkeypatch):
    found, planted, told = take(monkeypatch)
    assert [(trial.case, trial.process) for trial in found] == [(case.id, at) for case in CASES for at in range(3)]
    assert len(planted.started) == 2 * 3
    assert told == list(range(6))
    assert {trial.kind for trial in found} == {FEW} < set(KINDS)
    assert {moved_by(trial).value for trial in found} == {0.0}
    assert found[0].first_nanoseconds[0] == 1e6


def test_disturbed_processes_are_no_trials(monkeypatch):
    assert take(monkeypatch, waited=0.5)[0] == ()


def test_contenders_of_every_task_are_held_beside_themselves():
    tasks = {panel.cases[0].task for panel in planned().panels}
    assert {"upsample2x", "conv3x3", "carafe_core", "dcnv3_core"} <= tasks
    assert {(case.device, case.mode) for panel in planned().panels for case in panel.cases} == {("cpu", "inference")}
