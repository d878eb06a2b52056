"""Lines of ultralytics' YAML as write-ups and forks have them: understood, or refused with the right one."""

import copy
import pickle
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from opbench import registry
from opbench.models import register_ultralytics, ultralytics_names
from opbench.models.ultralytics_block import UnfusedConv
from opbench.models.ultralytics_names import named
from opbench.operators.carafe import CARAFE, YoloCARAFE
from opbench.operators.carafe_downsample import CARAFEDownsample
from opbench.operators.dcnv2 import DCNv2
from opbench.operators.dcnv3 import DCNV3_YoLo
from opbench.operators.gsconv import GSConv, VoVGSCSP
from opbench.operators.hwd import HWD
from opbench.operators.spdconv import SpaceToDepth, SPDConv
from opbench.schema import OpbenchError

WIDE = 128


@pytest.fixture
def parsed(tasks):
    """What a line makes behind a layer of 128 channels (512 in a network a quarter as wide), and all layers."""
    register_ultralytics()

    def parse(name, arguments, n=1, width=0.25):
        lines = [[-1, 1, "Conv", [512, 1]], [-1, n, name, arguments], [-1, 1, "Conv", [64, 1]]]
        described = {"nc": 1, "scales": {"n": [1.0, width, 1024]}, "scale": "n", "backbone": lines, "head": []}
        torch.manual_seed(0)
        layers, _ = tasks.parse_model(copy.deepcopy(described), 3, verbose=False)
        assert layers.eval()(torch.rand(1, 3, 16, 16)).shape[1] == 64 * width
        return layers[1]

    return parse


UPSAMPLERS = {
    "CARAFE": YoloCARAFE,
    "carafe": YoloCARAFE,
    "Carafe": YoloCARAFE,
    "CARAFE_YOLO": YoloCARAFE,
    "YoloCARAFE": YoloCARAFE,
    "CARAFEPack": CARAFE,
}


@pytest.mark.parametrize("name", UPSAMPLERS)
def test_an_upsampler_has_several_spellings(parsed, name):
    made = parsed(name, [])
    assert type(made) is UPSAMPLERS[name]
    assert (made.type, made.i, made.f) == (name, 1, -1)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], (3, 5, 2)),
        ([1, 3, 4], (1, 3, 2)),
        ([3, 5, 64, 4], (3, 5, 4)),
        ([2], (3, 5, 2)),
        ([4, 5], (3, 5, 4)),
        ([2, 5, 3, 32], (3, 5, 2)),
        ([2, 3, 5, 32], (3, 5, 2)),
        ([512], (3, 5, 2)),
        ([128, 3, 5, 64, 2], (3, 5, 2)),
        ([512, 2], (3, 5, 2)),
        ([None, 2, "nearest"], (3, 5, 2)),
        (["None", 2, "nearest"], (3, 5, 2)),
    ],
)
def test_the_arguments_of_a_carafe_line_are_understood_by_meaning(parsed, arguments, expected):
    made = parsed("CARAFE", arguments)
    assert made.c == WIDE
    assert (made.enc.conv.kernel_size[0], made.k_up, made.scale) == expected


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([256], r"CARAFE, \[256\]: the channels are those of the layer it reads, 128: \[-1, 1, CARAFE, \[\]\]"),
        ([3, 5, 64, 2, 1], r"expected at most k_enc, k_up, c_mid, scale"),
        ([None, 2], r"the channels are those of the layer it reads"),
        ([3, 4], r"k_up.*after the channels: k_enc, k_up, c_mid, scale"),
    ],
)
def test_what_a_carafe_line_can_not_mean_is_refused_with_the_right_one(parsed, arguments, said):
    with pytest.raises(OpbenchError, match=said):
        parsed("CARAFE", arguments)


@pytest.mark.parametrize("name", ["DCNv3", "DCNV3", "dcnv3", "DCNv3_YOLO", "DCNV3_YoLo", "DCNV3_YOLO"])
def test_dcnv3_is_the_write_ups_block_in_every_spelling(parsed, name):
    made = parsed(name, [256, 3, 2, None, 4])
    assert type(made) is DCNV3_YoLo
    assert (made.conv.conv.in_channels, made.dcnv3.channels, made.dcnv3.group) == (WIDE, 64, 4)
    assert len(parsed(name, [512, 3], n=3)) == 3


