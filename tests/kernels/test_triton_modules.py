"""CARAFE's and DCNv3's modules take the Triton kernels from logits where a device has them (interpreted)."""

import pytest
import torch

from opbench.kernels.triton.carafe import carafe_triton
from opbench.kernels.triton.dcnv3 import dcnv3_triton
from opbench.operators.carafe import CARAFE, YoloCARAFE
from opbench.operators.carafe.implementations import IMPLEMENTATIONS
from opbench.operators.dcnv3 import DCNv3, DCNV3_YoLo
from opbench.operators.dcnv3.module import ChannelsFirstDCNv3

# How each is made: by the implementation that the kernels have, and by one in plain torch operations.
MODULES = {
    "carafe": lambda core: CARAFE(4, 2, 3, up_group=2, compressed_channels=3, implementation=core),
    "yolo-carafe": lambda core: YoloCARAFE(4, k_up=3, c_mid=3, implementation=core),
    "dcnv3": lambda core: ChannelsFirstDCNv3(4, group=2, center_feature_scale=True, implementation=core),
    "yolo-dcnv3": lambda core: DCNV3_YoLo(4, 4, k=3, g=2, implementation=core),
}
PLAIN = {"carafe": "unfold", "yolo-carafe": "unfold", "dcnv3": "gather", "yolo-dcnv3": "gather"}


def watching():
    """A mode that keeps the names of the operations inside."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Watch(TorchDispatchMode):
        def __init__(self):
            super().__init__()
            self.names = []

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            self.names.append(func.name())
            return func(*args, **(kwargs or {}))

    return Watch()


def drawn(name, core, dtype):
    """A module whose offsets and masks aren't all alike, and its input."""
    torch.manual_seed(0)
    module = MODULES[name](core).to(dtype)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel())))
            parameter.mul_(0.5)
    return module.train(), torch.randn(1, 4, 3, 4, generator=torch.Generator().manual_seed(1)).to(dtype)


def results(module, x):
    """Output, and the gradients of the input and of every parameter."""
    x = x.clone().requires_grad_()
    out = module(x)
    grad = torch.randn(out.shape, generator=torch.Generator().manual_seed(2)).to(out.dtype)
    return [out.detach(), *torch.autograd.grad(out, [x, *module.parameters()], grad)]


def computes_the_same(name, logits, masks):
    core = carafe_triton if "carafe" in name else dcnv3_triton
    module, x = drawn(name, core, torch.float64)
    watch = watching()
    with watch:
        got = results(module, x)
    assert logits in watch.names, watch.names
    assert f"{logits}_backward" in watch.names, watch.names
    assert masks not in watch.names, "the mask is never made"
    assert not any("softmax" in one for one in watch.names), watch.names
    plain, x = drawn(name, PLAIN[name], torch.float64)
    for a, b in zip(got, results(plain, x), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", MODULES)
def test_a_module_by_the_kernels_from_logits_is_the_module(interpreted, name):
    operation = "opbench::carafe_triton" if "carafe" in name else "opbench::dcnv3_triton"
    interpreted(computes_the_same, name, f"{operation}_logits", operation)


def meets_autocast(name):
    core = carafe_triton if "carafe" in name else dcnv3_triton
    module, x = drawn(name, core, torch.float32)
    plain, _ = drawn(name, PLAIN[name], torch.float32)
    with torch.no_grad():
        expected = plain(x)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            got = module(x)
    torch.testing.assert_close(got.float(), expected, rtol=0.1, atol=0.1)


@pytest.mark.parametrize("name", ["yolo-carafe", "dcnv3"])
def test_under_autocast_too(interpreted, name):
    interpreted(meets_autocast, name)


def chosen(implementation, device):
    return IMPLEMENTATIONS.choose(implementation, device)


def test_where_there_is_a_device_auto_takes_them_and_nothing_else_does(monkeypatch):
    pytest.importorskip("triton", reason="triton is not installed")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert chosen("auto", "cuda") is carafe_triton
    assert chosen("triton", "cuda") is carafe_triton
    for implementation, device in (("auto", "cpu"), ("unfold", "cuda"), (lambda *tensors, **settings: None, "cuda")):
        assert chosen(implementation, device) is not carafe_triton


def test_a_core_of_ones_own_is_called_with_offset_and_mask():
    seen = []

    def core(x, offset, mask, **settings):
        seen.append(mask)
        return x

    DCNv3(4, group=2, implementation=core)(torch.randn(1, 3, 3, 4))
    torch.testing.assert_close(seen[0].unflatten(3, (2, 9)).sum(4), torch.ones(1, 3, 3, 2))
