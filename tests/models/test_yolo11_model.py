"""YOLO11 as it is and with the write-ups' swaps: the package's own parameters, one network by swap and YAML, proven."""

import pytest
import torch
from by_day import first_by_day

from opbench import registry, suites
from opbench.build import build
from opbench.engine.check_case import check_case, count_case
from opbench.models import register_ultralytics
from opbench.models.declared import yolo11_model
from opbench.models.detectors import architecture, detector
from opbench.models.ultralytics_package import import_ultralytics
from opbench.models.yolo11 import PUBLISHED_PARAMETERS, YOLO11
from opbench.operators.carafe import YoloCARAFE
from opbench.operators.dcnv3 import DCNV3_YoLo
from opbench.schema import Case, OpbenchError

pytestmark = pytest.mark.usefixtures("ultralytics")
DIMS = {"N": 1, "H": 64, "W": 64, "width": 25, "depth": 50}


def parameters(module):
    return sum(value.numel() for value in module.parameters())


def shapes(module):
    return {name: tuple(value.shape) for name, value in module.state_dict().items()}


def cost(operator, **dims):
    return registry.operator("yolo11_model", operator).cost({**DIMS, **dims})


@pytest.mark.parametrize("size", PUBLISHED_PARAMETERS)
def test_each_size_has_the_published_number_of_parameters(size, tasks):
    with torch.device("meta"):  # counted, not filled
        model = tasks.parse_model(architecture(YOLO11, size), 3, verbose=False)[0]
    assert parameters(model) == PUBLISHED_PARAMETERS[size]
    described = import_ultralytics("ultralytics.nn.tasks").yaml_model_load(f"yolo11{size}.yaml")
    depth, width, _ = described["scales"][size]
    assert yolo11_model.SIZES[round(100 * width), round(100 * depth)] == size


def test_the_closed_form_is_the_published_network_with_its_attention():
    whole = cost("yolo11", H=640, W=640)
    assert whole.params == PUBLISHED_PARAMETERS["n"] == parameters(detector(YOLO11, "n"))
    # The package's file says 6.6 GFLOPs: 2 a MAC, and a little elementwise work beside.
    assert 2 * whole.macs / 1e9 == pytest.approx(6.6, rel=0.02)


@pytest.fixture(scope="module")
def both(ultralytics_settings):
    return detector(YOLO11, "n", carafe=True, dcnv3=True)


def test_dcnv3_is_in_every_bottleneck_of_the_backbone_and_carafe_in_the_neck(both):
    swapped = {name: type(part) for name, part in both.named_modules() if isinstance(part, (YoloCARAFE, DCNV3_YoLo))}
    nested = [f"model.{at}.m.0.m.{index}.cv2" for at in (6, 8) for index in (0, 1)]
    assert swapped == {
        **dict.fromkeys(("model.2.m.0.cv2", "model.4.m.0.cv2", *nested), DCNV3_YoLo),
        "model.11": YoloCARAFE,
        "model.14": YoloCARAFE,
    }
    assert [both.get_submodule(name).dcnv3.group for name in nested] == [2, 2, 4, 4]


@pytest.mark.parametrize("size", ["n", "m"])
def test_swap_and_yaml_build_the_same_network(size, tasks):
    register_ultralytics()
    swapped = detector(YOLO11, size, carafe=True, dcnv3=True)
    parsed = tasks.DetectionModel(architecture(YOLO11, size, carafe=True, dcnv3=True), verbose=False)
    groups = [[part.group for part in model.modules() if hasattr(part, "group")] for model in (swapped, parsed)]
    assert groups[0] == groups[1] != []
    assert shapes(parsed) == shapes(swapped) == shapes(tasks.DetectionModel(swapped.yaml, verbose=False))


def test_a_trained_one_predicts_the_same_from_its_description(both, tasks):
    register_ultralytics()
    parsed = tasks.DetectionModel(both.yaml, verbose=False).eval()
    parsed.load_state_dict(both.state_dict())
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(parsed(x)[0], both.eval()(x)[0])


@pytest.mark.nightly
def test_the_swaps_cost_what_their_modules_do():
    """Two YoloCARAFEs are 74,312 and 66,120 parameters (at 256 and 128 channels)."""
    assert cost("yolo11-carafe").params == cost("yolo11").params + 74_312 + 66_120
    assert cost("yolo11-carafe-dcnv3").params == cost("yolo11-dcnv3").params + 74_312 + 66_120


CASES = [("yolo11", "torch", "training"), ("yolo11-carafe-dcnv3", "eager", "inference")]


def case(operator, implementation, mode):
    return Case("yolo11_model", "w", operator, implementation, DIMS, "float32", "cpu", mode, spread=2.0)


# By day with the swaps YOLOv8 is counted (test_yolov8_model.py).
@pytest.mark.parametrize("asked", first_by_day(CASES), ids=lambda asked: asked[0])
def test_counters_agree_with_the_closed_form(asked):
    counts, _ = count_case(build(case(*asked)))
    assert counts.params == cost(asked[0]).params
    assert counts.torch.macs == counts.macs
    assert counts.fvcore.macs in (counts.macs, None)


@pytest.mark.nightly
@pytest.mark.parametrize("asked", CASES, ids=lambda asked: asked[0])
def test_a_detector_is_proven(asked):
    verdict = check_case(case(*asked)).verdict
    assert verdict.correct, verdict.reason


def test_other_sizes_are_told_the_known_ones():
    with pytest.raises(OpbenchError, match=r"unknown size of YOLO11 'xs'"):
        detector(YOLO11, "xs")
    reason = registry.operator("yolo11_model", "yolo11").requires({**DIMS, "depth": 33})
    assert reason.startswith("no YOLO11 has width=25 and depth=33 (known: 25 and 50 (n), 50 and 50 (s)")


def test_the_suite_measures_it_beside_yolov8():
    workloads = {workload.name: workload for workload in suites.load("models").workloads}
    for name in ("n-640", "n-640-step"):
        ours, theirs = workloads[f"yolo11{name}"], workloads[f"yolov8{name}"]
        assert [one.replace("yolo11", "yolov8") for one in ours.contenders] == list(theirs.contenders)
        assert ours.modes == theirs.modes
