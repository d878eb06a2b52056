"""What a case is called, and that settings of one operator leave every other case as it was."""

import dataclasses
from pathlib import Path

import msgspec
import pytest

from opbench import documents, registry, suites
from opbench.analyse.compare.runs import compare
from opbench.declarations import settings_of
from opbench.plan import plan
from opbench.schema import Case, OpbenchError, Run

RESULTS = Path(__file__).parent.parent / "results" / "xeon-2core"
SUITE = """
title = "one slot"
[defaults]
devices = ["cpu"]
modes = ["inference"]
spreads = [2.0, 4.0]
[[workload]]
task = "upsample2x"
name = "small"
source = "a test"
dims = { N = 1, C = 16, H = 8, W = 8%s }
"""


def planned(text="", **options):
    suite = suites.parse(SUITE % text, "one", where="test")
    return {case.id: case for panel in plan(suite, {}, cuda=False, **options).panels for case in panel.cases}


@pytest.fixture
def deformable():
    """CARAFE made a deformable one, as an operator of the slot may be."""
    registry.load()
    key, before = ("upsample2x", "carafe"), registry.operator("upsample2x", "carafe")
    registry._operators[key] = dataclasses.replace(before, deformable=True)
    yield
    registry._operators[key] = before


@pytest.mark.parametrize("name", ["default", "yolov8", "models"])
def test_a_run_of_schema_1_has_the_cases_that_a_new_one_plans(name):
    old = documents.read(RESULTS / name / "run.json", Run)
    assert old.schema_version == 1
    new = {case.id: case for panel in plan(suites.load(name), {}, cuda=False).panels for case in panel.cases}
    shared = [record.case for record in old.records if record.case.id in new]
    assert len(shared) > 0.8 * len(old.records)
    for case in shared:
        assert msgspec.structs.replace(case, seed=0) == new[case.id]


def test_every_contender_of_a_run_of_schema_1_is_comparable_with_a_new_one():
    old = documents.read(RESULTS / "default" / "run.json", Run)
    new = {case.id: case for panel in plan(suites.load("default"), {}, cuda=False).panels for case in panel.cases}
    records = [record for record in old.records if record.case.id in new]
    head = msgspec.structs.replace(
        old,
        schema_version=2,
        records=tuple(msgspec.structs.replace(record, case=new[record.case.id]) for record in records),
    )
    base = msgspec.structs.replace(old, records=tuple(records))
    rows = compare(base, head).rows
    assert len(rows) == len(records)
    assert not [row for row in rows if any("definition differs" in reason for reason in row.left_out)]


def test_settings_stand_with_their_operator_and_defaults_are_not_in_an_id():
    cases = planned()
    found = cases["upsample2x/small/float32/cpu/inference/carafe[unfold]"]
    assert found.settings == {"k_up": 5, "k_enc": 3, "c_mid": 64, "g": 1}
    assert found.variant == ()
    nearest = cases["upsample2x/small/float32/cpu/inference/nearest[torch]"]
    assert (nearest.dims, nearest.settings) == ({"N": 1, "C": 16, "H": 8, "W": 8}, {})


def test_a_setting_that_is_asked_for_is_in_the_id_of_its_operator_alone():
    before, after = planned(), planned(settings={"carafe": {"k_up": 3}})
    changed = after["upsample2x/small/float32/cpu/inference/carafe[unfold]/k_up=3"]
    assert changed.settings["k_up"] == 3
    assert changed.contender == "carafe[unfold]/k_up=3"
    assert changed.panel_id == "upsample2x/small/float32/cpu/inference"
    others = {name: case for name, case in before.items() if "/carafe[" not in name}
    assert others == {name: case for name, case in after.items() if "/carafe[" not in name}


def test_asking_for_the_default_renames_nobody():
    assert planned(settings={"carafe": {"k_up": 5}}) == planned()


def test_a_setting_that_a_workload_names_is_its_operators_and_not_in_an_id():
    cases = planned(", k_up = 3, g = 2")
    assert cases["upsample2x/small/float32/cpu/inference/carafe[unfold]"].settings["k_up"] == 3
    assert cases["upsample2x/small/float32/cpu/inference/carafe[unfold]"].settings["g"] == 2
    assert cases["upsample2x/small/float32/cpu/inference/yolo-carafe[unfold]"].settings["k_up"] == 3
    assert cases["upsample2x/small/float32/cpu/inference/nearest[torch]"].dims == {"N": 1, "C": 16, "H": 8, "W": 8}


def test_the_spread_of_a_deformable_operator_in_a_rigid_slot_is_its_own(deformable):
    cases = planned()
    panel = "upsample2x/small/float32/cpu/inference"
    ours = [name for name in cases if "/carafe[unfold]" in name]
    assert ours == [f"{panel}/carafe[unfold]/spread=2px", f"{panel}/carafe[unfold]/spread=4px"]
    assert {cases[name].panel_id for name in ours} == {panel}
    assert cases[f"{panel}/nearest[torch]"].spread is None


