"""swap: what it replaces, what stays, and what it refuses with the model left as it was."""

import re
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import opbench.models
from opbench.models import Change, swap
from opbench.operators.carafe import CARAFE, YoloCARAFE
from opbench.operators.dcnv3 import DCNv3, DCNV3_YoLo
from opbench.schema import OpbenchError


class Block(nn.Module):
    def __init__(self, c_in, c_out, **options):
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, **{"kernel_size": 3, "padding": 1, "bias": False, **options})
        self.bn = nn.BatchNorm2d(c_out)

    def forward(self, x):
        return self.bn(self.conv(x)).relu()


class Neck(nn.Module):
    """Two levels: a stride of 2, a block, and back up."""

    def __init__(self, up=None, **options):
        super().__init__()
        self.stem = Block(3, 16, stride=2)
        self.mix = Block(16, 16, **options)
        self.up = nn.Upsample(scale_factor=2) if up is None else up
        self.head = nn.Conv2d(16, 4, 1)

    def forward(self, x):
        return self.head(self.up(self.mix(self.stem(x))))


def state(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_the_contract_call_replaces_every_match_passing_the_channels_found():
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Upsample(scale_factor=2), nn.Conv2d(8, 20, 1), nn.Upsample(None, 2))
    changes = opbench.models.swap(model, torch.nn.Upsample, YoloCARAFE)
    assert [type(model[i]) for i in (1, 3)] == [YoloCARAFE, YoloCARAFE]
    assert [model[i].c for i in (1, 3)] == [8, 20]
    assert changes[1] == Change(
        names=("3",),
        before="Upsample",
        after="YoloCARAFE",
        shape_in=(1, 20, 128, 128),
        shape_out=(1, 20, 256, 256),
        params_before=0,
        params_after=sum(p.numel() for p in YoloCARAFE(20).parameters()),
    )


@pytest.mark.parametrize(
    "what",
    [
        nn.Upsample,
        (nn.Upsample, nn.ConvTranspose2d),
        "upsample",
        "up",
        "u*",
        re.compile("^up$"),
        lambda name, module: name == "up",
    ],
    ids=["class", "classes", "slot", "name", "glob", "regex", "predicate"],
)
def test_a_match_is_named_by_class_slot_glob_regex_or_predicate(what):
    model = Neck()
    assert [change.names for change in swap(model, what, CARAFE)] == [("up",)]
    assert isinstance(model.up, CARAFE)


def test_the_slot_conv3x3_is_what_keeps_channels_and_size():
    model = Neck()
    (change,) = swap(model, "conv3x3", DCNv3)
    assert (change.name, change.before, change.shape_in) == ("mix.conv", "Conv2d", (1, 16, 32, 32))
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 4, 32, 32)


def test_where_narrows_what_matches():
    model = nn.Sequential(Block(3, 16), Block(16, 16), Block(16, 16))
    assert [change.name for change in swap(model, "conv3x3", DCNv3, where="2.*")] == ["2.conv"]
    assert isinstance(model[1].conv, nn.Conv2d)


def test_dcnv3_has_groups_of_at_most_sixteen_channels_and_keeps_the_dilation():
    model = nn.Sequential(nn.Conv2d(3, 48, 1), nn.Conv2d(48, 48, 3, padding=2, dilation=2))
    swap(model, lambda name, module: name == "1", DCNv3)
    assert (model[1].group, model[1].dilation, model[1].pad) == (3, 2, 2)


def test_the_block_takes_the_place_of_a_block_and_may_change_the_channels():
    model = nn.Sequential(Block(3, 16), Block(16, 32))
    (change,) = swap(model, "1", DCNV3_YoLo)
    assert (change.before, change.after) == ("Block", "DCNV3_YoLo")
    assert model(torch.zeros(1, 3, 8, 8)).shape == (1, 32, 8, 8)


def test_any_operator_that_competes_for_the_place_can_be_named():
    model = Neck()
    assert swap(model, "upsample", "pixel-shuffle")[0].params_after == 36 * 16**2
    assert swap(model, "conv3x3", "depthwise3x3")[0].params_after == 9 * 16


