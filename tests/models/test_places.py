"""Places by slot and role: which layers are in the backbone, neck, head or a bottleneck, and which nothing calls."""

import copy
import warnings

import pytest
import torch
from torch import nn

from opbench.models import matching, swap
from opbench.models.costs import CostRequest, parse_swap
from opbench.models.places import places_of
from opbench.models.roles import roles
from opbench.models.side_by_side import measure
from opbench.models.target import load_model
from opbench.models.ultralytics_block import UnfusedRepConv
from opbench.report.costs import places, sentences
from opbench.schema import OpbenchError


def mixing(channels=8):
    return nn.Conv2d(channels, channels, 3, padding=1)


class Bottleneck(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = mixing()

    def forward(self, x):
        return x + self.conv(x)


class Named(nn.Module):
    """Parts by name, a branch for training alone, and no nn.Upsample."""

    def __init__(self):
        super().__init__()
        self.backbone = nn.ModuleDict({"body": nn.Sequential(nn.Conv2d(3, 8, 1), Bottleneck()), "fpn": mixing()})
        self.up = nn.ConvTranspose2d(8, 8, 2, 2)
        self.mask_head = nn.ModuleDict({"of_training": mixing(), "conv": mixing()})

    def forward(self, x):
        x = self.up(self.backbone["fpn"](self.backbone["body"](x)))
        return self.mask_head["of_training"](x) if self.training else self.mask_head["conv"](x)


def names(model, what, **where):
    return [one for (one,) in matching(model, what, **where)]


def test_a_role_narrows_a_slot_and_roles_narrow_each_other():
    model = Named()
    assert names(model, "conv3x3@backbone") == names(model, "conv3x3@bottleneck") == ["backbone.body.1.conv"]
    assert names(model, "conv3x3@neck") == ["backbone.fpn"], "the innermost name counts"
    assert names(model, "conv3x3@head") == ["mask_head.of_training", "mask_head.conv"]
    assert names(model, "conv3x3@head@bottleneck") == []
    assert names(model, "conv3x3@head", where="*.conv") == ["mask_head.conv"]
    assert names(model, "*.conv@bottleneck") == ["backbone.body.1.conv"]
    assert roles(model)["up"] == frozenset()


def test_an_unknown_role_is_told_the_known_ones_and_an_empty_one_where_the_layers_are():
    with pytest.raises(OpbenchError, match=r"unknown role 'bottelneck'; did you mean 'bottleneck'\? \(known: "):
        matching(Named(), "conv3x3@bottelneck")
    with pytest.raises(OpbenchError, match=r"--swap conv3x3@stem=dcnv3: unknown role 'stem'"):
        parse_swap("conv3x3@stem=dcnv3")
    with pytest.raises(OpbenchError, match=r"'upsample' is at 1 places: 1 in no part"):
        swap(Named(), "upsample@neck", "carafe")


def test_a_swap_keeps_its_roles_in_the_command_line():
    one = parse_swap("conv3x3@backbone@bottleneck:model.2.*=dcnv3[gather]")
    assert (one.what, one.where, one.with_) == ("conv3x3@backbone@bottleneck", "model.2.*", "dcnv3")
    assert one.text == "conv3x3@backbone@bottleneck:model.2.*=dcnv3[gather]"


def test_a_transposed_convolution_upsamples_where_it_multiplies_by_its_stride():
    by_two = [nn.ConvTranspose2d(8, 8, 2, 2), nn.ConvTranspose2d(8, 8, 4, 2, 1), nn.ConvTranspose2d(8, 8, 3, 2, 1, 1)]
    others = [
        nn.ConvTranspose2d(8, 8, 3, 2),
        nn.ConvTranspose2d(8, 4, 2, 2),
        nn.ConvTranspose2d(8, 8, 3, 1, 1),
        nn.ConvTranspose2d(8, 8, (2, 3), 2),
        nn.ConvTranspose2d(8, 8, 2, 2, groups=8),
    ]
    assert names(nn.Sequential(*by_two, *others), "transposed") == ["0", "1", "2"]
    assert names(nn.Sequential(*by_two, nn.Upsample(scale_factor=2)), "upsample") == ["3"]


def test_upsample_means_transposed_convolutions_where_there_is_no_other():
    model = Named()
    (change,) = swap(model, "upsample", "carafe")
    assert (change.name, change.before) == ("up", "ConvTranspose2d")
    assert [one.slot for one in places_of(Named())] == ["transposed", "conv3x3"]


def test_a_slot_leaves_what_no_evaluation_calls_and_says_so():
    model = Named()
    with pytest.warns(UserWarning, match=r"doesn't call them: mask_head.of_training"):
        changes = swap(model, "conv3x3", "depthwise3x3")
    assert [change.name for change in changes] == ["backbone.body.1.conv", "backbone.fpn", "mask_head.conv"]
    assert isinstance(model.mask_head["of_training"], nn.Conv2d)
    with pytest.raises(OpbenchError, match="didn't call it"):
        swap(Named(), "conv3x3", "depthwise3x3", where="mask_head.of_training")
    with pytest.raises(OpbenchError, match="didn't call it"):
        swap(Named(), "mask_head.*", "depthwise3x3")


def test_places_are_counted_by_slot_part_and_bottleneck():
    (transposed, mixed) = places_of(Named(), torch.zeros(1, 3, 8, 8))
    assert (transposed.total, transposed.parts, transposed.bottleneck) == (1, {"no part": 1}, 0)
    assert (mixed.total, mixed.bottleneck, mixed.uncalled) == (4, 1, 1)
    assert mixed.parts == {"backbone": 1, "neck": 1, "head": 2}


def test_the_answer_lists_the_places_and_what_a_swap_takes_along(monkeypatch):
    swaps = (parse_swap("conv3x3=depthwise3x3"), parse_swap("conv3x3@bottleneck=depthwise3x3"))
    found = measure(CostRequest(f"{__file__}:Named", swaps, size=(16, 16), budget_seconds=0.05))
    said = "\n".join(sentences(found))
    assert "left as they are: 1 that no evaluation calls." in said
    assert (
        "conv3x3=depthwise3x3 takes 1 in the backbone, 1 in the neck, 1 in the head; 1 of them are in bottlenecks, "
        "where write-ups swap: conv3x3@bottleneck=depthwise3x3 takes those alone." in said
    )
    assert "conv3x3@bottleneck=depthwise3x3 takes 1 in the backbone." in said
    assert [len(variant.changes) for variant in found.variants] == [0, 3, 1]
    assert places(found).header == (
        "slot",
        "places",
        "backbone",
        "neck",
        "head",
        "no part",
        "in bottlenecks",
        "never called",
    )
    assert places(found).rows[1] == ("conv3x3", "4", "1", "1", "2", "0", "1", "1")


# --- ultralytics: (slot, part) -> how many, by hand from the package's YAML files ---------------------------------

FOUND = {
    "yolov5n.yaml": {"upsample": {"neck": 2}, "conv3x3": {"backbone": 7, "neck": 4, "head": 7}, "bottleneck": 11},
    "yolov6n.yaml": {"transposed": {"neck": 2}, "conv3x3": {"backbone": 14, "neck": 14, "head": 7}, "bottleneck": 0},
    "yolov8n.yaml": {"upsample": {"neck": 2}, "conv3x3": {"backbone": 12, "neck": 8, "head": 7}, "bottleneck": 20},
    "yolo11n.yaml": {"upsample": {"neck": 2}, "conv3x3": {"backbone": 8, "neck": 4, "head": 4}, "bottleneck": 12},
    "yolo12n.yaml": {"upsample": {"neck": 2}, "conv3x3": {"neck": 16, "head": 4}, "bottleneck": 16},
    "yolo26n-seg.yaml": {
        "upsample": {"neck": 2},
        "transposed": {"head": 1},
        "conv3x3": {"backbone": 8, "neck": 12, "head": 17},
        "bottleneck": 20,
    },
    "yoloe-11s.yaml": {
        "upsample": {"neck": 2, "head": 4},
        "conv3x3": {"backbone": 8, "neck": 4, "head": 8},
        "bottleneck": 12,
    },
    "rtdetr-l.yaml": {"upsample": {"neck": 2}, "conv3x3": {"backbone": 11, "neck": 12}, "bottleneck": 0},
    "yolov8n-cls.yaml": {"conv3x3": {"backbone": 12}, "bottleneck": 12},
}


@pytest.mark.parametrize("name", FOUND)
def test_the_places_of_a_network_of_the_package(name, ultralytics):
    found = {one.slot: one for one in places_of(load_model(name))}
    expected = dict(FOUND[name])
    assert found["conv3x3"].bottleneck == expected.pop("bottleneck")
    assert {slot: one.parts for slot, one in found.items() if slot != "downsample2x"} == expected


@pytest.mark.parametrize(("name", "left"), [("yolo26n-seg.yaml", 2), ("yoloe-11s.yaml", 5)])
def test_one_branch_that_evaluation_does_not_call_keeps_nothing_from_being_swapped(name, left, ultralytics):
    model = load_model(name)
    every = len(matching(model, "conv3x3"))
    with pytest.warns(UserWarning, match="left as they are"):
        assert len(swap(model, "conv3x3", "dcnv3")) == every - left


def test_a_repconv_keeps_its_branches_where_one_was_swapped(ultralytics):
    torch.manual_seed(0)
    model = load_model("yolov9t.yaml")
    assert swap(model, "conv3x3@neck", "dcnv3")
    assert any(isinstance(module, UnfusedRepConv) for module in model.modules())
    x = torch.rand(1, 3, 64, 64)
    expected = model.eval()(x)[0]
    fused = copy.deepcopy(model).fuse(verbose=False)
    assert torch.allclose(fused(x)[0], expected, atol=1e-3)
    assert fused.is_fused()


def every_yaml():
    try:
        from opbench.models.ultralytics_package import import_ultralytics

        folder = import_ultralytics("ultralytics.utils").ROOT / "cfg" / "models"
    except OpbenchError:
        return []
    return sorted(path.name for path in folder.rglob("*.yaml"))


RIVAL = {"upsample": "carafe", "transposed": "carafe", "conv3x3": "dcnv3", "downsample2x": "depthwise-stride2"}


@pytest.mark.nightly
@pytest.mark.parametrize("name", every_yaml() or ["none"])
def test_every_network_of_the_package_is_swapped_whole_and_fused(name, ultralytics):
    """All slots at once, with the parameters that the changes say, and the same answer once fused."""
    torch.manual_seed(0)
    try:
        model = load_model(name)
    except OpbenchError as error:
        if "torchvision" in str(error):
            pytest.skip(str(error))
        raise
    before = sum(value.numel() for value in model.parameters())
    x = torch.rand(1, 3, 64, 64)
    changes = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for one in places_of(model, x):
            if one.total > one.uncalled:
                changes += swap(model, one.slot, RIVAL[one.slot])
    after = sum(value.numel() for value in model.parameters())
    assert after - before == sum(one.params_after - one.params_before for one in changes)
    if "world" in name or "yoloe" in name:
        return  # they fuse the words that they look for, too
    expected = first(model.eval()(x))
    fused = copy.deepcopy(model).fuse(verbose=False)
    assert torch.allclose(first(fused(x)), expected, atol=0.05, rtol=1e-3) or "rtdetr" in name


def first(output):
    while not isinstance(output, torch.Tensor):
        output = next(iter(output.values())) if isinstance(output, dict) else output[0]
    return output