@pytest.mark.parametrize("wrapper", ["C2f", "C3", "C2", "C3k2", "Bottleneck"])
@pytest.mark.parametrize("name", ["DCNv3", "DCN"])
def test_a_block_holds_any_operator_in_the_second_convolution_of_its_bottlenecks(parsed, wrapper, name):
    made = parsed(f"{wrapper}_{name}", [256, True], n=1 if wrapper == "Bottleneck" else 2)
    kinds = [module for module in made.modules() if type(module).__name__ == "Bottleneck"]
    assert len(kinds) == {"C2f": 2, "C3": 2, "C2": 2, "C3k2": 4, "Bottleneck": 1}[wrapper]
    for bottleneck in kinds:
        if name.upper() == "DCNV3":
            assert type(bottleneck.cv2) is DCNV3_YoLo
        else:
            assert type(bottleneck.cv2) is UnfusedConv, "its norm and activation stay"
            assert type(bottleneck.cv2.conv) is DCNv2
            assert bottleneck.cv2.conv.implementation == "auto", "it chooses its core where it runs"
    assert type(pickle.loads(pickle.dumps(made))) is type(made)


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("C2f_DCNV3", [512, True, 3], r"have 64 channels inside, which 3 groups don't divide: g=2 would"),
        ("C2f_DCNv3", [512, 4, True], r"expected \[channels, shortcut=False, g=1, e=0.5\], got shortcut=4"),
        ("C3k2_DCNv3", [512, 0.25, False], r"expected \[channels, c3k=False, e=0.5, attn=False, g=1, .* got c3k=0.25"),
        ("C2f_DCNv3", [], r"expected the channels it makes first, as in C2f_DCNv3, \[256\]"),
        ("DCNv3", [True, 3], r"expected the channels it makes first"),
        ("DCNv3", [256, 3, 1, None, 1, 1, True, 9], r"expected at most \[channels, k, s, p, g, d, act\]"),
        ("DCNv3", [256, 3, 1, None, 7], r"DCNv3, .*7.*after the channels: k, s, p, g, d, act"),
        ("DCNv3", [256, 4], r"even|odd"),
    ],
)
def test_a_line_that_can_not_work_says_what_would(parsed, name, arguments, said):
    with pytest.raises(OpbenchError, match=said):
        parsed(name, arguments)


def test_a_name_of_the_packages_own_stays_its_own(parsed, tasks):
    assert type(parsed("ADown", [256])) is tasks.ADown
    with pytest.raises(KeyError, match="Nobody"):
        parsed("Nobody", [256])


# --- Operators of every signature that published modules have ---------------------------------------------------------


class Framed(nn.Module):
    """(in, out, kernel_size, stride, padding): padding 0 unless given."""

    def __init__(self, in_planes, out_planes, kernel_size, stride=1, padding=0, groups=1):
        super().__init__()
        self.conv = nn.Conv2d(in_planes, out_planes, kernel_size, stride, padding, groups=groups)

    def forward(self, x):
        return self.conv(x)


class Sampled(nn.Module):
    """(inc, outc, num_param, stride, bias) with a norm of its own."""

    def __init__(self, inc, outc, num_param, stride=1, bias=None):
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(inc, outc, 1, stride), nn.BatchNorm2d(outc), nn.SiLU())

    def forward(self, x):
        return self.conv(x)


class Partial(nn.Module):
    """(dim, n_div): it keeps its channels."""

    def __init__(self, dim, n_div=4):
        super().__init__()
        self.conv, self.n_div = nn.Conv2d(dim, dim, 3, padding=1), n_div

    def forward(self, x):
        return self.conv(x)


class Halving(nn.Module):
    """(inc, ouc, dimension, *, k): it halves, whatever it is told."""

    def __init__(self, inc, ouc, dimension=1, *, k=3):
        super().__init__()
        self.conv = nn.Conv2d(inc, ouc, k, 2, k // 2)

    def forward(self, x):
        return self.conv(x)


class Shuffled(nn.Module):
    """(in_channels, out_channels, kernel_size): an upsampler of two numbers of channels."""

    def __init__(self, in_channels, out_channels, kernel_size=3):
        super().__init__()
        self.up, self.conv = nn.Upsample(scale_factor=2), nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x):
        return self.conv(self.up(x))


