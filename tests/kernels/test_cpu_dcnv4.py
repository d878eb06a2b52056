"""DCNv4's sampling on the CPU is DCNv3's kernel on the parts of the packed layout, bit for bit."""

import pytest
import torch
from torch.library import opcheck

from opbench.kernels.cpu.dcnv3 import dcnv3_cpu
from opbench.kernels.cpu.dcnv4 import dcnv4_cpu
from opbench.kernels.dcnv4_packed import pack, unpack

CALL = {"kernel_size": 3, "stride": 1, "pad": 1, "dilation": 1, "group": 2, "offset_scale": 1.0, "remove_center": False}


def drawn(n, h, w, depth, call, dtype=torch.float32):
    """x, offset_mask whose padding is NaN, and the output's gradient."""
    group, points = call["group"], call["kernel_size"] ** 2 - call["remove_center"]
    generator = torch.Generator().manual_seed(0)
    x, grad = torch.randn(2, n, h, w, group * depth, generator=generator)
    packed = pack(
        2 * torch.randn(n, h, w, group * points * 2, generator=generator),
        torch.randn(n, h, w, group * points, generator=generator),
        group,
    )
    packed[..., 3 * group * points :] = torch.nan
    return x.to(dtype), packed.to(dtype), grad.to(dtype)


def results(core, x, offset_mask, grad, **call):
    leaves = [t.detach().requires_grad_() for t in (x, offset_mask)]
    out = core(*leaves, **call)
    return out.detach(), *torch.autograd.grad(out, leaves, grad)


def apart(x, offset_mask, **call):
    offset, mask = unpack(offset_mask, call["group"], call["kernel_size"] ** 2 - call["remove_center"])
    return dcnv3_cpu(x, offset, mask, **call)


@pytest.mark.parametrize(
    ("dtype", "shape", "changes"),
    [
        (torch.float32, (2, 5, 70, 16), {}),
        (torch.float32, (1, 4, 6, 16), {"group": 40}),
        (torch.float64, (1, 3, 9, 3), {"group": 5, "remove_center": True}),
        (torch.bfloat16, (2, 6, 7, 48), {"group": 1, "kernel_size": 5, "pad": 2}),
        (torch.float16, (1, 4, 5, 16), {"group": 3}),
    ],
)
def test_it_is_dcnv3_s_kernel_on_the_parts(dtype, shape, changes):
    call = {**CALL, **changes}
    inputs = drawn(*shape, call, dtype)
    got, expected = results(dcnv4_cpu, *inputs, **call), results(apart, *inputs, **call)
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))
    assert got[2].dtype == dtype


@pytest.mark.parametrize("how", ["slice", "every other", "channels-first"])
def test_strides_change_nothing(how):
    x, offset_mask, grad = drawn(2, 5, 9, 16, CALL)
    n, h, w, c = offset_mask.shape
    elsewhere = {
        "slice": lambda: torch.zeros(n + 1, h, w + 3, c + 5)[1:, :, 2:-1, 3:-2],
        "every other": lambda: torch.zeros(n, h, w, 2 * c)[..., ::2],
        "channels-first": lambda: torch.zeros(n, c, h, w).permute(0, 2, 3, 1),
    }[how]().copy_(offset_mask)
    expected = results(dcnv4_cpu, x, offset_mask, grad, **CALL)
    got = results(dcnv4_cpu, x, elsewhere, grad, **CALL)
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))


@pytest.mark.parametrize("number", [2, 3, 8, 64])
def test_every_number_of_threads_gives_the_same_bits(threads, number):
    inputs = drawn(2, 11, 13, 16, CALL)
    threads(1)
    expected = results(dcnv4_cpu, *inputs, **CALL)
    threads(number)
    got = results(dcnv4_cpu, *inputs, **CALL)
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))


def test_empty_batches_and_the_gradients_asked_for():
    x, offset_mask, grad = drawn(0, 3, 4, 4, CALL)
    assert [tuple(t.shape) for t in results(dcnv4_cpu, x, offset_mask, grad, **CALL)] == [
        (0, 3, 4, 8), (0, 3, 4, 8), (0, 3, 4, 56),
    ]  # fmt: skip
    x, offset_mask, grad = drawn(1, 3, 4, 4, CALL)
    backward = torch.ops.opbench.dcnv4_cpu_backward
    every = backward(grad, x, offset_mask, *CALL.values(), [True, True])
    for wanted in ([True, False], [False, True]):
        for asked, a, b in zip(wanted, backward(grad, x, offset_mask, *CALL.values(), wanted), every, strict=True):
            assert torch.equal(a, b) if asked else a.numel() == 0


def test_the_operations_keep_torchs_rules():
    x, offset_mask, grad = drawn(1, 4, 5, 8, CALL)
    offset_mask = offset_mask.nan_to_num(0)
    leaves = [t.clone().requires_grad_() for t in (x, offset_mask)]
    opcheck(torch.ops.opbench.dcnv4_cpu.default, (*leaves, *CALL.values()))
    backward = torch.ops.opbench.dcnv4_cpu_backward.default
    opcheck(backward, (grad, x, offset_mask, *CALL.values(), [True, True]), test_utils="test_faketensor")


def test_inputs_that_do_not_fit_together_are_refused():
    x, offset_mask, _ = drawn(1, 4, 5, 8, CALL)
    with pytest.raises(ValueError, match="with M >= 54"):
        dcnv4_cpu(x, offset_mask[..., :53], **CALL)
    with pytest.raises(ValueError, match=r"expected \(1, 4, 5, 36\)"):
        dcnv4_cpu(x, offset_mask[:, :, 1:], **CALL)
    with pytest.raises(TypeError, match="one floating dtype"):
        dcnv4_cpu(x, offset_mask.double(), **CALL)
    with torch.autograd.forward_ad.dual_level(), pytest.raises(NotImplementedError, match="forward-mode"):
        dcnv4_cpu(torch.autograd.forward_ad.make_dual(x, x), offset_mask, **CALL)
