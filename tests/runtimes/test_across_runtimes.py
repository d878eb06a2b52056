"""Panels of one operator in several runtimes, and targets that take notice of the runtime."""

import msgspec
import pytest
from factory import make_case, make_record, make_run
from typer.testing import CliRunner

from opbench import plan, registry, suites
from opbench.analyse.standings import standings
from opbench.analyse.targets import judge
from opbench.cli import app
from opbench.documents import read
from opbench.run_request import row_command
from opbench.schema import OpbenchError, Panel, Run, Target

for needed in ("onnx", "onnxruntime", "openvino"):
    pytest.importorskip(needed, reason="the extra opbench[deploy] is not installed")

SUITE = """
[[workload]]
task = "carafe_core"
name = "small"
source = "made up"
dims = { N = 1, C = 8, H = 6, W = 6 }
dtypes = ["float32"]
devices = ["cpu"]
"""
ACROSS = SUITE + 'runtimes = ["torch", "onnxruntime"]\nacross_runtimes = true\n'


@pytest.fixture(scope="module", autouse=True)
def _declared():
    registry.load()


def laid_out(text=SUITE, *, across=False, **filters):
    suite = suites.parse(text, "made-up", where="test.toml")
    return plan.plan(suite, {"implementation": ["cpu", "unfold", "slices"], **filters}, cuda=False, across=across)


def test_a_panel_holds_one_operator_in_several_runtimes_over_what_torch_calls():
    (panel,) = laid_out(across=True, runtime=["onnxruntime"]).panels
    assert panel.id == "carafe_core/small/float32/cpu/inference/across=carafe"
    assert panel.baseline == "carafe[cpu]"
    assert [case.contender for case in panel.cases] == [
        "carafe[cpu]",
        "carafe[unfold]",
        "carafe[slices]",
        "carafe[unfold]/runtime=onnxruntime",
        "carafe[slices]/runtime=onnxruntime",
    ]
    assert len({case.id for case in panel.cases}) == len(panel.cases)
    assert all(case.panel_id == panel.id for case in panel.cases)


def test_a_suite_asks_for_it_itself_and_other_panels_are_as_they_were():
    (panel,) = laid_out(ACROSS).panels
    assert panel.id.endswith("across=carafe")
    assert [one.id for one in laid_out(runtime=["onnxruntime"]).panels] == [
        "carafe_core/small/float32/cpu/inference/onnxruntime"
    ]


def test_the_suites_of_deployment_can_be_planned_and_each_target_has_its_panel():
    for name in ("deploy", "deploy-models"):
        suite = suites.load(name)
        found = plan.plan(suite, {}, cuda=False)
        assert suite.targets
        if name == "deploy":
            assert found.targets == suite.targets


def test_an_unknown_runtime_of_a_target_is_refused():
    text = ACROSS + '[[target]]\nquantity = "slow-down"\ntask = "carafe_core"\nworkload = "small"\n'
    text += 'contender = "carafe"\nruntime = "onxruntime"\nat_most = 3.0\n'
    with pytest.raises(OpbenchError, match=r"unknown runtime 'onxruntime'.*did you mean 'onnxruntime'"):
        suites.parse(text, "made-up", where="test.toml")


def run_of(*given, baseline, targets):
    """A run of one panel: (case, seconds of each round)."""
    cases = [case for case, _ in given]
    panel = Panel(cases[0].panel_id, "made up", baseline, tuple(cases))
    records = []
    for case, seconds in given:
        record = make_record(case)
        latency = msgspec.structs.replace(record.latencies[0], samples_seconds=((seconds,) * 12,))
        records.append(msgspec.structs.replace(record, latencies=(latency,)))
    return msgspec.structs.replace(make_run(records), panels=(panel,), targets=targets)


def target(**changes):
    given = {"quantity": "slow-down", "task": "carafe_core", "workload": "small", "contender": "carafe"}
    return Target(**{**given, "runtime": "onnxruntime", "at_most": 3.0, **changes})


def across_run(*targets):
    (panel,) = laid_out(across=True, runtime=["onnxruntime"]).panels
    seconds = dict(zip([case.contender for case in panel.cases], (1.0, 9.0, 8.0, 7.0, 2.0), strict=True))
    return run_of(*((case, seconds[case.contender]) for case in panel.cases), baseline=panel.baseline, targets=targets)


def test_a_target_without_brackets_means_the_best_graph_in_its_runtime():
    run = across_run(target(across_runtimes=True, against="carafe[cpu]"))
    (found,) = judge(run, standings(run))
    assert (found.met, found.contender) == ("met", "carafe[slices]/runtime=onnxruntime")
    assert found.value == pytest.approx(2.0)


def test_a_target_of_another_runtime_or_of_rivals_reads_nothing_there():
    run = across_run(target(), target(across_runtimes=True, runtime="openvino"))
    rivals, elsewhere = judge(run, standings(run))
    assert (rivals.met, rivals.missing) == ("not measured", "no such panel in this run")
    assert (elsewhere.met, elsewhere.missing) == ("not measured", "carafe is not in this panel")


def test_a_target_of_torch_reads_no_panel_of_a_runtime():
    case = msgspec.structs.replace(make_case("carafe[cpu]"), runtime="onnxruntime")
    wanted = Target("speed-up", case.task, case.workload, "carafe[cpu]", at_least=1.0)
    run = run_of((case, 1.0), baseline="carafe[cpu]", targets=(wanted,))
    (found,) = judge(run, standings(run))
    assert found.missing == "no such panel in this run"


def test_a_run_across_runtimes_says_what_leaving_torch_costs_and_how_to_repeat_a_row(tmp_path):
    suite = tmp_path / "small.toml"
    suite.write_text(SUITE)
    asked = ["run", "--suite", suite, "--implementation", "unfold", "--across-runtimes", "--runtime", "onnxruntime"]
    asked += ["--threads", "1", "--budget", "0", "--share-cpu", "-o", tmp_path / "out"]
    done = CliRunner().invoke(app, list(map(str, asked)))
    assert done.exit_code == 0, done.output
    run = read(tmp_path / "out" / "run.json", Run)
    assert [record.case.runtime for record in run.records] == ["torch", "onnxruntime"]
    assert all(record.outcome == "ok" for record in run.records)
    assert "carafe[unfold]/runtime=onnxruntime" in (tmp_path / "out" / "report.md").read_text()
    repeat = row_command(run, run.records[1].case)
    assert "--across-runtimes" in repeat
    assert "--runtime onnxruntime" in repeat
    assert "--implementation" not in repeat
