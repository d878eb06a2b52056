"""Which cases a plan holds, which it skips and why, and what it refuses."""

import pytest

from opbench import plan, suites
from opbench.schema import OpbenchError

pytestmark = pytest.mark.usefixtures("toys")

TOY = """
[defaults]
devices = ["cpu", "cuda"]

[contenders]
toy = ["double[also-right]", "double[elsewhere]"]

[[workload]]
task = "toy"
name = "even"
source = "made up"
dims = { N = 2, C = 4 }

[[workload]]
task = "toy"
name = "odd"
source = "made up"
dims = { N = 2, C = 3 }
modes = ["inference"]
"""


def lay_out(filters=None, *, cuda=False, text=TOY, seed=0):
    return plan.plan(suites.parse(text, "toy", where="test.toml"), filters or {}, cuda=cuda, seed=seed)


def test_a_panel_holds_the_cases_that_differ_only_in_contender_baseline_first():
    panels = lay_out({"workload": ["even"]}).panels
    assert [panel.id for panel in panels] == ["toy/even/float32/cpu/inference", "toy/even/float32/cpu/training"]
    listed = [case.contender for case in panels[0].cases]
    assert listed[:2] == ["double[right]", "double[also-right]"]
    assert panels[0].baseline == "double[right]"


def test_what_a_users_file_declares_competes_beside_the_suites_list():
    (panel, _) = lay_out({"workload": ["even"]}).panels
    assert "double[wrong]" in [case.contender for case in panel.cases]


def test_every_case_that_cannot_run_is_listed_with_its_reason():
    reasons = {skipped.case: skipped.reason for skipped in lay_out().skipped}
    assert reasons["toy/even/float32/cpu/inference/double[elsewhere]"] == "needs a machine from the future"
    assert reasons["toy/even/float32/cuda/inference/double[right]"] == "no CUDA device on this machine"
    assert reasons["toy/odd/float32/cpu/inference/double[right]"] == "C is odd"


def test_cuda_rows_appear_by_themselves_where_there_is_a_device():
    devices = {panel.cases[0].device for panel in lay_out(cuda=True).panels}
    assert devices == {"cpu", "cuda"}


def test_the_baseline_stays_under_every_filter():
    (panel,) = lay_out({"workload": ["even"], "implementation": ["also-right"], "mode": ["inference"]}).panels
    assert [case.contender for case in panel.cases] == ["double[right]", "double[also-right]"]


def test_a_dtype_asked_for_is_measured_though_the_suite_does_not_list_it():
    panels = lay_out({"workload": ["even"], "dtype": ["bfloat16"]}).panels
    assert {panel.cases[0].dtype for panel in panels} == {"bfloat16"}


def test_the_seed_is_part_of_the_id_only_when_it_is_not_the_default():
    assert lay_out(seed=3).panels[0].id.endswith("/seed=3")


@pytest.mark.parametrize(
    ("filters", "said"),
    [
        ({"task": ["toi"]}, "unknown task 'toi'; did you mean 'toy'? (known: carafe_core, conv3x3, "),
        ({"task": ["conv3x3"]}, "suite 'toy' has no workload of task 'conv3x3' (it has: toy)"),
        ({"workload": ["evn"]}, "unknown workload 'evn'; did you mean 'even'? (known: even, odd)"),
        ({"operator": ["duoble"]}, "unknown operator 'duoble'; did you mean 'double'? (known: double)"),
        ({"implementation": ["rigth"]}, "unknown implementation 'rigth'; did you mean 'right'?"),
        ({"dtype": ["fp16"]}, "unknown dtype 'fp16'"),
        ({"device": ["gpu"]}, "unknown device 'gpu'"),
        ({"mode": ["train"]}, "unknown mode 'train'; did you mean 'training'?"),
        ({"device": ["cuda"]}, "device cuda was asked for, but torch sees no CUDA device here"),
    ],
)
def test_a_filter_nothing_answers_to_is_refused(filters, said):
    with pytest.raises(OpbenchError) as caught:
        lay_out(filters)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


GROUPED = """
[contenders]
upsample2x = ["nearest", "-pasted", "*"]

[[workload]]
task = "upsample2x"
name = "small"
source = "made up"
dims = { N = 1, C = 4, H = 4, W = 4 }
dtypes = ["float32"]
devices = ["cpu"]
modes = ["inference"]
"""


def test_a_group_is_left_out_at_once_and_a_member_of_it_joins_by_name(monkeypatch):
    monkeypatch.setitem(suites.GROUPS, "pasted", ("deconv", "elsewhere"))  # what the task doesn't have is no matter
    assert "deconv" not in {case.operator for panel in lay_out(text=GROUPED).panels for case in panel.cases}
    asked = lay_out({"operator": ["deconv"]}, text=GROUPED).panels
    assert {case.operator for panel in asked for case in panel.cases} == {"nearest", "deconv"}
