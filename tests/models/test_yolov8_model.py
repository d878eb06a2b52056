"""YOLOv8 as contenders: published sizes by closed form, counters that agree, and the skip without ultralytics."""

import importlib.util

import pytest

from opbench import plan, registry, suites
from opbench.engine.check_case import check_case, count_case
from opbench.models.declared import yolov8_model
from opbench.models.yolov8 import PUBLISHED_PARAMETERS
from opbench.schema import Case

installed = pytest.mark.skipif(importlib.util.find_spec("ultralytics") is None, reason="ultralytics is not installed")
DIMS = {"N": 1, "H": 64, "W": 64, "width": 25, "depth": 33}


def case(operator, implementation, mode="inference"):
    return Case(
        task="yolov8_model",
        workload="w",
        operator=operator,
        implementation=implementation,
        dims=DIMS,
        dtype="float32",
        device="cpu",
        mode=mode,
        spread=2.0,
    )


# GFLOPs at 640 in the package's own yolov8.yaml: 2 FLOPs a MAC, and a little elementwise work beside.
PRINTED = {"n": 8.9, "s": 28.8}


@installed
@pytest.mark.parametrize("size", PRINTED)
def test_the_closed_form_is_the_published_network(size):
    ((width, depth),) = [key for key, value in yolov8_model.SIZES.items() if value == size]
    cost = registry.operator("yolov8_model", "yolov8").cost(
        {"N": 1, "H": 640, "W": 640, "width": width, "depth": depth}
    )
    assert cost.params == PUBLISHED_PARAMETERS[size]
    assert 2 * cost.macs / 1e9 == pytest.approx(PRINTED[size], rel=0.02)


@installed
@pytest.mark.parametrize(
    ("operator", "implementation", "mode"),
    [
        ("yolov8", "torch", "training"),
        ("yolov8-carafe-dcnv3", "eager", "inference"),
    ],
)
def test_a_detector_is_proven_and_counted_three_ways(operator, implementation, mode):
    proof = check_case(case(operator, implementation, mode))
    assert proof.verdict.correct, proof.verdict.reason
    assert proof.verdict.worst_ratio <= 0.5
    counts, _ = count_case(proof.built)
    assert counts.torch.macs == counts.macs
    assert counts.fvcore.macs in (counts.macs, None)


@installed
def test_boxes_are_decoded_in_inference_only():
    cost = registry.operator("yolov8_model", "yolov8").cost(DIMS)
    anchors = 8 * 8 + 4 * 4 + 2 * 2
    assert cost.macs - cost.macs_training == 16 * 4 * anchors
    assert cost.macs_of("training") == 3 * cost.macs_training


@installed
def test_the_swaps_cost_what_their_modules_do():
    """Two YoloCARAFEs are 74,312 and 66,120 parameters (OPERATORS, at 256 and 128 channels)."""
    operators = registry.operators("yolov8_model")
    base = operators["yolov8"].cost(DIMS).params
    assert operators["yolov8-carafe"].cost(DIMS).params == base + 74_312 + 66_120
    both = operators["yolov8-carafe-dcnv3"].cost(DIMS).params
    assert both - operators["yolov8-dcnv3"].cost(DIMS).params == 74_312 + 66_120


def test_without_ultralytics_contenders_are_skipped_with_the_reason(monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "ultralytics" else found(name))
    laid_out = plan.plan(suites.load("models"), {"task": ["yolov8_model"]}, cuda=False)
    assert not laid_out.panels
    reasons = {skipped.reason for skipped in laid_out.skipped if "/cpu/" in skipped.case}
    assert "ultralytics is not installed (pip install 'opbench[ultralytics]'; it is AGPL-3.0)" in reasons


def test_other_widths_name_the_known_sizes():
    reason = registry.operator("yolov8_model", "yolov8").requires({**DIMS, "width": 30})
    assert reason.startswith("no YOLOv8 has width=30 and depth=33 (known: 25 and 33 (n), 50 and 33 (s)")


def test_a_pair_runs_where_both_of_its_cores_do():
    pairs = registry.operator("yolov8_model", "yolov8-carafe-dcnv3").implementations
    assert pairs["triton"].devices == ("cuda",)
    assert pairs["cpu"].devices == ("cpu",)
    assert not pairs["write-up"].deterministic_backward


def test_the_suite_measures_what_the_readme_quotes():
    names = {workload.name for workload in suites.load("models").workloads}
    assert {"yolov8n-640", "yolov8n-640-step", "yolov8s-640", "internimage-t-224"} <= names
