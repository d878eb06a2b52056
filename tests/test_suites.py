"""Suite files: every built-in one loads, and every mistake is named with file and key."""

import pytest
import torch

from opbench import plan, suites
from opbench.engine import estimate
from opbench.schema import OpbenchError, Settings

pytestmark = pytest.mark.usefixtures("toys")

GOOD = """
[[workload]]
task = "toy"
name = "w-{C}"
source = "made up"
dims = { N = "C", C = [2, 4] }
"""


@pytest.mark.parametrize("name", suites.names())
def test_every_built_in_suite_loads_plans_and_names_its_sources(name):
    suite = suites.load(name)
    assert suite.workloads
    assert all(workload.source for workload in suite.workloads)
    laid_out = plan.plan(suite, {}, cuda=True)
    assert laid_out.panels
    assert not [skipped for skipped in laid_out.skipped if "divisible" in skipped.reason]


def test_the_built_in_suites_are_those_promised():
    assert set(suites.names()) >= {
        "smoke",
        "default",
        "yolov8",
        "yolo11",
        "yolo26",
        "rtdetr",
        "fpn",
        "internimage",
        "sweep",
        "offsets",
        "kernels",
        "sampling",
        "gpu",
    }


def test_a_list_of_values_makes_a_workload_each_and_a_name_follows_another_dimension():
    suite = suites.parse(GOOD, "good", where="good.toml")
    assert [(workload.name, workload.dims) for workload in suite.workloads] == [
        ("w-2", {"N": 2, "C": 2}),
        ("w-4", {"N": 4, "C": 4}),
    ]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('task = "toy"', 'task = "tyo"', "good.toml: workload 1 ('w-{C}'): unknown task 'tyo'; did you mean 'toy'?"),
        ('task = "toy"\n', "", "key 'task' is missing"),
        ('source = "made up"\n', "", "key 'source' is missing"),
        ('N = "C"', "M = 1", "dims: unknown dimension 'M'"),
        ('N = "C", ', "", "dims: N missing"),
        ("[2, 4]", "0", "dims.N: expected a whole number of at least 1, got 0"),
        ("[2, 4]", "2.5", "dims.N: expected a whole number of at least 1, got 2.5"),
        ("[2, 4]", "true", "dims.N: expected a whole number of at least 1, got True"),
        ('N = "C"', 'N = "K"', "dims.N: expected a whole number of at least 1, got 'K'"),
        ("{C}", "{K}", "name: 'K' (known: N, C)"),
        ("w-{C}", "w", "name 'w' is used twice in task 'toy'"),
        (
            'source = "made up"',
            'source = "made up"\ndtypes = ["fp16"]',
            "dtypes are float64, float32, bfloat16, float16",
        ),
        ('source = "made up"', 'source = "made up"\ncolour = "red"', "colour"),
        ('source = "made up"', 'source = "made up"\nspreads = [-1.0]', "none below 0"),
        ("[[workload]]", "[timing]\nprecision = 0\n[[workload]]", "timing.precision: expected a number above 0"),
        ("[[workload]]", "[timing]\nbuget_seconds = 1\n[[workload]]", "unknown key 'buget_seconds'"),
        ("[[workload]]", "[contenders]\ntyo = []\n[[workload]]", "[contenders]: unknown task 'tyo'"),
        ("[[workload]]", "[[workloads]]", "unknown key 'workloads'; did you mean 'workload'?"),
        ('task = "toy"', "task = toy", "line 3"),
    ],
)
def test_a_mistake_is_named(old, new, said):
    assert old in GOOD
    with pytest.raises(OpbenchError) as caught:
        suites.parse(GOOD.replace(old, new), "good", where="good.toml")
    assert said in str(caught.value)
    assert "good.toml" in str(caught.value)
    assert "\n" not in str(caught.value)


TARGET = """
[[target]]
quantity = "speed-up"
task = "toy"
workload = ["w-2", "w-4"]
contender = "double[also-right]"
at_least = 2.0
"""


def test_a_target_is_one_for_each_workload_it_lists():
    found = suites.parse(GOOD + TARGET, "good", where="good.toml").targets
    assert [(target.workload, target.at_least, target.at_most) for target in found] == [
        ("w-2", 2.0, None),
        ("w-4", 2.0, None),
    ]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("speed-up", "speed", "target 1: Invalid enum value 'speed'"),
        ('task = "toy"', 'task = "tyo"', "unknown task with a workload here 'tyo'; did you mean 'toy'?"),
        ('"w-4"', '"w-5"', "unknown workload 'w-5'; did you mean 'w-4'? (known: w-2, w-4)"),
        ("at_least = 2.0", "at_least = 2.0\nat_most = 3.0", "expected either at_least or at_most"),
        ("at_least = 2.0", "", "expected either at_least or at_most"),
        ("at_least", "atleast", "unknown field `atleast`"),
        ("[[target]]", "[target]", "good.toml: [[target]]: expected a list of tables"),
    ],
)
def test_a_mistaken_target_is_named(old, new, said):
    assert old in TARGET
    with pytest.raises(OpbenchError) as caught:
        suites.parse(GOOD + TARGET.replace(old, new), "good", where="good.toml")
    assert said in str(caught.value)
    assert "good.toml" in str(caught.value)


