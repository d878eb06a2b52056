"""YOLOv8 from own blocks as a network that is measured: where the swaps are, that they are right, when it stands in."""

import importlib.util

import pytest
import torch

from opbench import registry, suites
from opbench.engine.check_case import check_case, count_case
from opbench.measure.macs import contradiction
from opbench.models.plain_yolov8 import PlainBottleneck, yolov8n
from opbench.operators.carafe import YoloCARAFE
from opbench.operators.dcnv3.module import DCNV3_YoLo
from opbench.plan import plan
from opbench.schema import Case

TASK = "plain_yolov8_model"
DIMS = {"N": 1, "H": 64, "W": 64, "width": 25, "depth": 33}


def case(operator, implementation):
    return Case(TASK, "tiny", operator, implementation, DIMS, "float32", "cpu", "inference", 2.0)


def module_of(operator, implementation):
    declared = registry.operator(TASK, operator)
    return declared.module(DIMS, declared.implementations[implementation])


def of_class(network, kind):
    return [name for name, part in network.named_modules() if isinstance(part, kind)]


def test_both_upsamplers_or_every_bottleneck_of_the_backbone_are_swapped():
    carafe, dcnv3 = module_of("plain-yolov8-carafe", "cpu"), module_of("plain-yolov8-dcnv3", "cpu")
    assert of_class(carafe, YoloCARAFE) == ["neck.up5", "neck.up4"]
    assert [part.c for part in carafe.modules() if isinstance(part, YoloCARAFE)] == [256, 128]
    plain = yolov8n()
    bottlenecks = [name for name in of_class(plain, PlainBottleneck) if name.startswith("backbone.")]
    assert len(bottlenecks) == 6
    assert of_class(dcnv3, DCNV3_YoLo) == [f"{name}.second" for name in bottlenecks]
    kept = sum(value.numel() for value in module_of("plain-yolov8", "torch").parameters())
    assert kept == sum(value.numel() for value in plain.parameters())


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("operator", "implementation"),
    [("plain-yolov8", "torch"), ("plain-yolov8-carafe", "cpu"), ("plain-yolov8-dcnv3", "cpu")],
)
def test_each_is_right_and_its_closed_form_is_what_counters_see(operator, implementation):
    checked = check_case(case(operator, implementation))
    assert checked.verdict.correct, checked.verdict.reason
    assert contradiction(count_case(checked.built)[0]) == ""


@pytest.mark.parametrize("operator", ["plain-yolov8", "plain-yolov8-carafe", "plain-yolov8-dcnv3"])
def test_the_closed_form_has_the_parameters_of_the_network_and_the_network_the_stated_output(operator):
    declared = registry.operator(TASK, operator)
    network = module_of(operator, next(iter(declared.implementations))).eval()
    assert declared.cost(DIMS).params == sum(value.numel() for value in network.parameters())
    with torch.no_grad():
        assert network(torch.zeros(1, 3, 64, 64)).shape == (1, 4 * 16 + 80, 8 * 8 + 4 * 4 + 2 * 2)


def test_there_is_none_of_another_size():
    requires = registry.operator(TASK, "plain-yolov8").requires
    assert requires({**DIMS, "H": 65}) == "65 x 64 is no multiple of 32"
    assert "known: 25 and 33 (n), 50 and 33 (s)" in requires({**DIMS, "width": 75})


def test_it_stands_in_where_ultralytics_is_not_installed(monkeypatch):
    suite = suites.load("network")
    found = importlib.util.find_spec

    def tasks(installed):
        monkeypatch.setattr(
            importlib.util, "find_spec", lambda name, *rest: installed if name == "ultralytics" else found(name, *rest)
        )
        return {panel.cases[0].task for panel in plan(suite, {}, cuda=False).panels}

    assert tasks(None) == {TASK}
    assert tasks(object()) == {"yolov8_model"}
    assert {panel.cases[0].task for panel in plan(suite, {"task": (TASK,)}, cuda=False).panels} == {TASK}
