"""Adapters of others' operators: they arrange tensors as the peers document them, and appear only where installed.

The peers themselves are compiled for CUDA. Where one is missing, a stand-in takes its place that computes by the
documented layout and nothing else, so that what an adapter passes on is held to the relations here as well.
"""

import importlib.machinery
import importlib.util
import sys
from types import ModuleType

import pytest
import torch
from falsify import assert_holds

from opbench.conformance.strategies import noise
from opbench.operators import carafe
from opbench.operators.carafe.definition import reassembly
from opbench.operators.carafe.relations import RELATIONS as CARAFE_RELATIONS
from opbench.operators.dcnv2 import cores as dcnv2_cores
from opbench.operators.dcnv3 import cores as dcnv3_cores
from opbench.operators.dcnv3 import dcnv3
from opbench.operators.dcnv3.definition import dcnv3_definition
from opbench.operators.dcnv3.relations import RELATIONS as DCNV3_RELATIONS
from opbench.operators.dcnv4 import pack
from opbench.operators.external import dcnv4, internimage, peers
from opbench.operators.external import torchvision as adapter
from opbench.relations import Example, Space

# DCNv4's core is DCNv3's in another layout.
RELATIONS = {"carafe": CARAFE_RELATIONS, "dcnv3": DCNV3_RELATIONS, "dcnv4": DCNV3_RELATIONS}
SETTINGS = {"kernel_size": 3, "stride": 1, "pad": 1, "dilation": 1, "group": 2, "offset_scale": 1.5}
ADAPTERS = [(operator, name) for operator, adapters in peers.ADAPTERS.items() for name in adapters]


def as_dcnv3(operator, function):
    """A peer of DCNv4 with offsets and masks apart."""
    if operator != "dcnv4":
        return function
    return lambda x, offset, mask, **options: function(x, pack(offset, mask, options["group"]), **options)


def relation(operator, name):
    return next(relation for relation in RELATIONS[operator] if relation.name == name)


# --- The peers, where they are ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("operator", "name"), ADAPTERS)
@pytest.mark.parametrize("named", ["definition", "definition-gradients"])
def test_an_installed_peer_computes_the_definition(operator, name, named):
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    peer = peers.ADAPTERS[operator][name]
    if peer.missing():
        pytest.skip(peer.missing())
    device = "cuda" if peer.devices == ("cuda",) else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    assert_holds(relation(operator, named), as_dcnv3(operator, peer.function), Space("float32", device), number=20)


@pytest.mark.parametrize(("operator", "name"), ADAPTERS)
def test_an_adapter_is_offered_exactly_where_its_package_is_installed(operator, name):
    offered = {"carafe": peers.CARAFE_PEERS, "dcnv3": peers.DCNV3_PEERS, "dcnv4": peers.DCNV4_PEERS}
    assert (name in offered[operator]) == (importlib.util.find_spec(name) is not None)


def test_a_peer_that_is_installed_but_broken_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "DCNv3", None)
    reason = peers.ADAPTERS["dcnv3"]["DCNv3"].missing()
    assert reason.startswith("DCNv3 is installed but can't be imported: ")


# --- Stand-ins by the peers' documentation ----------------------------------------------------------------------


def module(monkeypatch, name, **members):
    made = ModuleType(name)
    made.__spec__ = importlib.machinery.ModuleSpec(name, None)
    made.__dict__.update(members)
    monkeypatch.setitem(sys.modules, name, made)


def dense(*tensors):
    assert all(tensor.is_contiguous() for tensor in tensors)


def by_definition(x, offset, mask, both, offset_scale, remove_center):
    """`both` are InternImage's arguments: kernel, stride, pad and dilation for either axis, group, channels each."""
    kernel, stride, pad, dilation = both[0:8:2]
    assert both[0:8:2] == both[1:8:2]
    assert both[8] * both[9] == x.shape[-1]
    assert isinstance(offset_scale, float)
    settings = {"kernel_size": kernel, "stride": stride, "pad": pad, "dilation": dilation, "group": both[8]}
    return dcnv3_definition(x, offset, mask, **settings, offset_scale=offset_scale, remove_center=remove_center)


@pytest.fixture
def mmcv(monkeypatch):
    def carafe(features, masks, kernel_size, group_size, scale_factor):
        dense(features, masks)
        return reassembly(features, masks, kernel_size=kernel_size, group_size=group_size, scale_factor=scale_factor)

    module(monkeypatch, "mmcv")
    module(monkeypatch, "mmcv.ops", carafe=carafe)


