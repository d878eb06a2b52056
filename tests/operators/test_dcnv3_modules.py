"""The DCNv3 layer and the YOLO block: official names and start, geometry, refusals, equality with the definition."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from sampling_cases import Call

from opbench.operators.dcnv3 import DCNv3, DCNV3_YoLo, dcnv3
from opbench.operators.dcnv3.module import ChannelsFirstDCNv3
from opbench.operators.dcnv3.module_definition import dcnv3_module_definition, yolo_block_definition

OFFICIAL = {
    "dw_conv.0.weight": (8, 1, 3, 3),
    "dw_conv.0.bias": (8,),
    "dw_conv.1.1.weight": (8,),
    "dw_conv.1.1.bias": (8,),
    "offset.weight": (36, 8),
    "offset.bias": (36,),
    "mask.weight": (18, 8),
    "mask.bias": (18,),
    "input_proj.weight": (8, 8),
    "input_proj.bias": (8,),
    "output_proj.weight": (8, 8),
    "output_proj.bias": (8,),
}
BLENDED = {"center_feature_scale_proj_weight": (2, 8), "center_feature_scale_proj_bias": (2,)}


def randomised(module):
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(std=0.3)
        for name, buffer in module.named_buffers():
            if name.endswith("running_var"):
                buffer.uniform_(0.5, 1.5)
            elif name.endswith("running_mean"):
                buffer.normal_()
    return module.double()


def shapes(module):
    return {name: tuple(value.shape) for name, value in module.state_dict().items()}


def test_state_dict_keys_and_shapes_are_the_official_ones():
    assert shapes(DCNv3(8, group=2)) == OFFICIAL
    assert shapes(DCNv3(8, group=2, center_feature_scale=True)) == OFFICIAL | BLENDED
    assert shapes(ChannelsFirstDCNv3(8, group=2)) == OFFICIAL
    batch_norm = {name for name in shapes(DCNv3(8, group=2, norm_layer="BN")) if name.startswith("dw_conv.1")}
    assert batch_norm == {
        f"dw_conv.1.0.{part}" for part in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    }
    removed = shapes(DCNv3(8, group=2, remove_center=True, kernel_size=5))
    assert (removed["offset.weight"], removed["mask.weight"]) == ((96, 8), (48, 8))
    assert removed["dw_conv.0.weight"] == (8, 1, 5, 5)


def test_a_fresh_layer_averages_its_projected_window():
    layer, x = DCNv3(8, group=2).double(), torch.randn(2, 5, 4, 8, dtype=torch.float64)
    assert not any(
        layer.state_dict()[name].any() for name in ("offset.weight", "offset.bias", "mask.weight", "mask.bias")
    )
    assert not any(layer.state_dict()[name].any() for name in ("input_proj.bias", "output_proj.bias"))
    assert layer.input_proj.weight.abs().max() <= math.sqrt(6 / 16)
    pooled = F.avg_pool2d(layer.input_proj(x).permute(0, 3, 1, 2), 3, 1, 1).permute(0, 2, 3, 1)
    torch.testing.assert_close(layer(x), layer.output_proj(pooled), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"kernel_size": 5, "pad": 2, "dw_kernel_size": 3},
        {"dilation": 2, "pad": 2, "offset_scale": 0.5},
        {"stride": 2},
        {"stride": 2, "kernel_size": 5, "pad": 2, "dilation": 1},
        {"pad": 0},
        {"pad": 2},
        {"kernel_size": 2, "pad": 1},
        {"remove_center": True, "center_feature_scale": True},
    ],
    ids=str,
)
def test_the_layer_equals_its_definition(settings):
    layer = randomised(DCNv3(8, group=2, **settings))
    x = torch.randn(2, 7, 6, 8, dtype=torch.float64, requires_grad=True)
    tensors = dict(layer.named_parameters())
    out, expected = layer(x), dcnv3_module_definition(x, tensors, group=2, **settings)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-11)
    grad = torch.randn_like(out)
    leaves = [x, *tensors.values()]
    for got, want in zip(
        torch.autograd.grad(out, leaves, grad), torch.autograd.grad(expected, leaves, grad), strict=True
    ):
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-10)


def test_offsets_are_predicted_from_the_pixel_they_move():
    """At stride 2 every output pixel is the one of stride 1 at twice its place, whatever the pad."""
    whole = randomised(DCNv3(8, group=2, kernel_size=5, dw_kernel_size=3, pad=2))
    strided = DCNv3(8, group=2, kernel_size=5, dw_kernel_size=3, pad=2, stride=2).double()
    strided.load_state_dict(whole.state_dict())
    x = torch.randn(1, 9, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(strided(x), whole(x)[:, ::2, ::2], rtol=0, atol=1e-12)


def test_channels_first_is_the_same_layer_permuted():
    layer = randomised(ChannelsFirstDCNv3(8, group=2))
    last = DCNv3(8, group=2).double()
    last.load_state_dict(layer.state_dict())
    x = torch.randn(1, 8, 5, 6, dtype=torch.float64)
    assert torch.equal(layer(x).permute(0, 2, 3, 1), last(x.permute(0, 2, 3, 1)))


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"channels": 9}, ValueError, "channels: expected a multiple of group, got 9 channels in 4 groups"),
        ({"norm_layer": "GN"}, ValueError, "unknown norm_layer 'GN'.*known: BN, LN"),
        ({"act_layer": "Gelu"}, ValueError, "unknown act_layer 'Gelu'.*known: GELU, ReLU, SiLU"),
        ({"dw_kernel_size": 4}, ValueError, "dw_kernel_size: its window can't be centred.*differs from 3 by an even"),
        (
            {"dilation": 2, "pad": 0},
            ValueError,
            r"pad: .*doesn't reach.*pad by at least 1, or raise dw_kernel_size by 2",
        ),
        ({"center_feature_scale": True, "stride": 2}, ValueError, "expected stride 1 and pad 1, got stride 2, pad 1"),
        ({"center_feature_scale": True, "pad": 2}, ValueError, "expected stride 1 and pad 1, got stride 1, pad 2"),
        ({"kernel_size": [3]}, TypeError, "kernel_size: expected one int"),
        ({"kernel_size": 2, "remove_center": True}, ValueError, "even size 2 has no centre"),
    ],
)
def test_settings_that_can_not_work_are_refused_at_construction(settings, error, message):
    with pytest.raises(error, match=message):
        DCNv3(**settings)


def test_a_channels_first_input_is_refused_by_the_channels_last_layer():
    with pytest.raises(
        ValueError, match=r"x: expected channels last \(N, H, W, 8\), got shape \(1, 8, 5, 6\); permute"
    ):
        DCNv3(8)(torch.zeros(1, 8, 5, 6))


def test_a_layer_runs_the_core_it_is_given():
    seen = []

    def spy(x, offset, mask, **settings):
        seen.append(settings)
        return dcnv3(x, offset, mask, **settings)

    DCNv3(8, group=2, dilation=2, pad=2, offset_scale=0.5, implementation=spy)(torch.zeros(1, 5, 5, 8))
    expected = Call(1, 5, 5, 4, {"kernel_size": 3, "stride": 1, "pad": 2, "dilation": 2}, 0, 0).settings
    assert seen == [expected | {"group": 2, "offset_scale": 0.5, "remove_center": False}]
    with pytest.raises(ValueError, match="did you mean 'gather'"):
        DCNv3(8, group=2, implementation="gahter")(torch.zeros(1, 5, 5, 8))


def test_autocast_and_copies_of_a_layer_work():
    layer = DCNv3(8, group=2)
    x = torch.randn(1, 5, 4, 8)
    with torch.autocast("cpu", torch.bfloat16):
        out = layer(x)
    assert out.dtype == torch.bfloat16
    assert torch.equal(copy.deepcopy(layer)(x), layer(x))


# --- The YOLO block ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("d", [1, 2])
@pytest.mark.parametrize("s", [1, 2])
@pytest.mark.parametrize("k", [1, 3, 5, 7])
def test_the_block_keeps_the_size_of_a_padded_convolution(k, s, d):
    block = DCNV3_YoLo(6, 8, k=k, s=s, g=2, d=d)
    for size in ((7, 8), (1, 13)):
        out = block(torch.randn(2, 6, *size))
        convolved = F.conv2d(
            torch.zeros(2, 6, *size), torch.zeros(8, 6, k, k), stride=s, padding=d * (k - 1) // 2, dilation=d
        )
        assert out.shape == convolved.shape == (2, 8, *(math.ceil(n / s) for n in size))
        out.sum().backward()


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("k", [1, 3])
def test_the_block_equals_its_definition(k, training):
    block = randomised(DCNV3_YoLo(8, 8, k=k, g=2)).train(training)
    x = torch.randn(2, 8, 5, 6, dtype=torch.float64)
    tensors = {name: value.clone() for name, value in block.state_dict().items()}
    expected = yolo_block_definition(x, tensors, training, kernel_size=k, group=2)
    torch.testing.assert_close(block(x), expected, rtol=0, atol=1e-10)


def test_the_block_keeps_the_write_ups_names():
    prefixes = {name.split(".")[0] for name in DCNV3_YoLo(4, 8).state_dict()}
    assert prefixes == {"conv", "dcnv3", "bn"}
    assert {"conv.conv.weight", "conv.bn.running_var", "dcnv3.offset.weight"} <= set(DCNV3_YoLo(4, 8).state_dict())


def test_the_block_honours_p_and_act():
    assert DCNV3_YoLo(4, 4, 3, 1, 0)(torch.zeros(1, 4, 5, 5)).shape == (1, 4, 3, 3)
    plain, negative = DCNV3_YoLo(4, 4, 3, act=False), DCNV3_YoLo(4, 4, 3, act=torch.nn.Softplus())
    assert isinstance(plain.act, torch.nn.Identity)
    assert isinstance(negative.act, torch.nn.Softplus)
    with pytest.raises(ValueError, match=r"k: expected an odd kernel size, got 4.*give p, or k=5"):
        DCNV3_YoLo(4, 4, 4)
    with pytest.raises(TypeError, match="k: expected one int"):
        DCNV3_YoLo(4, 4, (3, 3))
