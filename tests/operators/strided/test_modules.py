"""SPDConv and ADown as people use them: published weights, what is refused, and what YOLO packages do to a module."""

import copy
import io
import pickle
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from opbench import registry
from opbench.models import swap
from opbench.operators.adown import ADown
from opbench.operators.spdconv import SPDConv, space_to_depth
from opbench.operators.spdconv.cores import CORES


def norm(name, channels):
    rest = {f"{name}.{part}": (channels,) for part in ("weight", "bias", "running_mean", "running_var")}
    return {**rest, f"{name}.num_batches_tracked": ()}


# Copies of the class in YOLO forks: `self.conv = Conv(inc * 4, ouc, k=3)`, a convolution without bias and its norm.
SPD_KEYS = {"conv.conv.weight": (16, 32, 3, 3), **norm("conv.bn", 16)}
# models/common.py of WongKinYiu/yolov9, and ultralytics' block.py.
ADOWN_KEYS = {
    "cv1.conv.weight": (8, 4, 3, 3),
    **norm("cv1.bn", 8),
    "cv2.conv.weight": (8, 4, 1, 1),
    **norm("cv2.bn", 8),
}
MODULES = {
    "spdconv": lambda: SPDConv(8, 16),
    "plain spdconv": lambda: SPDConv(8, 16, k=1, block=False),
    "adown": lambda: ADown(8, 16),
}
EACH = pytest.mark.parametrize("make", MODULES.values(), ids=MODULES)


def shapes(module):
    return {name: tuple(value.shape) for name, value in module.state_dict().items()}


def test_parameters_have_the_published_names_and_shapes():
    assert shapes(SPDConv(8, 16)) == SPD_KEYS
    assert shapes(SPDConv(8, 16, 1, block=False)) == {"conv.weight": (16, 32, 3, 3)}
    assert shapes(ADown(8, 16)) == ADOWN_KEYS


def test_adown_is_ultralytics_own():
    block = pytest.importorskip("ultralytics.nn.modules.block")
    theirs, ours = block.ADown(8, 16).eval(), ADown(8, 16).eval()
    ours.load_state_dict(theirs.state_dict())
    for size in ((12, 16), (7, 10), (2, 2)):
        x = torch.randn(2, 8, *size)
        torch.testing.assert_close(ours(x), theirs(x))


def test_the_slices_stand_in_the_published_order():
    """Of a 2 x 2 image: down the first column, then down the second."""
    x = torch.tensor([[0.0, 2.0], [1.0, 3.0]]).view(1, 1, 2, 2)
    assert space_to_depth(x).flatten().tolist() == [0, 1, 2, 3]
    assert F.pixel_unshuffle(x, 2).flatten().tolist() == [0, 2, 1, 3]
    x = torch.randn(2, 3, 4, 6)
    published = torch.cat([x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2]], 1)
    assert torch.equal(space_to_depth(x), published)


@pytest.mark.parametrize("k", [1, 3, 5])
def test_a_strided_window_is_the_same_convolution(k):
    x, weight = torch.randn(2, 3, 6, 10, dtype=torch.float64), torch.randn(5, 12, k, k, dtype=torch.float64)
    torch.testing.assert_close(CORES["strided"].function(x, weight), CORES["slices"].function(x, weight))


REFUSED = [
    (lambda: SPDConv(8, 16, k=2), "k: expected an odd kernel size such as 1 or 3, got 2"),
    (lambda: SPDConv(8, 16, 2), "dimension: the slices are joined as channels, expected 1, got 2"),
    (lambda: SPDConv(8, 16)(torch.zeros(1, 8, 5, 6)), "expected an even height and width, got 5 x 6 pixels: pad"),
    (lambda: SPDConv(8, 16)(torch.zeros(1, 4, 6, 6)), r"expected x of shape \(N, 8, H, W\), got \(1, 4, 6, 6\)"),
    (lambda: ADown(7, 16), "c1: its halves are treated apart, expected an even number, got 7"),
    (lambda: ADown(8, 3), "c2: its halves are treated apart, expected an even number, got 3"),
    (lambda: ADown(8, 16)(torch.zeros(1, 8, 1, 6)), "expected at least 2 x 2 pixels, got 1 x 6"),
    (lambda: ADown(8, 16)(torch.zeros(1, 9, 6, 6)), r"expected x of shape \(N, 8, H, W\), got \(1, 9, 6, 6\)"),
]


@pytest.mark.parametrize(("call", "said"), REFUSED)
def test_what_is_refused_is_said_in_a_sentence(call, said):
    with pytest.raises(ValueError, match=said) as raised:
        call()
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("spdconv", {"H": 7}, "7 x 8 pixels: expected an even height and width"),
        ("spdconv", {"k": 2}, "k=2: expected an odd kernel size such as 1 or 3"),
        ("adown", {"W": 9}, "8 x 9 pixels: expected an even height and width"),
        ("adown", {"O": 5}, "O=5: the halves of the channels are treated apart, expected an even number"),
        ("maxpool-conv", {"W": 9}, "8 x 9 pixels: expected an even height and width"),
        ("avgpool-conv", {"H": 9}, "9 x 8 pixels: expected an even height and width"),
    ],
)
def test_dimensions_that_do_not_fit_are_named(name, changes, said):
    operator = registry.operator("downsample2x", name)
    dims = operator.given({"N": 1, "C": 4, "O": 8, "H": 8, "W": 8, "G": 1})
    assert operator.requires(dims) is None
    assert operator.requires({**dims, **changes}) == said


@EACH
def test_every_parameter_gets_a_gradient_at_batch_1_in_training(make):
    module = make().train()
    module(torch.randn(1, 8, 12, 20)).sum().backward()
    assert all(value.grad is not None for value in module.parameters())


@EACH
def test_it_is_copied_pickled_and_cast(make):
    module, x = make().eval(), torch.randn(2, 8, 6, 10)
    expected = module(x)
    assert torch.equal(copy.deepcopy(module)(x), expected)
    assert torch.equal(pickle.loads(pickle.dumps(module))(x), expected)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(module(x).float(), expected, rtol=0.1, atol=0.1)
    for dtype in (torch.bfloat16, torch.float16):
        out = copy.deepcopy(module).to(dtype)(x.to(dtype))
        torch.testing.assert_close(out.float(), expected, rtol=0.1, atol=0.1)


@EACH
def test_it_is_traced_exported_and_written_as_onnx(make):
    module, x = make().eval(), torch.randn(1, 8, 6, 10)
    expected = module(x)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what the exporters deprecate in themselves
        torch.testing.assert_close(torch.jit.trace(module, x)(x), expected)
        torch.testing.assert_close(torch.export.export(module, (x,)).module()(x), expected)
        pytest.importorskip("onnx")
        written = io.BytesIO()
        torch.onnx.export(module, (x,), written, opset_version=17, dynamo=False)
    assert written.getvalue()


@pytest.mark.parametrize("what", [SPDConv, ADown, "spdconv", "adown", "maxpool-conv", "avgpool-conv"])
def test_it_takes_the_place_of_what_halves_an_image(what):
    model = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.SiLU(), nn.Conv2d(16, 24, 3, 2, 1), nn.Conv2d(24, 4, 1))
    changes = swap(model, "downsample2x", what, where="2")
    assert [change.shape_out for change in changes] == [(1, 24, 16, 16)]
    assert model(torch.zeros(1, 3, 32, 64)).shape == (1, 4, 8, 16)
