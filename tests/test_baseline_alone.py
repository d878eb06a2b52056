"""What is said where a baseline has no contender beside it, and when that is refused."""

import re

import pytest
from in_process import opbench

from opbench import baseline_alone, plan, suites
from opbench.commands.compare import CompareRequest, compare
from opbench.engine import revisions
from opbench.schema import OpbenchError

SUITE = """
[timing]
precision = 0.5
budget_seconds = 0.05

[defaults]
devices = ["cpu"]
modes = ["inference"]

[contenders]
upsample2x = ["nearest", "bilinear", "carafe[triton]"]
carafe_core = ["carafe[triton]"]
conv3x3 = ["conv3x3"]

[[workload]]
task = "upsample2x"
name = "up"
source = "made up"
dims = { N = 1, C = 8, H = 4, W = 4 }

[[workload]]
task = "carafe_core"
name = "core"
source = "made up"
dims = { N = 1, C = 8, H = 4, W = 4 }

[[workload]]
task = "conv3x3"
name = "conv"
source = "made up"
dims = { N = 1, C = 8, H = 4, W = 4, G = 1 }
"""
UP, CORE, CONV = (
    "upsample2x/up/float32/cpu/inference",
    "carafe_core/core/float32/cpu/inference",
    "conv3x3/conv/float32/cpu/inference/spread=2px",
)
ONLY_BASELINES = SUITE.replace('["nearest", "bilinear", "carafe[triton]"]', '["nearest"]').replace(
    'carafe_core = ["carafe[triton]"]', 'carafe_core = ["carafe[unfold]"]'
)


def said(filters, text=SUITE, *, cuda=False):
    """The sentences for a plan that is not refused."""
    suite = suites.parse(text, "mine", where="mine.toml")
    laid_out = plan.plan(suite, filters, cuda=cuda)
    baseline_alone.refuse(suite, laid_out, filters)
    return list(baseline_alone.sentences(suite, laid_out, filters))


def refused(filters, text=SUITE):
    with pytest.raises(OpbenchError) as caught:
        said(filters, text)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_operator_that_is_asked_for_joins_every_panel_of_its_task():
    (line,) = said({"operator": ["pixel-shuffle"]})
    assert line == f"2 of 3 panels have no contender beside the baseline under these filters: {CORE}, {CONV}"


def test_an_operator_that_no_panel_holds_is_refused_with_the_suites_contenders_and_the_ways_on():
    message = refused({"operator": ["pixel-shuffle"], "task": ["conv3x3"]})
    assert message.startswith(
        "--operator pixel-shuffle --task conv3x3: no panel of suite 'mine' has a contender beside the baseline: "
    )
    assert "its contenders are: in conv3x3 none; " in message
    assert "list it under [contenders] in a suite file of your own (--suite FILE.toml)" in message
    assert "bring a contender by --with FILE.py" in message
    assert message.endswith("to measure a baseline alone, name it (--operator conv3x3 --implementation torch)")


def test_a_suite_that_has_the_implementation_is_named():
    message = refused({"implementation": ["shift-add"]})
    assert (
        "its contenders are: in upsample2x bilinear[torch], carafe[triton]; in carafe_core carafe[triton]; " in message
    )
    assert re.search(r"; choose a suite that has it \(--suite (\S+ or )*fpn\b", message)


def test_a_baseline_that_was_skipped_on_another_device_is_not_the_reason():
    filters = {"operator": ["pixel-shuffle"], "task": ["conv3x3"]}
    message = refused(filters, SUITE.replace('["cpu"]', '["cpu", "cuda"]'))
    assert "skipped" not in message
    assert "its contenders are: in conv3x3 none; " in message


def test_an_implementation_that_cannot_run_here_is_refused_with_the_reason():
    message = refused({"implementation": ["triton"]})
    assert "skipped here: carafe[triton] (runs on cuda only); `opbench list implementations` says" in message


def test_a_filter_of_panels_that_leaves_no_contender_is_refused_too():
    assert "skipped here: carafe[triton] (runs on cuda only)" in refused({"task": ["carafe_core"]})
    assert "its contenders are: in conv3x3 none; list it under [contenders]" in refused({"workload": ["conv"]})


def test_a_filter_that_leaves_no_panel_is_refused_with_what_there_is():
    message = refused({"task": ["conv3x3"], "workload": ["up"]})
    assert message.startswith("--task conv3x3 --workload up: no panel of suite 'mine' is left: its workloads are ")
    assert "upsample2x/up, carafe_core/core, conv3x3/conv" in message
    assert "upsample2x/up on cuda" in refused({"device": ["cpu"]}, SUITE.replace('["cpu"]', '["cuda"]'))
    assert "(no CUDA device on this machine)" in refused(
        {"mode": ["training"]}, SUITE.replace('devices = ["cpu"]', 'devices = ["cuda"]')
    )