def test_a_module_class_of_ones_own_is_constructed_with_the_channels():
    class Mine(nn.Module):
        def __init__(self, channels):
            super().__init__()
            self.conv = nn.ConvTranspose2d(channels, channels, 2, 2)

        def forward(self, x):
            return self.conv(x)

    model = Neck()
    swap(model, nn.Upsample, Mine)
    assert model.up.conv.in_channels == 16


def test_a_factory_receives_the_site():
    model = Neck()
    swap(model, nn.Upsample, lambda site: CARAFE(site.channels, site.scale, up_kernel=3))
    assert model.up.up_kernel == 3


def test_upsampling_by_three_becomes_carafe_by_three():
    model = Neck(nn.Upsample(scale_factor=3))
    swap(model, nn.Upsample, YoloCARAFE)
    assert model.up.scale == 3


def test_the_new_module_takes_over_mode_dtype_and_whether_it_is_trained():
    model = Neck().double()
    model.mix.conv.weight.requires_grad_(False)
    model.mix.eval()
    swap(model, "conv3x3", DCNv3)
    new = model.mix.conv
    assert not new.training
    assert not any(p.requires_grad for p in new.parameters())
    assert {p.dtype for p in new.parameters()} == {torch.float64}


def test_what_a_framework_wrote_on_a_layer_is_on_the_new_one():
    model = Neck()
    model.up.i, model.up.f, model.up.type, model.up.np = 3, [-1, 1], "torch.nn.modules.upsampling.Upsample", 0
    swap(model, nn.Upsample, YoloCARAFE)
    assert (model.up.i, model.up.f) == (3, [-1, 1])
    assert model.up.np == sum(p.numel() for p in model.up.parameters())
    assert model.up.type == "opbench.operators.carafe.module.YoloCARAFE"


def test_the_rest_of_the_model_is_as_it_was():
    model = Neck()
    model(torch.randn(2, 3, 8, 8)).sum().backward()
    model.stem.eval()
    before, modes = state(model), {name: module.training for name, module in model.named_modules()}
    gradient = model.head.weight.grad.clone()
    model.up.seen = []
    swap(model, nn.Upsample, lambda site: nn.ConvTranspose2d(16, 16, 2, 2))
    after = {name: value for name, value in state(model).items() if not name.startswith("up.")}
    assert same(before, after)
    assert {name: module.training for name, module in model.named_modules()} == modes
    assert torch.equal(model.head.weight.grad, gradient)
    assert not any(module._forward_hooks for module in model.modules())


def test_random_numbers_are_drawn_by_the_new_modules_alone():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Dropout(), nn.Upsample(scale_factor=2))
    torch.manual_seed(0)
    swap(model, nn.Upsample, YoloCARAFE)
    drawn = torch.rand(3)
    torch.manual_seed(0)
    expected = YoloCARAFE(4)
    assert torch.equal(torch.rand(3), drawn)
    assert same(state(model[2]), state(expected))


class Noisy(Neck):
    def forward(self, x):
        return super().forward(x + torch.rand_like(x))


def test_what_a_model_draws_in_the_shape_pass_is_drawn_again_afterwards():
    torch.manual_seed(0)
    swap(Noisy(), nn.Upsample, lambda site: nn.Upsample(scale_factor=2, mode="bilinear"))
    drawn = torch.rand(3)
    torch.manual_seed(0)
    Noisy()
    assert torch.equal(torch.rand(3), drawn)


def test_the_shape_pass_evaluates_a_model_that_is_being_trained():
    # In training, a norm of one value a channel has no statistics and raises.
    model = nn.Sequential(Block(3, 8), nn.Upsample(scale_factor=2), nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(8)).train()
    swap(model, nn.Upsample, CARAFE)
    assert all(module.training for module in model.modules())


def test_a_shared_module_is_replaced_by_one_new_module_everywhere():
    shared = nn.Upsample(scale_factor=2)
    model = nn.Sequential(nn.Conv2d(3, 8, 1), shared, nn.Conv2d(8, 8, 1), shared)
    (change,) = swap(model, nn.Upsample, CARAFE)
    assert (change.names, change.calls) == (("1", "3"), 2)
    assert model[1] is model[3]


