"""The studies' networks, losses, scores and counts."""

import math

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from opbench.study import detecting
from opbench.study.counting import counted
from opbench.study.detecting import GRID, STRIDE, iou
from opbench.study.studies import STUDIES
from opbench.study.training import build, examples
from opbench.study.upsampling import BORDER, psnr

ALL = [(study.name, entrant.name) for study in STUDIES.values() for entrant in study.entrants]
# Their slots are stock convolutions: torch's own counter sees all of them.
STOCK = [
    ("upsample", "nearest-conv3x3"),
    ("upsample", "pixel-shuffle"),
    ("conv3x3", "conv3x3"),
    ("downsample", "spdconv"),
]


@pytest.mark.parametrize(("study", "contender"), ALL)
def test_parameters_of_slots_by_closed_form_and_of_the_network_by_counting_fit_together(study, contender):
    study = STUDIES[study]
    batch = examples(study.name, "generated", True).batch(np.random.default_rng(0), 1)
    found, base = (counted(study, study.entrant(name), batch) for name in (contender, study.baseline))
    assert found.params - found.slot_params == base.params - base.slot_params
    assert found.macs - found.slot_macs == base.macs - base.slot_macs > 0


@pytest.mark.parametrize(("study", "contender"), STOCK)
def test_macs_are_those_that_torchs_counter_sees(study, contender):
    study = STUDIES[study]
    batch = examples(study.name, "generated", True).batch(np.random.default_rng(0), 1)
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        build(study, contender, seed=0).eval()(study.inputs(batch))
    assert counted(study, study.entrant(contender), batch).macs == counter.get_total_flops() // 2


def test_psnr_by_hand_and_without_the_border():
    sharp = torch.full((2, 1, 16, 16), 0.5)
    assert psnr(sharp + 0.1, sharp) == pytest.approx(20, abs=1e-4)  # 10 log10(1 / 0.01)
    wrong_border = sharp.clone()
    wrong_border[..., :BORDER, :] = 1
    assert psnr(wrong_border, sharp) == pytest.approx(120)  # as good as it gets
    assert math.isnan(psnr(sharp * math.nan, sharp))


def test_psnr_takes_what_lies_beyond_white_for_white():
    white = torch.ones(1, 1, 16, 16)
    assert psnr(white + 5, white) == psnr(white, white)


def test_iou_by_hand():
    one = torch.tensor([0.0, 0.0, 2.0, 2.0])
    assert iou(one, torch.tensor([1.0, 1.0, 3.0, 3.0])).item() == pytest.approx(1 / 7)
    assert iou(one, one).item() == 1
    assert iou(one, torch.tensor([5.0, 5.0, 6.0, 6.0])).item() == 0


def perfect(examples):
    """A prediction that a detector could give: the cell of each box's centre is sure, and right."""
    pixels, kinds, boxes = examples
    out = torch.zeros(len(pixels), detecting.BACKGROUND + 5, GRID, GRID)
    out[:, detecting.BACKGROUND] = 20.0
    for index, (kind, box) in enumerate(zip(kinds, boxes, strict=True)):
        column, row = ((box[:2] + box[2:]) / 2 / STRIDE).int().clamp(max=GRID - 1).tolist()
        at = (torch.tensor([column, row]) + 0.5) * STRIDE
        sides = torch.cat([at - box[:2], box[2:] - at])
        out[index, detecting.BACKGROUND, row, column] = 0.0
        out[index, kind, row, column] = 20.0
        out[index, -4:, row, column] = (sides / STRIDE).log()
    return out


class Oracle(torch.nn.Module):
    def __init__(self, out):
        super().__init__()
        self.out = list(out.split(32))

    def forward(self, x):
        return self.out.pop(0)


def test_a_detector_that_is_right_scores_everything_and_one_that_confuses_kinds_only_boxes():
    held_out = STUDIES["conv3x3"].data("generated", True).held_out
    out = perfect(held_out)
    found = STUDIES["conv3x3"].score(Oracle(out), held_out)
    assert found == {"accuracy": 100, "iou": pytest.approx(100, abs=0.01)}
    kinds = detecting.BACKGROUND
    confused = torch.cat([out[:, :kinds].roll(1, 1), out[:, kinds:]], 1)
    assert STUDIES["conv3x3"].score(Oracle(confused), held_out) == {"accuracy": 0, "iou": pytest.approx(100, abs=0.01)}


def test_flipping_a_batch_moves_its_boxes_along():
    """The pixels inside a box are those inside the original's, in another order; kinds stay."""
    data = STUDIES["conv3x3"].data("generated", True)
    originals = list(zip(*data._pool, strict=True))
    moved = set()
    for seed in range(12):
        for image, kind, box in zip(*data.batch(np.random.default_rng(seed), 4), strict=True):
            found = next(original for original in originals if torch.equal(ordered(image), ordered(original[0])))
            assert kind == found[1]
            assert torch.equal(ordered(cut(image, box)), ordered(cut(found[0], found[2])))
            moved.add(not torch.equal(box, found[2]))
    assert moved == {True, False}


def ordered(pixels):
    return pixels.flatten().sort().values


def cut(image, box):
    x0, y0, x1, y1 = box.int().tolist()
    return image[0, y0:y1, x0:x1]


@pytest.mark.parametrize("study", STUDIES)
def test_what_needs_no_training_is_scored_too(study):
    study = STUDIES[study]
    anchors = study.anchors(examples(study.name, "generated", True).held_out)
    assert anchors
    for scores in anchors.values():
        assert {metric.name for metric in study.metrics} == set(scores)
        assert all(0 < score < 100 for score in scores.values())