def declared(kind, task, alias=""):
    like = next(iter(registry.operators(task).values()))
    return SimpleNamespace(
        name=kind.__name__.lower(),
        task=task,
        classes=(kind,),
        aliases=(alias,) if alias else (),
        given=like.given,
        requires=lambda dims: None,
        module=lambda dims, implementation: kind(dims["C"], *([dims["C"], 9] if kind is Sampled else [])),
        implementations=like.implementations,
        preferred=(),
    )


@pytest.fixture
def others(monkeypatch):
    """Operators that exist in this test alone."""
    found = {
        "conv3x3": [declared(Framed, "conv3x3"), declared(Sampled, "conv3x3"), declared(Partial, "conv3x3", "PConv")],
        "downsample2x": [declared(Halving, "downsample2x", "SPD_Conv")],
        "upsample2x": [declared(Shuffled, "upsample2x")],
    }
    known = {
        ultralytics_names._normal(name): one
        for operators in found.values()
        for one in operators
        for name in (one.classes[0].__name__, *one.aliases)
    }
    real = ultralytics_names._known
    monkeypatch.setattr(ultralytics_names, "_known", lambda: {**real(), **known})


@pytest.mark.usefixtures("others")
@pytest.mark.parametrize(
    ("name", "arguments", "kind", "shape"),
    [
        ("Framed", [256, 3, 2], Framed, (64, 8)),
        ("Framed2d", [256, 3], Framed, (64, 16)),
        ("Sampled", [256, 3, 2], Sampled, (64, 8)),
        ("PConv", [512], Partial, (128, 16)),
        ("Partial", [512, 2], Partial, (128, 16)),
        ("SPDConv", [256], Halving, (64, 8)),
        ("SPDConv", [256, 1], Halving, (64, 8)),
        ("SPDConv", [256, 1, 2], Halving, (64, 8)),
        ("SPDConv", [256, 3, 2, 1], Halving, (64, 8)),
        ("Shuffled_UP", [], Shuffled, (128, 32)),
        ("Shuffled", [512], Shuffled, (128, 32)),
        ("C2f_Sampled", [256, True], Sampled, (64, 16)),
        ("C3k2_Framed", [256, True], Framed, (64, 16)),
        ("C3_PConv", [256], Partial, (64, 16)),
    ],
)
def test_any_published_signature_makes_a_line(parsed, name, arguments, kind, shape):
    made = parsed(name, arguments)
    assert any(isinstance(module, kind) for module in made.modules())
    assert made.eval()(torch.rand(1, WIDE, 16, 16)).shape[1:3] == shape
    wrapped = [part for part in made.modules() if type(part).__name__ == "Bottleneck"]
    assert all((type(one.cv2) is Sampled) == (kind is Sampled) for one in wrapped)


@pytest.mark.usefixtures("others")
def test_what_an_operator_can_not_is_said(parsed):
    with pytest.raises(OpbenchError, match=r"it keeps its channels, got 128 and 64: put a line \[-1, 1, Conv, \[64, 1"):
        parsed("PConv", [256])
    with pytest.raises(OpbenchError, match=r"partial has no groups, got g=2"):
        parsed("C2f_PConv", [256, True, 2])
    with pytest.raises(OpbenchError, match=r"partial keeps its channels, got 32 and 64: give e=1.0"):
        parsed("Bottleneck_PConv", [256])
    with pytest.raises(OpbenchError, match=r"Sampled.*num_param"):
        parsed("Sampled", [256])


@pytest.mark.parametrize("name", ["space_to_depth", "SPD", "SpaceToDepth"])
@pytest.mark.parametrize("arguments", [[1], []])
def test_space_to_depth_makes_four_times_the_channels_that_it_reads(parsed, name, arguments):
    made = parsed(name, arguments)
    assert (type(made), made.f, made.type) == (SpaceToDepth, -1, name)
    assert made(torch.rand(1, WIDE, 16, 16)).shape == (1, 4 * WIDE, 8, 8)


