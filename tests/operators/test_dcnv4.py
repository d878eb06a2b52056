"""DCNv4: the packed layout, its cores, its relation to DCNv3, the published module, and how it is refused and used."""

import copy
import io
import pickle

import pytest
import torch

from opbench import registry
from opbench.build import build
from opbench.kernels.dcnv4_packed import width
from opbench.measure.macs import CORRECTED, by_torch
from opbench.models import swap
from opbench.operators.dcnv3 import dcnv3
from opbench.operators.dcnv4 import CORES, DCNv4, dcnv4, dcnv4_definition, pack, unpack
from opbench.operators.dcnv4.module import ChannelsFirstDCNv4
from opbench.schema import Case

HERE = pytest.mark.parametrize("name", ["grid-sample", "gather", "cpu"])
# OpenGVLab/DCNv4 at 4b848f7, DCNv4_op/DCNv4/modules/dcnv4.py: DCNv4(32, group=2).
PUBLISHED = {
    "offset_mask.weight": (56, 32),
    "offset_mask.bias": (56,),
    "value_proj.weight": (32, 32),
    "value_proj.bias": (32,),
    "output_proj.weight": (32, 32),
    "output_proj.bias": (32,),
}


def drawn(n=2, h=5, w=7, depth=3, *, seed=0, dtype=torch.float64, **changes):
    """x, offset_mask and the settings; the padding holds NaN, which means nothing."""
    call = {"kernel_size": 3, "stride": 1, "pad": 1, "dilation": 1, "group": 2, "offset_scale": 1.0}
    call = {**call, "remove_center": False, **changes}
    k, group = call["kernel_size"], call["group"]
    points = k * k - call["remove_center"]
    ho, wo = ((v + 2 * call["pad"] - call["dilation"] * (k - 1) - 1) // call["stride"] + 1 for v in (h, w))
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, h, w, group * depth, generator=generator)
    offset = (torch.randn(n, ho, wo, group * points * 2, generator=generator) * 16).round() / 8 + 1 / 16
    mask = torch.randn(n, ho, wo, group * points, generator=generator)
    offset_mask = pack(offset, mask, group)
    offset_mask[..., 3 * group * points :] = torch.nan
    return x.to(dtype), offset_mask.to(dtype), call


def test_the_packed_layout_is_a_group_after_another_its_offsets_before_its_masks():
    offset, mask = torch.arange(36.0).view(1, 36), 100 + torch.arange(18.0).view(1, 18)
    packed = pack(offset, mask, 2)
    assert packed.shape == (1, width(2, 9)) == (1, 56)
    expected = [*range(18), *range(100, 109), *range(18, 36), *range(109, 118), 0, 0]
    assert packed.tolist() == [expected]
    assert all(map(torch.equal, unpack(packed, 2, 9), (offset, mask)))


@HERE
@pytest.mark.parametrize(
    "changes", [{}, {"remove_center": True, "group": 3}, {"kernel_size": 5, "pad": 0, "stride": 2, "offset_scale": 0.5}]
)
def test_cores_are_the_definition_and_pass_its_gradients(name, changes):
    x, offset_mask, call = drawn(h=9, **changes)
    grad = None
    got = []
    for core in (dcnv4_definition, CORES[name].function):
        leaves = [x.clone().requires_grad_(), offset_mask.clone().requires_grad_()]
        out = core(*leaves, **call)
        grad = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(out) if grad is None else grad
        got.append((out, *torch.autograd.grad(out, leaves, grad)))
    for a, b in zip(*got, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)
    used = 3 * call["group"] * (call["kernel_size"] ** 2 - call["remove_center"])
    assert not got[1][2][..., used:].any(), "what pads the layout gets no gradient"


@HERE
def test_on_softmaxed_masks_it_is_dcnv3(name):
    x, offset_mask, call = drawn()
    offset, logits = unpack(offset_mask, 2, 9)
    mask = logits.unflatten(-1, (2, 9)).softmax(-1).flatten(-2)
    out = dcnv4(x, pack(offset, mask, 2), **call, implementation=name)
    assert torch.equal(out, dcnv3(x, offset, mask, **call, implementation=name))


def test_a_fresh_module_gives_nothing_and_half_of_its_projection_with_center_feature_scale():
    x = torch.randn(2, 4, 6, 8)
    assert not DCNv4(8, group=2)(x).any()
    blended = DCNv4(8, group=2, center_feature_scale=True)
    torch.testing.assert_close(blended(x), blended.output_proj(blended.value_proj(x) / 2))
    bare = DCNv4(8, group=2, center_feature_scale=True, without_pointwise=True)
    torch.testing.assert_close(bare(x), x / 2)


def shapes(module):
    return {name: tuple(value.shape) for name, value in module.state_dict().items()}