def test_of_matches_inside_each_other_the_outer_one_is_replaced():
    model = nn.Sequential(Block(3, 16), Block(16, 16))
    changes = swap(model, lambda name, module: name in ("1", "1.conv"), lambda site: nn.Conv2d(16, 16, 1))
    assert [change.name for change in changes] == ["1"]


def test_an_example_may_be_keyword_arguments():
    class Keyed(Neck):
        def forward(self, *, image, flag):
            return super().forward(image) if flag else None

    model = Keyed()
    (change,) = swap(model, nn.Upsample, CARAFE, example={"image": torch.zeros(2, 3, 8, 8), "flag": True})
    assert change.shape_in == (2, 16, 4, 4)


def test_the_size_of_the_shape_pass_can_be_given():
    assert swap(Neck(), nn.Upsample, CARAFE, size=(24, 40))[0].shape_out == (1, 16, 24, 40)


class Reused(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.stems = nn.ModuleList(nn.Conv2d(3, c, 1) for c in channels)
        self.up = nn.Upsample(scale_factor=2)

    def forward(self, x):
        return [self.up(stem(x[..., i:, i:])) for i, stem in enumerate(self.stems)]


def test_a_module_called_at_several_sizes_is_swapped_and_one_called_with_several_channels_is_not():
    (change,) = swap(Reused([8, 8]), nn.Upsample, CARAFE)
    assert change.calls == 2
    with pytest.raises(OpbenchError, match=r"up \(Upsample\).*called with different channels"):
        swap(Reused([8, 12]), nn.Upsample, CARAFE)


class Twice(Neck):
    """Calls the upsampler also through a list that torch doesn't see."""

    def __init__(self):
        super().__init__()
        self.hidden = [self.up]

    def forward(self, x):
        return self.head(self.hidden[0](self.mix(self.stem(x))))


REFUSED = {
    "grouped": (partial(Neck, groups=4), "mix.conv", DCNv3, "grouped: expected groups=1, got groups=4"),
    "even kernel": (partial(Neck, kernel_size=4), "mix.conv", DCNv3, "odd kernel_size of at least 3, got 4"),
    "unpadded": (partial(Neck, padding=0), "mix.conv", DCNv3, r"expected padding 1 .* got \(0, 0\)"),
    "padded too much": (partial(Neck, padding=2), "mix.conv", DCNv3, r"expected padding 1 .* got \(2, 2\)"),
    "strided": (partial(Neck, stride=3), "mix.conv", DCNv3, r"expected stride 1, got \(3, 3\)"),
    "reflecting": (partial(Neck, padding_mode="reflect"), "mix.conv", DCNv3, "padding with zeros"),
    "other channels": (lambda: nn.Sequential(Block(3, 16)), "0.conv", DCNv3, "it makes 16 channels of 3"),
    "a block for the bare module": (Neck, "mix", DCNv3, "takes the place of an nn.Conv2d"),
    "no convolution": (Neck, "up", DCNv3, "takes the place of an nn.Conv2d"),
    "fixed size": (lambda: Neck(nn.Upsample(size=64)), "up", CARAFE, "it has size=64"),
    "not whole": (lambda: Neck(nn.Upsample(scale_factor=1.5)), "up", CARAFE, "one whole number"),
    "by one": (lambda: Neck(nn.Identity()), "up", CARAFE, "of at least 2"),
    "not alike": (lambda: Neck(nn.Upsample(scale_factor=(2, 4))), "up", CARAFE, "one whole number"),
    "a rival that upsamples by two only": (lambda: Neck(nn.Upsample(scale_factor=4)), "up", "deconv", "by 2, .* by 4"),
    "factory that raises": (Neck, "up", lambda site: CARAFE(16, up_kernel=2), "up_kernel"),
    "factory of another shape": (Neck, "up", lambda site: nn.Identity(), "called otherwise"),
    "factory of no module": (Neck, "up", lambda site: None, "expected a module in its place, got NoneType"),
    "model that can't be called any more": (Neck, "up", lambda site: nn.Conv2d(5, 5, 1), "can't be called"),
    "called past the registry": (Twice, "up", CARAFE, "called otherwise"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_swapped_is_refused_and_the_model_is_unchanged(case):
    construct, where, with_, message = REFUSED[case]
    model = construct()
    before, modules = state(model), dict(model.named_modules())
    random = torch.get_rng_state()
    with pytest.raises(OpbenchError, match=message):
        swap(model, where, with_)
    assert dict(model.named_modules()) == modules
    assert same(before, state(model))
    assert torch.equal(random, torch.get_rng_state())


def test_one_match_that_is_refused_keeps_all_others_from_being_swapped():
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Upsample(scale_factor=2), nn.Upsample(size=7))
    with pytest.raises(OpbenchError, match=r"2 \(Upsample\) can't be swapped"):
        swap(model, nn.Upsample, CARAFE)
    assert isinstance(model[1], nn.Upsample)


def test_a_module_with_hooks_is_refused():
    model = Neck()
    handle = model.up.register_forward_hook(lambda *_: None)
    with pytest.raises(OpbenchError, match="hooks"):
        swap(model, nn.Upsample, CARAFE)
    handle.remove()
    swap(model, nn.Upsample, CARAFE)


def test_a_module_that_the_example_does_not_reach_is_refused():
    model = Neck()
    model.unused = nn.Upsample(scale_factor=2)
    with pytest.raises(OpbenchError, match=r"unused \(Upsample\).*didn't call it"):
        swap(model, nn.Upsample, CARAFE)
    assert isinstance(model.up, nn.Upsample)


def test_nothing_matched_says_what_there_is():
    with pytest.raises(OpbenchError, match=r"no module matches Hardtanh; it has .*Conv2d \(3\)"):
        swap(Neck(), nn.Hardtanh, CARAFE)
    with pytest.raises(OpbenchError, match=r"no module matches 'upsample' where 'x\*'"):
        swap(Neck(), "upsample", CARAFE, where="x*")


class Interpolates(nn.Module):
    def forward(self, x):
        return F.interpolate(x, scale_factor=2)


class WithCalls(Neck):
    def __init__(self):
        super().__init__(Interpolates())


def test_interpolation_called_inside_a_forward_is_named_as_out_of_reach():
    with pytest.raises(OpbenchError, match=r"up: upsampling there is a call of torch.nn.functional.interpolate"):
        swap(WithCalls(), nn.Upsample, CARAFE)
    assert opbench.models.functional_upsampling(WithCalls()) == ("up",)
    assert opbench.models.functional_upsampling(Neck()) == ()


def test_a_module_that_only_interpolates_is_swapped_by_its_own_class():
    model = WithCalls()
    swap(model, Interpolates, CARAFE)
    assert isinstance(model.up, CARAFE)


def test_the_model_itself_is_no_place():
    with pytest.raises(OpbenchError, match="the model itself matches"):
        swap(nn.Upsample(scale_factor=2), nn.Upsample, CARAFE)


def test_a_model_that_cannot_be_called_says_with_what():
    with pytest.raises(OpbenchError, match=r"Neck \(on cpu\) can't be called with \(1, 5, 8, 8\) on cpu: RuntimeError"):
        swap(Neck(), nn.Upsample, CARAFE, example=torch.zeros(1, 5, 8, 8))


def test_an_example_on_another_device_is_told():
    with pytest.raises(OpbenchError, match=r"on cpu\) can't be called with \(1, 3, 8, 8\) on meta"):
        swap(Neck(), nn.Upsample, CARAFE, example=torch.zeros(1, 3, 8, 8, device="meta"))


def test_a_model_without_convolutions_needs_an_example():
    with pytest.raises(OpbenchError, match="give an example or a size with channels"):
        swap(nn.Sequential(nn.Upsample(scale_factor=2)), nn.Upsample, CARAFE)
    model = nn.Sequential(nn.Upsample(scale_factor=2))
    assert swap(model, nn.Upsample, CARAFE, example=torch.zeros(1, 6, 4, 4))[0].shape_in == (1, 6, 4, 4)


def test_what_is_no_module_class_name_or_predicate_is_refused():
    with pytest.raises(OpbenchError, match="what: expected module classes"):
        swap(Neck(), 3, CARAFE)
    with pytest.raises(OpbenchError, match="with_: expected a module class"):
        swap(Neck(), nn.Upsample, 3)
    with pytest.raises(OpbenchError, match=r"unknown operator 'caraf'; did you mean 'carafe'"):
        swap(Neck(), nn.Upsample, "caraf")


def test_the_implementation_reaches_opbenchs_own_modules_and_nobody_elses():
    model = Neck()
    swap(model, nn.Upsample, YoloCARAFE, implementation="shift-add")
    assert model.up.implementation == "shift-add"
    with pytest.raises(OpbenchError, match="takes no implementation"):
        swap(Neck(), nn.Upsample, lambda site: CARAFE(16), implementation="unfold")
    with pytest.raises(OpbenchError, match="unknown implementation"):
        swap(Neck(), nn.Upsample, CARAFE, implementation="unfolded")


def test_a_compiled_or_scripted_model_is_refused():
    class Compiled(nn.Module):
        def __init__(self):
            super().__init__()
            self._orig_mod = Neck()

    with pytest.raises(OpbenchError, match="swap, then compile"):
        swap(Compiled(), nn.Upsample, CARAFE)
    with pytest.raises(OpbenchError, match="swap, then script"):
        swap(torch.jit.script(Neck()), nn.Upsample, CARAFE)


def test_the_swapped_model_trains():
    model = Neck()
    swap(model, nn.Upsample, YoloCARAFE)
    swap(model, "conv3x3", DCNv3)
    model(torch.randn(2, 3, 16, 16)).square().mean().backward()
    assert all(p.grad is not None for p in model.parameters())
    assert model.up.enc.conv.weight.grad.abs().max() > 0


# --- What is no swap -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", [(), ("up", "mix"), [nn.Upsample], None, (nn.Upsample, "up")])
def test_what_is_neither_classes_nor_a_pattern_is_refused(what):
    with pytest.raises(OpbenchError, match="what: expected module classes, a name pattern or a predicate"):
        swap(nn.Sequential(nn.Conv2d(3, 8, 1), nn.Upsample(scale_factor=2)), what, CARAFE)


def test_what_is_no_model_is_refused():
    with pytest.raises(OpbenchError, match=r"model: expected a torch\.nn\.Module, got str"):
        swap("yolov8n", nn.Upsample, CARAFE)


@pytest.mark.parametrize("size", [64, (0, 4), (4, -1), (1, 2, 3, 4), [4, 4], (4.0, 4.0)])
def test_a_size_is_two_or_three_counts(size):
    with pytest.raises(
        OpbenchError, match=r"size: expected .height, width. or .channels, height, width. in pixels, got"
    ):
        swap(nn.Sequential(nn.Conv2d(3, 8, 1), nn.Upsample(scale_factor=2)), nn.Upsample, CARAFE, size=size)


def test_an_example_in_a_list_is_told_how_to_be_given():
    with pytest.raises(OpbenchError, match=r"example: expected .* got list: give \(\[...\],\) to a model"):
        swap(
            nn.Sequential(nn.Conv2d(3, 8, 1), nn.Upsample(scale_factor=2)), nn.Upsample, CARAFE, example=[torch.ones(1)]
        )


def test_a_near_miss_is_told_the_slot_and_a_wrong_place_where_it_would_match():
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Upsample(scale_factor=2))
    with pytest.raises(OpbenchError, match=r"no module matches 'upsampel'.*; did you mean 'upsample'\?$"):
        swap(model, "upsampel", CARAFE)
    with pytest.raises(
        OpbenchError, match=r"no module matches 'upsample' where 'nek'.*elsewhere 'upsample' matches 1$"
    ):
        swap(model, "upsample", CARAFE, where="nek")


def test_whatever_a_factory_raises_names_the_place_and_leaves_the_model():
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Upsample(scale_factor=2))
    with pytest.raises(OpbenchError, match=r"1 \(Upsample\) can't be swapped: KeyError: 'channels'"):
        swap(model, nn.Upsample, lambda site: {}["channels"])
    assert isinstance(model[1], nn.Upsample)