def test_space_to_depth_reads_an_earlier_layer_once(tasks):
    register_ultralytics()
    lines = [[-1, 1, "Conv", [8, 1]], [-1, 1, "Conv", [16, 1]], [-2, 1, "space_to_depth", [1]], [-1, 1, "Conv", [4, 1]]]
    layers, saved = tasks.parse_model({"nc": 1, "backbone": lines, "head": []}, 3, verbose=False)
    assert (layers[2].f, layers[3].conv.in_channels) == (-2, 32)
    assert set(saved) == {0}
    with pytest.raises(OpbenchError, match=r"space_to_depth: expected it once, as in \[-1, 1, space_to_depth, \[1\]\]"):
        tasks.parse_model({"nc": 1, "backbone": [[-1, 3, "space_to_depth", [1]]], "head": []}, 3, verbose=False)


@pytest.mark.parametrize(
    ("name", "arguments", "kind", "k"),
    [
        *(
            ("SPDConv", given, SPDConv, k)
            for given, k in (([256], 3), ([256, 3, 2], 3), ([256, 1, 1], 1), ([256, 5], 5))
        ),
        ("SPDConv", [256, 1], SPDConv, 3),
        ("SPD", [256], SPDConv, 3),
        ("SPD_Conv", [256], SPDConv, 3),
        ("HWD", [256], HWD, 1),
        ("HWD", [256, 3, 1, 1], HWD, 3),
        ("HWD", [256, 1, 1, 0], HWD, 1),
        ("Down_wt", [256], HWD, 1),
        ("CARAFE_Down", [512], CARAFEDownsample, 5),
    ],
)
def test_what_halves_has_the_lines_of_forks(parsed, name, arguments, kind, k):
    made = parsed(name, arguments)
    assert type(made) is kind
    assert made.eval()(torch.rand(1, WIDE, 16, 16)).shape == (1, 64 if arguments[0] == 256 else WIDE, 8, 8)
    if kind is not CARAFEDownsample:
        assert next(one for one in made.modules() if isinstance(one, nn.Conv2d)).kernel_size == (k, k)


@pytest.mark.parametrize(("arguments", "k", "s"), [([256, 1, 1], 1, 1), ([256, 3, 2], 3, 2), ([256], 1, 1)])
def test_gsconv_has_the_lines_of_forks(parsed, arguments, k, s):
    made = parsed("GSConv", arguments)
    assert type(made) is GSConv
    assert (made.cv1.conv.kernel_size, made.cv1.conv.stride) == ((k, k), (s, s))


@pytest.mark.parametrize(
    ("arguments", "e"), [([256], 0.5), ([256, False], 0.5), ([256, True, 1, 1.0], 1.0), ([256, 0.25], 0.25)]
)
def test_the_repeats_of_a_vovgscsp_line_are_its_bottlenecks(parsed, arguments, e):
    made = parsed("VoVGSCSP", arguments, n=3)
    assert type(made) is VoVGSCSP
    assert (made.c1, len(made.gsb), made.cv1.conv.out_channels) == (WIDE, 3, 64 * e)
    assert len(parsed("VoVGSCSP", arguments).gsb) == 1


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("VoVGSCSP", [256, False, 1, 0.5, 9], r"VoVGSCSP, .*expected at most \[channels, shortcut, g, e\]"),
        ("VoVGSCSP", [256, False, 2], r"expected g=1, because nothing in it is grouped by it, got 2"),
        ("HWD", [256, 3, 4], r"HWD, .*expected at most \[channels, nothing\]"),
        ("SPDConv", [], r"expected the channels it makes first, as in SPDConv, \[256\]"),
    ],
)
def test_what_such_a_line_can_not_mean_is_refused(parsed, name, arguments, said):
    with pytest.raises(OpbenchError, match=said):
        parsed(name, arguments)


def test_every_operator_with_a_class_has_its_name_as_a_line():
    for task in ("upsample2x", "conv3x3", "downsample2x"):
        for operator in registry.operators(task).values():
            for kind in operator.classes:
                assert named(kind.__name__) is not None
            for alias in operator.aliases:
                assert named(alias).operator.classes == operator.classes
