"""Every core and module goes through torch.compile in one graph and computes there what it computes eagerly.

The backend runs the captured graphs, forward and backward, without generating code: what is tested is that nothing
breaks a graph and that shapes, aliasing and gradients survive the capture.
"""

import pytest
import torch

from opbench.conformance.strategies import noise
from opbench.operators.carafe import CARAFE, IMPLEMENTATIONS, YoloCARAFE, carafe
from opbench.operators.dcnv3 import CORES, DCNv3, DCNV3_YoLo, dcnv3

# Of torch's own tracing of autograd functions.
pytestmark = pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")

CARAFES = [
    name for name, it in IMPLEMENTATIONS.items() if not it.compiles and "cpu" in it.devices and it.missing() is None
]
DCNV3S = [name for name, it in CORES.items() if not it.compiles and "cpu" in it.devices and it.missing() is None]
MODULES = {
    "carafe": (lambda: CARAFE(8, up_kernel=3, up_group=2, compressed_channels=4), (2, 8, 5, 4)),
    "yolo-carafe": (lambda: YoloCARAFE(8, 3, 5, 4, 2), (2, 8, 5, 4)),
    "dcnv3": (lambda: DCNv3(8, group=2, center_feature_scale=True), (2, 5, 4, 8)),
    "yolo-dcnv3": (lambda: DCNV3_YoLo(8, 6, k=3, g=2), (2, 8, 5, 4)),
}


@pytest.fixture(autouse=True)
def forgotten():
    """Graphs of one test are nothing to the next."""
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def results(function, *tensors):
    """Output and gradients."""
    leaves = [tensor.detach().requires_grad_() for tensor in tensors]
    out = function(*leaves)
    return out.detach(), *torch.autograd.grad(out, leaves, noise(tuple(out.shape), 9).to(out))


def assert_the_same(function, *tensors):
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    for got, expected in zip(results(compiled, *tensors), results(function, *tensors), strict=True):
        torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("name", CARAFES)
def test_a_carafe_core_is_one_graph(name):
    settings = {"kernel_size": 3, "group_size": 2, "scale_factor": 2, "implementation": name}
    x, mask = noise((2, 4, 3, 5), 0).float(), noise((2, 18, 6, 10), 1).float()
    assert_the_same(lambda x, mask: carafe(x, mask, **settings), x, mask)


@pytest.mark.parametrize("name", DCNV3S)
def test_a_dcnv3_core_is_one_graph(name):
    settings = {"kernel_size": 3, "pad": 1, "group": 2, "offset_scale": 1.5, "implementation": name}
    x, offset, mask = noise((2, 5, 4, 6), 0), noise((2, 5, 4, 36), 1), noise((2, 5, 4, 18), 2)
    assert_the_same(lambda *tensors: dcnv3(*tensors, **settings), x.float(), offset.float(), mask.float())


@pytest.mark.parametrize("name", MODULES)
def test_a_module_is_one_graph(name):
    made, shape = MODULES[name]
    torch.manual_seed(0)
    module = made().eval()
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    assert_the_same(module, noise(shape, 0).float())