def test_state_dict_keys_and_shapes_are_the_published_ones():
    assert shapes(DCNv4(32, group=2)) == PUBLISHED
    assert shapes(ChannelsFirstDCNv4(32, group=2)) == PUBLISHED
    deep = {"offset_mask_dw.weight": (32, 1, 5, 5), "offset_mask_dw.bias": (32,)}
    assert shapes(DCNv4(32, group=2, dw_kernel_size=5)) == PUBLISHED | deep
    blended = {"center_feature_scale_proj_weight": (2, 32), "center_feature_scale_proj_bias": (2,)}
    assert shapes(DCNv4(32, group=2, center_feature_scale=True)) == PUBLISHED | blended
    unbiased = set(shapes(DCNv4(32, group=2, output_bias=False)))
    assert unbiased == set(PUBLISHED) - {"output_proj.bias"}
    bare = shapes(DCNv4(32, group=2, without_pointwise=True, remove_center=True))
    assert bare == {"offset_mask.weight": (48, 32), "offset_mask.bias": (48,)}
    by_position = DCNv4(32, 5, 1, 4, 2, 2, 0.5, 3, True, True, False, False)
    assert (by_position.dw_kernel_size, by_position.offset_scale) == (3, 0.5)
    assert by_position.offset_mask.out_features == 144


def randomised(module):
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(std=0.3)
    return module


def test_tokens_are_an_image_in_rows():
    module = randomised(DCNv4(8, group=2, dw_kernel_size=3))
    image = torch.randn(2, 3, 12, 8)
    expected = module(image)
    tokens = image.flatten(1, 2)
    assert torch.equal(module(tokens, (3, 12)), expected.flatten(1, 2))
    square = torch.randn(2, 36, 8)
    assert torch.equal(module(square), module(square, (6, 6)))
    first = ChannelsFirstDCNv4(8, group=2, dw_kernel_size=3)
    first.load_state_dict(module.state_dict())
    torch.testing.assert_close(first(image.permute(0, 3, 1, 2)), expected.permute(0, 3, 1, 2))


@pytest.mark.parametrize("dw_kernel_size", [None, 3])
def test_with_a_stride_offsets_are_those_of_the_pixels_that_windows_are_centred_on(dw_kernel_size):
    module = randomised(DCNv4(8, group=2, stride=2, dw_kernel_size=dw_kernel_size)).double()
    whole = DCNv4(8, group=2, dw_kernel_size=dw_kernel_size).double()
    whole.load_state_dict(module.state_dict())
    x = torch.randn(1, 7, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(module(x), whole(x)[:, ::2, ::2])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"channels": 10}, "expected a multiple of group, got 10 channels in 4 groups"),
        ({"pad": 0}, "got 0; give pad=1"),
        ({"kernel_size": 4}, "give an odd kernel_size"),
        ({"dw_kernel_size": 4}, "expected an odd size, which keeps the image's, got 4; give 5"),
        ({"stride": 2, "center_feature_scale": True}, "expected stride 1, got 2"),
        ({"kernel_size": 1, "pad": 0, "remove_center": True}, "has only its centre"),
        ({"group": 0}, "group: expected at least 1"),
    ],
)
def test_settings_that_can_not_work_are_said(arguments, said):
    with pytest.raises(ValueError, match=said):
        DCNv4(**{"channels": 8, **arguments})


def test_inputs_that_can_not_work_are_said():
    module = DCNv4(8, group=2)
    with pytest.raises(ValueError, match=r"12 tokens are no square image; give shape=\(H, W\)"):
        module(torch.zeros(1, 12, 8))
    with pytest.raises(ValueError, match="3 x 5 pixels are 15 tokens, x has 12"):
        module(torch.zeros(1, 12, 8), (3, 5))
    with pytest.raises(ValueError, match=r"says \(H, W\) itself, got \(2, 2\)"):
        module(torch.zeros(1, 3, 4, 8), (2, 2))
    with pytest.raises(ValueError, match=r"permute a channels-first image"):
        module(torch.zeros(1, 8, 3, 4))
    x, offset_mask, call = drawn()
    with pytest.raises(ValueError, match=r"expected shape \(2, 5, 7, 56\) .* 18 offsets and then 9 masks"):
        dcnv4(x, offset_mask[..., :54], **call)
    with pytest.raises(TypeError, match="expected x's dtype"):
        dcnv4(x, offset_mask.float(), **call)
    with pytest.raises(ValueError, match="divisible by 4 groups"):
        dcnv4(x, offset_mask, **{**call, "group": 4})


def test_it_lives_as_yolo_treats_modules():
    """Built in training mode at batch 1, rectangular, copied, pickled whole, run in half and under autocast."""
    module = randomised(ChannelsFirstDCNv4(16, group=2, dw_kernel_size=3, center_feature_scale=True)).train()
    x = torch.randn(1, 16, 3, 7)
    out = module(x)
    out.sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in module.parameters())
    torch.testing.assert_close(copy.deepcopy(module)(x), out)
    torch.testing.assert_close(pickle.loads(pickle.dumps(module))(x), out)
    size = out.abs().max().item()
    for dtype in (torch.bfloat16, torch.float16):
        narrow = copy.deepcopy(module).to(dtype)(x.to(dtype))
        with torch.autocast("cpu", dtype):
            mixed = module(x)
        for got in (narrow, mixed):
            torch.testing.assert_close(got.float(), out, rtol=0, atol=0.1 * size)