def test_in_a_deformable_slot_the_spread_stays_in_every_id():
    case = Case("conv3x3", "w", "conv3x3", "torch", {}, "float32", "cpu", "inference", 2.0)
    assert case.id == "conv3x3/w/float32/cpu/inference/spread=2px/conv3x3[torch]"


def test_runtime_and_memory_format_are_in_an_id_where_they_are_not_the_default():
    case = Case("t", "w", "o", "i", {}, "float32", "cpu", "inference", runtime="onnxruntime", memory_format="nhwc")
    assert case.id == "t/w/float32/cpu/inference/onnxruntime/nhwc/o[i]"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"carafe": {"kup": 3}}, r"--set carafe: unknown setting 'kup' \(known: k_up, k_enc, c_mid, g\)"),
        ({"carafe": {"k_up": "three"}}, "--set carafe.k_up: expected int, as in 5, got 'three'"),
        ({"nearest": {"k_up": 3}}, "nearest has none"),
        ({"crafe": {"k_up": 3}}, "did you mean 'carafe'"),
    ],
)
def test_a_setting_that_no_operator_has_is_refused_by_name(settings, said):
    with pytest.raises(OpbenchError, match=said):
        planned(settings=settings)


def test_a_setting_can_not_have_the_name_of_a_dimension():
    registry.load()
    operator = dataclasses.replace(registry.operator("upsample2x", "nearest"), name="mine", settings={"C": 3})
    with pytest.raises(OpbenchError, match="setting 'C' is a dimension of task 'upsample2x'"):
        registry.register_operator(operator)


def test_a_task_that_does_not_exist_is_named():
    registry.load()
    operator = dataclasses.replace(registry.operator("upsample2x", "nearest"), task="upsample3x")
    with pytest.raises(OpbenchError, match=r"operator 'nearest': unknown task 'upsample3x'; did you mean 'upsample2x'"):
        registry.register_operator(operator)


def test_a_setting_is_that_of_the_operator_of_the_name_that_has_it():
    """A core and its module go by one name: carafe_core's carafe has no k_up."""
    laid_out = plan(suites.load("smoke"), {}, cuda=False, settings={"carafe": {"k_up": "3"}})
    cases = [case for panel in laid_out.panels for case in panel.cases if case.operator == "carafe"]
    assert {case.variant for case in cases if case.task == "upsample2x"} == {("k_up=3",)}
    assert {case.variant for case in cases if case.task == "carafe_core"} == {()}
    assert all("k_up" not in case.settings for case in cases if case.task == "carafe_core")


def test_what_is_asked_beside_a_workload_s_own_setting_is_told_apart_from_that():
    name = "upsample2x/small/float32/cpu/inference/carafe[unfold]"
    assert planned(", k_up = 3", settings={"carafe": {"k_up": 3}}).keys() >= {name}
    assert planned(", k_up = 3", settings={"carafe": {"k_up": 5}})[f"{name}/k_up=5"].settings["k_up"] == 5


def test_a_baseline_at_other_settings_stays_the_baseline(deformable):
    registry._operators["upsample2x", "nearest"], before = (
        dataclasses.replace(registry.operator("upsample2x", "nearest"), settings={"phase": 0.5}),
        registry.operator("upsample2x", "nearest"),
    )
    try:
        suite = suites.parse(SUITE % "", "one", where="test")
        (panel,) = plan(suite, {}, cuda=False, settings={"nearest": {"phase": "0.25"}}).panels
        assert panel.baseline == panel.cases[0].contender == "nearest[torch]/phase=0.25"
    finally:
        registry._operators["upsample2x", "nearest"] = before


@pytest.mark.parametrize("value", ["inf", "nan", "half", "", "a/b"])
def test_a_number_that_no_document_holds_is_refused(value):
    operator = dataclasses.replace(registry.operator("upsample2x", "nearest"), settings={"phase": 0.5, "edge": "zeros"})
    name = "edge" if value in ("", "a/b") else "phase"
    with pytest.raises(OpbenchError, match=f"--set nearest.{name}: expected "):
        settings_of(operator, {name: value}, "--set nearest", spoken=True)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": "a/b"}, "name: expected a word"),
        ({"module": None}, "module: expected a function"),
        ({"settings": {"a": [1]}}, "settings: expected a bool, a finite number or a word for 'a'"),
        ({"settings": {"x": 1}}, "'x' is the name of the input"),
        ({"implementations": {}}, "implementations: expected at least one"),
        ({"classes": dict}, "classes: expected a tuple"),
    ],
)
def test_a_declaration_that_can_not_be_is_said_when_it_is_made(change, said):
    operator = dataclasses.replace(registry.operator("upsample2x", "nearest"), **{"name": "mine", **change})
    with pytest.raises(OpbenchError, match=said):
        registry.register_operator(operator)
    assert "mine" not in registry.operators("upsample2x")


def test_one_spread_twice_is_refused():
    with pytest.raises(OpbenchError, match="has one of them twice"):
        suites.parse(SUITE.replace("[2.0, 4.0]", "[2.0, 2]") % "", "one", where="test")