@pytest.mark.parametrize("name", suites.names())
def test_every_target_of_a_built_in_suite_names_a_contender_of_its_panel(name):
    suite = suites.load(name)
    panels = {panel.id: panel for cuda in (False, True) for panel in plan.plan(suite, {}, cuda=cuda).panels}
    for target in suite.targets:
        place = ("task", "workload", "dtype", "device", "mode", "across_runtimes")
        wanted = [getattr(target, name) for name in place]
        every = [case for panel in panels.values() for case in panel.cases]
        cases = [case for case in every if [getattr(case, name) for name in place] == wanted]
        (workload,) = [w for w in suite.workloads if (w.task, w.name) == (target.task, target.workload)]
        optional = {name.removesuffix("?") for name in workload.contenders if name.endswith("?")}
        own = [case for case in cases if case.runtime == target.runtime]
        if target.runtime != "torch" and not own:
            continue  # it is not installed
        # Without brackets: the best of the operator. A deformable upsampler's spread belongs to its name, and targets
        # may leave it out.
        contenders = {
            name for case in own for name in (case.operator, case.contender, case.contender.partition("/")[0])
        }
        # Where the kernels can't run, the target's contender is skipped, and the report says so.
        assert target.contender in contenders or target.contender.endswith(("[cpu]", "[triton]"))
        if target.against:
            against = {case.contender for case in cases} | {case.contender.partition("/")[0] for case in cases}
            assert target.against in against | optional


def test_an_unknown_contender_names_the_nearest():
    text = GOOD.replace("[[workload]]", '[contenders]\ntoy = ["double[rihgt]"]\n[[workload]]')
    with pytest.raises(OpbenchError, match=r"unknown implementation of toy/double 'rihgt'; did you mean 'right'"):
        plan.plan(suites.parse(text, "good", where="good.toml"), {}, cuda=False)


def test_a_package_that_is_not_installed_is_skipped_by_name_where_the_suite_says_so():
    text = GOOD.replace("[[workload]]", '[contenders]\ntoy = ["double[right]", "double[nowhere]?"]\n[[workload]]')
    laid_out = plan.plan(suites.parse(text, "good", where="good.toml"), {"device": ["cpu"]}, cuda=False)
    absent = [one for one in laid_out.skipped if "nowhere" in one.case]
    assert len(absent) == len(laid_out.panels)
    assert {one.reason for one in absent} == {"nowhere is not installed"}
    text = text.replace("nowhere", "also-right")
    assert any(
        case.implementation == "also-right"
        for panel in plan.plan(suites.parse(text, "good", where="good.toml"), {}, cuda=False).panels
        for case in panel.cases
    )


# The time for which a GPU can be had (issue: one command, 8 minutes), without a contender that isn't installed here.
MINUTES = 8


def test_the_gpu_suite_fits_its_time_and_begins_with_what_its_targets_speak_of(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)  # the Triton kernels compete
    suite = suites.load("gpu")
    laid_out = plan.plan(suite, {}, cuda=True)
    settings = Settings(suite="gpu", precision=suite.precision, budget_seconds=suite.budget_seconds)
    assert estimate.seconds(laid_out, settings) <= 60 * MINUTES
    assert {case.device for panel in laid_out.panels for case in panel.cases} == {"cuda"}
    spoken_of = {(target.task, target.workload) for target in suite.targets}
    first = [(workload.task, workload.name) for workload in suite.workloads][: len(spoken_of)]
    assert set(first) == spoken_of


# The time for which two cores are kept quiet.
QUIET_MINUTES = 6


def test_the_sampling_suite_fits_its_time_and_holds_each_kernel_to_its_operators_own_steps():
    suite = suites.load("sampling")
    laid_out = plan.plan(suite, {}, cuda=False)
    settings = Settings(suite="sampling", precision=suite.precision, budget_seconds=suite.budget_seconds)
    assert estimate.seconds(laid_out, settings) <= 60 * QUIET_MINUTES
    for target in suite.targets:
        assert target.contender == f"{target.against.split('[')[0]}[cpu]"
    spoken_of = {target.against for target in suite.targets}
    assert spoken_of == {"dysample[grid-sample]", "dcnv4[grid-sample]", "ldconv[published]", "snake[grid-sample]"}


def test_an_empty_suite_is_refused():
    with pytest.raises(OpbenchError, match="at least one"):
        suites.parse("title = 'nothing'", "empty", where="empty.toml")


def test_an_unknown_suite_lists_the_known_ones():
    with pytest.raises(OpbenchError, match=r"unknown suite 'smok'; did you mean 'smoke'\? \(known: default, "):
        suites.load("smok")


def test_a_missing_suite_file_is_named():
    with pytest.raises(OpbenchError, match=r"suite file nowhere.toml: no such file"):
        suites.load("nowhere.toml")