@pytest.mark.filterwarnings("ignore")  # while it is traced, sizes are tensors
def test_it_is_traced_and_exported():
    module = randomised(ChannelsFirstDCNv4(8, group=2, implementation="grid-sample")).eval()
    x = torch.randn(1, 8, 4, 6)
    torch.testing.assert_close(torch.jit.trace(module, x)(x), module(x))
    torch.testing.assert_close(torch.export.export(module, (x,)).module()(x), module(x))


@pytest.mark.filterwarnings("ignore")
def test_it_is_exported_to_onnx_and_runs_there():
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    module = randomised(ChannelsFirstDCNv4(8, group=2, implementation="grid-sample")).eval()
    x = torch.randn(1, 8, 4, 6)
    file = io.BytesIO()
    torch.onnx.export(module, (x,), file, opset_version=17, dynamo=False, input_names=["x"])
    (got,) = runtime.InferenceSession(file.getvalue()).run(None, {"x": x.numpy()})
    torch.testing.assert_close(torch.from_numpy(got), module(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "settings",
    [{}, {"dw_kernel_size": 5, "center_feature_scale": True}, {"without_pointwise": True}, {"output_bias": False}],
)
def test_its_layer_is_counted_at_any_arguments(settings):
    module = DCNv4(16, group=2, **settings)
    params, macs = registry.operator("conv3x3", "dcnv4").layer(module, (2, 4, 5, 16), (2, 4, 5, 16))
    assert params == sum(parameter.numel() for parameter in module.parameters())
    window, blended, pointwise = settings.get("dw_kernel_size"), settings.get("center_feature_scale"), 2 * 16 * 16
    per_pixel = 56 * 16 + 4 * 9 * 16 + (window or 0) ** 2 * 16 + bool(blended) * 2 * 16
    assert macs == 40 * (per_pixel + (0 if settings.get("without_pointwise") else pointwise))


@pytest.mark.parametrize("mode", ["inference", "training"])
def test_the_cpu_core_is_counted_as_the_closed_form_says(mode):
    dims = {"N": 1, "C": 8, "H": 6, "W": 5, "G": 2}
    built = build(Case("conv3x3", "w", "dcnv4", "cpu", dims, "float32", "cpu", mode, spread=2.0))
    cost = built.operator.cost(dims)
    seen = by_torch(built, {**CORRECTED, **built.operator.formulas})
    assert seen.macs == cost.macs + (cost.macs_backward if mode == "training" else 0)
    assert not [name for name in seen.unaccounted if "opbench" in name]
    assert cost.params == sum(parameter.numel() for parameter in built.module.parameters())


def test_offsets_spread_as_asked():
    operator = registry.operator("conv3x3", "dcnv4")
    dims = {"N": 1, "C": 16, "H": 9, "W": 8, "G": 2}
    seen = {}

    def core(x, offset_mask, **settings):
        seen["offset"], seen["mask"] = unpack(offset_mask, 2, 9)
        seen.update(operator.learnt(module, (x, offset_mask)))
        return x

    module = ChannelsFirstDCNv4(16, group=2, implementation=core)
    x = torch.randn(1, 16, 9, 8)
    operator.prepare(module, dims, 2.0, torch.Generator().manual_seed(0), x)
    module(x)
    assert seen["offset spread"] == pytest.approx(2.0, 1e-3)
    assert seen["offset"].square().mean().sqrt().item() == pytest.approx(2.0, 1e-3)
    assert 0.05 < seen["mask"].mean().item() < 0.2


def test_it_takes_the_place_of_a_convolution():
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 32, 1), torch.nn.Conv2d(32, 32, 3, padding=1))
    swap(model, lambda name, module: name == "1", "dcnv4")
    assert isinstance(model[1], ChannelsFirstDCNv4)
    assert (model[1].group, model(torch.zeros(1, 3, 4, 6)).shape) == (2, (1, 32, 4, 6))


@pytest.mark.parametrize("settings", [{}, {"dw_kernel_size": 5, "without_pointwise": True}])
def test_it_is_shown_from_published_parameters(settings, tmp_path):
    from opbench.drawings import Shot
    from opbench.report.show.picture import picture

    torch.save(DCNv4(64, **settings).state_dict(), tmp_path / "published.pt")
    text = picture("dcnv4", Shot(weights=tmp_path / "published.pt", at=("3,4",)))
    assert "DCNv4: where one output pixel samples" in text
    assert "no softmax: any number" in text
    assert "DCNv3" not in text
