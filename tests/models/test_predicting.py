"""`fuse()` and `predict()` of a YOLO with any operator in any of its slots, called as a user calls them."""

import copy
import sys

import numpy as np
import pytest
import torch
from drawn_images import suppressing
from training_steps import differs, swap_where_it_fits
from will_it_train import SLOTS

from opbench import registry
from opbench.models.ultralytics_package import import_ultralytics

SIDE = 64
# Wider than high, so that it is padded to the network's size.
PICTURE = np.random.default_rng(0).integers(0, 255, (SIDE * 3 // 4, SIDE, 3)).astype(np.uint8)


@pytest.fixture
def suppressed(ultralytics):
    """Boxes suppressed by ultralytics' own function where torchvision's can't be loaded; afterwards as before."""

    def loaded():
        return {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "torchvision"}

    before = loaded()
    suppressing()
    yield
    for name in loaded():
        del sys.modules[name]
    sys.modules.update(before)


def operators():
    registry.load()
    found = []
    for slot, task in SLOTS.items():
        baseline = registry.tasks()[task].baseline.partition("[")[0]
        found += [(slot, operator) for operator in registry.operators(task) if operator != baseline]
    return found


def predicts_as_its_network(network, slot, operator):
    """Boxes come out of the predictor's fused network, which gives what the swapped one gives; after fuse(), too."""
    torch.manual_seed(0)
    yolo = import_ultralytics("ultralytics.models.yolo.model").YOLO(network, verbose=False)
    changes, _ = swap_where_it_fits(yolo.model, slot, operator, (SIDE, SIDE))
    x = torch.rand(1, 3, SIDE, SIDE)
    # Norms that do something, without which there is nothing to fuse.
    yolo.model.train()(torch.rand(2, 3, SIDE, SIDE))
    expected = copy.deepcopy(yolo.model).eval()(x)
    for fused in (False, True):
        if fused:
            yolo.fuse()
            assert yolo.model.is_fused()
        (found,) = yolo.predict(PICTURE, imgsz=SIDE, device="cpu", conf=0.0, verbose=False, save=False)
        boxes = found.boxes.xyxy
        assert len(boxes)
        assert torch.isfinite(found.boxes.data).all()
        assert (boxes >= 0).all()
        assert (boxes <= torch.tensor([SIDE, SIDE * 3 // 4] * 2)).all()
        inside = yolo.predictor.model
        assert differs(inside(x), expected, 1e-3) is None
        kinds = {type(part).__name__ for part in inside.backend.model.modules()}
        assert {change.after for change in changes} <= kinds


@pytest.mark.usefixtures("suppressed")
def test_a_yolo_with_another_upsampler_fuses_and_predicts():
    predicts_as_its_network("yolo11n.yaml", "upsample", "carafe")


@pytest.mark.nightly
@pytest.mark.usefixtures("suppressed")
@pytest.mark.parametrize(("slot", "operator"), operators())
def test_a_yolo_with_any_operator_fuses_and_predicts(slot, operator):
    predicts_as_its_network("yolo11n.yaml", slot, operator)