def test_panels_that_lost_their_contenders_are_counted_and_named():
    (line,) = said({"operator": ["bilinear"]})
    assert line == f"2 of 3 panels have no contender beside the baseline under these filters: {CORE}, {CONV}"


def test_three_panels_are_named_and_the_others_counted():
    filters = {"operator": ["bilinear"], "mode": ["inference", "training"]}
    (line,) = said(filters)
    assert line.startswith("4 of 6 panels have no contender")
    assert line.count("/") == 4 + 4 + 5
    assert line.endswith(" and 1 more")


def test_a_suite_says_it_of_its_own_panels_without_filters():
    assert said({}) == [f"2 of 3 panels have no contender beside the baseline: {CORE}, {CONV}"]


def test_a_suite_of_baselines_runs_and_says_so_filtered_or_not():
    assert said({}, ONLY_BASELINES) == [f"3 of 3 panels have no contender beside the baseline: {UP}, {CORE}, {CONV}"]
    (line,) = said({"workload": ["up"]}, ONLY_BASELINES)
    assert line == f"1 of 1 panel has no contender beside the baseline under these filters: {UP}"


def test_where_every_panel_has_a_contender_nothing_is_said():
    assert said({"task": ["upsample2x"], "operator": ["bilinear"]}) == []


@pytest.mark.parametrize(
    "filters",
    [
        {"operator": ["nearest"]},
        {"operator": ["conv3x3"], "task": ["conv3x3"]},
        {"operator": ["carafe"], "implementation": ["unfold"]},
        {"operator": ["nearest", "conv3x3"]},
    ],
    ids=str,
)
def test_the_baseline_alone_is_measured_where_it_is_asked_for(filters):
    (line,) = said(filters)
    names = " ".join(f"--{key} {name}" for key in ("operator", "implementation") for name in filters.get(key, ()))
    assert f"no contender beside the baseline, which {names} asks for: " in line


@pytest.mark.parametrize(
    "filters",
    [
        {"operator": ["conv3x3", "pixel-shuffle"], "task": ["conv3x3"]},  # one of them is no baseline
        {"operator": ["nearest"], "implementation": ["unfold"]},  # the baseline is nearest[torch]
        {"operator": ["carafe"], "task": ["carafe_core"]},  # carafe[triton] was asked for as well as the baseline
    ],
    ids=str,
)
def test_a_filter_that_asks_for_more_than_the_baseline_is_refused(filters):
    refused(filters)


def test_a_value_that_plans_nothing_beside_one_that_does_is_said_with_its_reason():
    lines = said({"task": ["upsample2x"], "implementation": ["torch", "triton"]})
    assert lines == [
        "no case is planned under --implementation triton: skipped here: carafe[triton] (runs on cuda only)"
    ]
    lines = said({"task": ["upsample2x"], "operator": ["bilinear", "conv3x3"]})
    assert lines == ["no case is planned under --operator conv3x3"]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "mine.toml").write_text(SUITE)
    return tmp_path


@pytest.mark.parametrize("dry", [[], ["--dry-run"]], ids=["run", "dry run"])
def test_the_command_line_refuses_before_it_measures(folder, dry):
    filters = ("--task", "conv3x3", "--operator", "deconv")
    done = opbench("run", "--suite", "mine.toml", *filters, "-o", "out", *dry, cwd=folder)
    assert done.returncode == 2
    assert done.stderr.startswith("opbench: --task conv3x3 --operator deconv: no panel of suite 'mine' has a contender")
    assert done.stderr.count("\n") == 1
    assert not (folder / "out").exists()


@pytest.mark.parametrize("dry", [[], ["--dry-run"]], ids=["run", "dry run"])
def test_the_summary_says_where_the_baseline_is_alone(folder, dry):
    filters = ("--task", "upsample2x", "--task", "carafe_core", "--operator", "bilinear")
    done = opbench("run", "--suite", "mine.toml", *filters, "-o", "out", *dry, cwd=folder)
    assert done.returncode == 0, done.stderr
    expected = f"1 of 2 panels has no contender beside the baseline under these filters: {CORE}"
    assert expected in [line.strip() for line in done.stdout.splitlines()]


def test_a_paired_comparison_refuses_as_a_run_does(monkeypatch):
    monkeypatch.setattr(revisions, "checked_out", lambda reference: pytest.fail("begins to measure"))
    filters = {"task": ("carafe_core",), "operator": ("spatial-attention",)}
    asked = CompareRequest(paired="HEAD", suite="fpn", threads=1, **filters)
    said = r"^--task carafe_core --operator spatial-attention.*no panel of suite 'fpn' has a contender"
    with pytest.raises(OpbenchError, match=said):
        compare(asked)
