"""The first call in processes of their own: each starts with empty caches, its successor with filled ones."""

import site

import pytest
from dying import DEATHS

from opbench import plan, suites
from opbench.measure import first_call
from opbench.measure.first_call import SAMPLES, measure_first_call
from opbench.schema import Case

CORE = Case(
    task="carafe_core",
    workload="tiny",
    operator="carafe",
    implementation="cpu",
    dims={"N": 1, "C": 8, "H": 4, "W": 4, "k": 3, "g": 1, "s": 2},
    dtype="float32",
    device="cpu",
    mode="inference",
)


def test_a_first_call_is_timed_in_fresh_processes(monkeypatch):
    monkeypatch.setattr(first_call, "SAMPLES", 1)
    found = measure_first_call(CORE)
    assert (found.case, found.note) == (CORE.id, "")
    assert len(found.cold_seconds) == len(found.cached_seconds) == 1
    assert found.cold_seconds[0] > 0 < found.cached_seconds[0]


class Answering:
    """A child that answers at once; `answers` go round."""

    def __init__(self, *answers):
        self.answers, self.environments = list(answers), []

    def __call__(self, arguments, answers, *, environment, own_group):
        assert not own_group
        self.environments.append(environment)
        return self

    def __getitem__(self, kind):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def send(self, job):
        pass

    def receive(self, seconds):
        return self.answers.pop(0)


def test_each_pair_of_processes_shares_a_cache_folder_that_nothing_else_has(monkeypatch):
    children = Answering(*(first_call.FirstCallTime(number + 0.5) for number in range(1, 7)))
    monkeypatch.setattr(first_call, "Child", children)
    found = measure_first_call(CORE)
    seen = [environment["XDG_CACHE_HOME"] for environment in children.environments]
    for environment, folder in zip(children.environments, seen, strict=True):
        assert {environment[name] for name in first_call._CACHES} == {folder}
        assert environment["PYTHONUSERBASE"] == site.getuserbase()
    assert seen[0::2] == seen[1::2]
    assert len(set(seen)) == SAMPLES
    assert found.cold_seconds == (1.5, 3.5, 5.5)
    assert found.cached_seconds == (2.5, 4.5, 6.5)


@pytest.mark.parametrize("cached", [False, True])
def test_a_process_that_fails_is_named_and_gives_no_figure(monkeypatch, cached):
    answers = [first_call.FirstCallTime(0.5)] * cached
    monkeypatch.setattr(first_call, "Child", Answering(*answers, first_call.FirstCallRaised("RuntimeError: no")))
    found = measure_first_call(CORE)
    assert (found.cold_seconds, found.cached_seconds, found.note) == ((0.5,) * cached, (), "RuntimeError: no")


@pytest.mark.parametrize("death", DEATHS, ids=lambda death: death.name)
def test_every_death_of_a_process_is_the_note(monkeypatch, death):
    monkeypatch.setattr(first_call, "_WORKER", "dying")
    monkeypatch.setattr(first_call, "LIMIT_SECONDS", death.seconds)
    death.arrange(monkeypatch)
    assert death.said in measure_first_call(CORE).note


def test_a_suite_s_first_call_targets_say_which_cases_are_measured(monkeypatch, tmp_path, toys):
    from opbench.engine import run
    from opbench.engine.executor import LocalExecutor
    from opbench.engine.messages import CalledFirst
    from opbench.engine.supervisor import Supervisor
    from opbench.schema import FirstCall, Settings

    text = """
        [[workload]]
        task = "toy"
        name = "small"
        source = "made up"
        dims = { N = 6, C = 4 }
        devices = ["cpu"]
        modes = ["inference"]
        contenders = ["double[also-right]", "double[wrong]"]

        [[target]]
        quantity = "first-call-cold"
        task = "toy"
        workload = "small"
        contender = "double[also-right]"
        at_most = 1.0

        [[target]]
        quantity = "first-call-cold"
        task = "toy"
        workload = "small"
        contender = "double[wrong]"
        at_most = 1.0
    """
    laid_out = plan.plan(suites.parse(text, "toy", where="test"), {}, cuda=False)
    assert len(laid_out.targets) == 2
    asked = []

    def first_call(place, case):
        asked.append(case)
        return CalledFirst(FirstCall(case.id, (1.0,), ()), 1.0)

    monkeypatch.setattr(Supervisor, "first_call", first_call)
    extensions = (toys.__file__,)
    settings = Settings(suite="toy", precision=0.5, budget_seconds=0.05, extensions=extensions, share_cpu=True)
    with Supervisor(extensions=extensions) as place:
        executor = LocalExecutor(place)
        done = run.execute(laid_out, settings, tmp_path, command="", progress=lambda *_: None, executor=executor)
    # A wrong answer is never timed, nor is its first call.
    assert [case.contender for case in asked] == ["double[also-right]"]
    assert done.first_calls == (FirstCall(asked[0].id, (1.0,), ()),)
    assert done.targets == laid_out.targets
