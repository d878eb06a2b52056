"""DCNv3's definition against its formula by loops, and against examples worked out by hand."""

from unittest.mock import patch

import pytest
import torch
from formulas_by_loops import dcnv3_by_loops
from hypothesis import given
from sampling_cases import FEW, calls, one_hot_mask

from opbench.operators.dcnv3 import definition
from opbench.operators.dcnv3.definition import dcnv3_definition

BOTH = pytest.mark.parametrize("definition", [dcnv3_definition, dcnv3_by_loops])
PLAIN = {"kernel_size": 3, "stride": 1, "pad": 1, "dilation": 1, "group": 1}
POINT = {"kernel_size": 1, "stride": 1, "pad": 0, "dilation": 1, "group": 1}


def image(rows):
    return torch.tensor(rows, dtype=torch.float64)[None, :, :, None]


def plane(values):
    return values[0, :, :, 0].tolist()


@FEW
@given(call=calls(largest=4, largest_kernel=3))
def test_the_vectorised_definition_equals_the_loops_however_many_points_are_computed_at_once(call):
    x, offset, mask, _ = call.tensors()
    expected = dcnv3_by_loops(x, offset, mask, **call.settings)
    for points in (1, 4, 9):
        with patch.object(definition, "TOGETHER", points * expected.numel()):
            got = dcnv3_definition(x, offset, mask, **call.settings)
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


@BOTH
@pytest.mark.parametrize(
    ("point", "expected"),
    [
        (0, [[0, 0, 0], [0, 1, 2], [0, 4, 5]]),  # (dx, dy) = (-1, -1)
        (1, [[0, 1, 2], [0, 4, 5], [0, 7, 8]]),  # (-1, 0): x is the outer axis of the points
        (3, [[0, 0, 0], [1, 2, 3], [4, 5, 6]]),  # (0, -1)
        (4, [[1, 2, 3], [4, 5, 6], [7, 8, 9]]),
        (5, [[4, 5, 6], [7, 8, 9], [0, 0, 0]]),  # (0, 1)
        (8, [[5, 6, 0], [8, 9, 0], [0, 0, 0]]),
    ],
)
def test_point_p_of_the_window_reads_the_pixel_at_its_step(definition, point, expected):
    x = image([[1, 2, 3], [4, 5, 6], [7, 8, 9]])
    out = definition(x, x.new_zeros(1, 3, 3, 18), one_hot_mask(x, point, 9), **PLAIN)
    assert plane(out) == expected


@BOTH
def test_an_offset_pair_is_x_then_y(definition):
    x = image([[1, 2], [3, 5]])
    offset = x.new_tensor([0.25, 0.5]).expand(1, 2, 2, 2)
    out = definition(x, offset, torch.ones_like(x), **POINT)
    # (0, 0): rows 0.75*1 + 0.25*2 = 1.25 and 0.75*3 + 0.25*5 = 3.5, half of each. Outside is zero.
    assert plane(out) == [[2.375, (0.75 * 2 + 0.75 * 5) / 2], [3.5 / 2, 0.75 * 5 / 2]]


@BOTH
def test_offset_scale_scales_the_window_too(definition):
    x = image([[1, 2, 3, 4, 5]])
    out = definition(x, x.new_zeros(1, 1, 5, 18), one_hot_mask(x, 1, 9), **PLAIN, offset_scale=2.0)
    assert plane(out) == [[0, 0, 1, 2, 3]]


@BOTH
def test_an_even_window_reaches_right_and_down(definition):
    x = image([[1, 2, 3], [4, 5, 6], [7, 8, 9]])
    settings = {**PLAIN, "kernel_size": 2, "pad": 0}
    mask = one_hot_mask(x, 1, 4)[:, :2, :2]
    assert plane(definition(x, x.new_zeros(1, 2, 2, 8), mask, **settings)) == [[4, 5], [7, 8]]


@BOTH
def test_dilation_spreads_the_window_about_its_centre(definition):
    x = image([[1, 2, 3, 4, 5]])
    settings = {**PLAIN, "dilation": 2, "pad": 2}
    out = definition(x, x.new_zeros(1, 1, 5, 18), one_hot_mask(x, 1, 9), **settings)
    assert plane(out) == [[0, 0, 1, 2, 3]]


@BOTH
def test_remove_center_drops_the_middle_point_and_keeps_the_order(definition):
    x = image([[1, 2, 3]])
    mask = one_hot_mask(x, 4, 8)  # the fifth of eight is point 5 of nine: (0, 1), below
    assert plane(definition(x, x.new_zeros(1, 1, 3, 16), mask, **PLAIN, remove_center=True)) == [[0, 0, 0]]
    mask = one_hot_mask(x, 6, 8)  # point 7 of nine: (1, 0)
    assert plane(definition(x, x.new_zeros(1, 1, 3, 16), mask, **PLAIN, remove_center=True)) == [[2, 3, 0]]


def test_at_a_whole_location_the_gradient_is_that_of_the_cell_to_the_right():
    x = image([[1, 2, 4, 8]])
    offset = x.new_zeros(1, 1, 4, 2).requires_grad_()
    out = dcnv3_definition(x, offset, torch.ones_like(x), **POINT)
    (grad,) = torch.autograd.grad(out.sum(), offset)
    assert grad[0, 0, :, 0].tolist() == [1, 2, 4, -8]
    assert grad[0, 0, :, 1].tolist() == [-1, -2, -4, -8]


@BOTH
def test_a_sample_counts_only_strictly_between_minus_one_and_the_size(definition):
    x = image([[1, 1]])
    offset = x.new_zeros(1, 1, 2, 2)
    offset[0, 0, :, 0] = x.new_tensor([-1 + 2**-40, 1 - 2**-40])
    near = definition(x, offset, torch.ones_like(x), **POINT)
    assert (near > 0).all()
    offset[0, 0, :, 0] = x.new_tensor([-1.0, 1.0])
    assert not definition(x, offset, torch.ones_like(x), **POINT).any()
    assert not definition(x, offset, x.new_full(x.shape, torch.nan), **POINT).any()


def test_the_definition_differentiates_through_x_offset_and_mask():
    torch.manual_seed(0)
    settings = {"kernel_size": 2, "stride": 1, "pad": 0, "dilation": 1, "group": 1, "offset_scale": 0.5}
    x = torch.randn(1, 3, 2, 2, dtype=torch.float64, requires_grad=True)
    offset = torch.rand(1, 2, 1, 8, dtype=torch.float64) * 0.8 + 0.1
    mask = torch.randn(1, 2, 1, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda *tensors: dcnv3_definition(*tensors, **settings), (x, offset.requires_grad_(), mask)
    )