@pytest.fixture
def torchvision(monkeypatch):
    def deform_conv2d(input, offset, weight, *, stride, padding, dilation, mask):
        dense(input, offset, weight, mask)
        assert offset.isfinite().all(), "it would be cast to an integer"
        taps = weight.shape[2] * weight.shape[3]
        full = torch.eye(input.shape[1], dtype=weight.dtype).view(*input.shape[1:2] * 2, 1, 1) * weight.transpose(0, 1)
        settings = {"stride": stride, "pad": padding, "dilation": dilation, "group": mask.shape[1] // taps}
        return dcnv2_cores.gather(input, offset, mask, full, **settings)

    module(monkeypatch, "torchvision")
    module(monkeypatch, "torchvision.ops", deform_conv2d=deform_conv2d)


@pytest.fixture
def official(monkeypatch):
    def forward(x, offset, mask, *arguments):
        dense(x, offset, mask)
        *both, offset_scale, images_at_once, remove_center = arguments
        assert x.shape[0] % images_at_once == 0
        return by_definition(x, offset, mask, both, offset_scale, remove_center)

    def backward(x, offset, mask, *arguments):
        *both, offset_scale, grad, _images_at_once, remove_center = arguments
        dense(grad)
        with torch.enable_grad():
            leaves = [tensor.detach().requires_grad_() for tensor in (x, offset, mask)]
            out = by_definition(*leaves, both, offset_scale, remove_center)
            return torch.autograd.grad(out, leaves, grad)

    module(monkeypatch, "DCNv3", dcnv3_forward=forward, dcnv3_backward=backward)
    monkeypatch.setattr(internimage.importlib.metadata, "version", lambda name: "1.1")


@pytest.fixture
def v4(monkeypatch):
    class DCNv4Function:
        @staticmethod
        def apply(x, packed, *arguments):
            *both, offset_scale, _images_at_once, remove_center = arguments
            dense(x, packed)
            assert packed.shape[-1] % 8 == 0
            group, points = both[8], both[0] ** 2 - remove_center
            kept = packed[..., : 3 * group * points].unflatten(-1, (group, -1))
            offset, mask = (part.flatten(-2) for part in kept.split((2 * points, points), -1))
            return by_definition(x, offset, mask, both, offset_scale, bool(remove_center))

    module(monkeypatch, "DCNv4")
    module(monkeypatch, "DCNv4.functions", DCNv4Function=DCNv4Function)


STAND_INS = {"mmcv": "mmcv", "torchvision": "torchvision", "DCNv3": "official", "DCNv4": "v4"}


@pytest.mark.parametrize(("operator", "name"), ADAPTERS)
@pytest.mark.parametrize("named", ["definition-gradients", "layouts"])
def test_what_an_adapter_passes_on_is_the_same_function(operator, name, named, request):
    request.getfixturevalue(STAND_INS[name])
    # DCNv4 takes multiples of 16 channels a group.
    fixed = {"C": 32, "group": 2} if name == "DCNv4" else {}
    core = as_dcnv3(operator, peers.ADAPTERS[operator][name].function)
    assert_holds(relation(operator, named), core, Space("float64", fixed=fixed), number=10)


def call(channels=4, **changes):
    options = {**SETTINGS, "remove_center": False, **changes}
    points = options["group"] * (9 - options["remove_center"])
    tensors = {"x": noise((1, 4, 5, channels), 0), "offset": noise((1, 4, 5, 2 * points), 1)}
    return Example({**tensors, "mask": noise((1, 4, 5, points), 2)}, options)


@pytest.mark.usefixtures("torchvision")
def test_torchvision_is_never_passed_an_offset_that_is_no_number():
    example = call()
    offset = example.tensors["offset"].clone()
    offset[0, 0, 0, :4] = torch.tensor([torch.nan, torch.inf, -torch.inf, 1e30])
    example = example.replace(offset=offset)
    got = adapter.dcnv3(**example.tensors, **example.options)
    torch.testing.assert_close(got, dcnv3(**example.tensors, **example.options, implementation="gather"))


@pytest.mark.usefixtures("official")
def test_the_first_version_of_the_official_extension_has_no_remove_center(monkeypatch):
    monkeypatch.setattr(internimage.importlib.metadata, "version", lambda name: "1.0")
    example = call(remove_center=True)
    with pytest.raises(ValueError, match="remove_center"):
        internimage.dcnv3(**example.tensors, **example.options)


def test_dcnv4_refuses_channels_that_its_kernel_does_not_take():
    example = call()
    with pytest.raises(ValueError, match="group: DCNv4 works on multiples of 16"):
        dcnv4.dcnv3(**example.tensors, **example.options)


@pytest.mark.parametrize("cores", [carafe.IMPLEMENTATIONS, dcnv3_cores.CORES])
def test_a_peer_is_never_chosen_by_auto(cores):
    assert not {name for _, name in ADAPTERS} & {*cores.automatic, cores.export}
