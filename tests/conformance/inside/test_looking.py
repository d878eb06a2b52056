"""Looking inside modules: what is right, wrong or unknown, in which words; what is found is the module's own."""

import inspect

import carafe_modules
import deformable_modules
import pytest
import torch
import wrapped_modules
from torch import nn

from opbench.conformance.inside.looking import look
from opbench.operators.carafe.anatomy import ANATOMY as CARAFE
from opbench.operators.carafe.definition import reassembly
from opbench.operators.dcnv2.anatomy import ANATOMY as DCNV2
from opbench.operators.dcnv3.anatomy import ANATOMY as DCNV3
from opbench.operators.dcnv3.definition import dcnv3_definition

ANATOMIES = {"carafe": CARAFE, "dcnv3": DCNV3, "dcnv2": DCNV2}
CASES = [
    *(("carafe", kind, *expected) for kind, expected in carafe_modules.EXPECTED.items()),
    *(("dcnv3", kind, *expected) for kind, expected in deformable_modules.V3.items()),
    *(("dcnv2", kind, *expected) for kind, expected in deformable_modules.V2.items()),
    *((*case, *expected) for case, expected in wrapped_modules.SEVERAL.items()),
]
# What the default run tries; the others take many seconds each, or are like one of these.
QUICK = {
    carafe_modules.MatmulThenShuffle, carafe_modules.ColumnByColumn, carafe_modules.ChannelsLast,
    carafe_modules.Scrambled,
    carafe_modules.WindowOnUpsampled, carafe_modules.SoftmaxBeforeShuffle, carafe_modules.BilinearFake,
    carafe_modules.StaticMask, carafe_modules.ComputedAndDropped, carafe_modules.Deconvolution,
    deformable_modules.C2fBlock, deformable_modules.PaddedNormalised,
    deformable_modules.OffsetsUnread, deformable_modules.SoftmaxOverGroups,
    wrapped_modules.TabulatedV2, wrapped_modules.SecondDropsItsOffsets,
}  # fmt: skip


def maker(kind):
    parameters = inspect.signature(kind).parameters
    channels = [name for name, one in parameters.items() if one.default is one.empty] or list(parameters)[:1]
    return lambda count: kind(**dict.fromkeys(channels, count or 16))


def looked(kind, operator):
    return look(kind.__name__, maker(kind), (16,), ANATOMIES, operator)


@pytest.mark.parametrize(
    ("operator", "kind", "verdict", "said"),
    [
        pytest.param(
            *case,
            marks=() if case[1] in QUICK and case[1] is not deformable_modules.GatheredV2 else pytest.mark.nightly,
        )
        for case in CASES
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_a_module_is_judged_by_what_it_computes(operator, kind, verdict, said):
    inside = looked(kind, operator)
    assert (inside.kind, said in inside.sentence) == (verdict, True), inside.sentence


def test_the_core_found_is_called_at_other_sizes_and_channels_and_has_the_module_s_gradients():
    core = looked(carafe_modules.MatmulThenShuffle, "carafe").core
    options = {"kernel_size": 3, "group_size": 1, "scale_factor": 2}
    for channels in (1, 5, 16, 40):
        x = torch.randn(2, channels, 4, 3, dtype=torch.float64, requires_grad=True)
        mask = torch.randn(2, 9, 8, 6, dtype=torch.float64, requires_grad=True)
        got, expected = core(x=x, mask=mask, **options), reassembly(x, mask, **options)
        torch.testing.assert_close(got, expected)
        grad = torch.randn_like(expected)
        for one, other in zip(
            torch.autograd.grad(got, (x, mask), grad), torch.autograd.grad(expected, (x, mask), grad), strict=True
        ):
            torch.testing.assert_close(one, other)


def test_a_core_in_a_wrapped_channels_first_block_is_called_as_the_operator_s():
    inside = looked(deformable_modules.C2fBlock, "dcnv3")
    options = dict(inside.found.options)
    x, offset = torch.randn(2, 5, 6, 8, dtype=torch.float64), torch.randn(2, 5, 6, 72, dtype=torch.float64)
    mask = torch.rand(2, 5, 6, 36, dtype=torch.float64)
    torch.testing.assert_close(
        inside.core(x=x, offset=offset, mask=mask, **options), dcnv3_definition(x, offset, mask, **options)
    )


def test_other_options_than_the_module_s_are_refused():
    core = looked(carafe_modules.MatmulThenShuffle, "carafe").core
    x, mask = torch.ones(1, 16, 2, 2), torch.ones(1, 25, 4, 4)
    with pytest.raises(NotImplementedError, match="kernel_size: the module's core has kernel_size=3"):
        core(x=x, mask=mask, kernel_size=5, group_size=1, scale_factor=2)


class WrongFromTheNextTile(carafe_modules.MatmulThenShuffle):
    """Right where it is recognised, wrong past 32 channels."""

    def forward(self, x):
        forgotten = torch.cat((x[:, :32], 0 * x[:, 32:]), 1)
        return super().forward(forgotten)


def test_a_core_that_is_right_where_it_was_found_is_still_searched_as_a_core():
    core = looked(WrongFromTheNextTile, "carafe").core
    options = {"kernel_size": 3, "group_size": 1, "scale_factor": 2}
    for channels, right in ((32, True), (33, False)):
        x, mask = torch.randn(1, channels, 3, 4), torch.rand(1, 9, 6, 8)
        assert torch.allclose(core(x=x, mask=mask, **options), reassembly(x, mask, **options), atol=1e-5) is right


class OwnBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return 2 * grad


class WrongBackward(carafe_modules.MatmulThenShuffle):
    def forward(self, x):
        return super().forward(OwnBackward.apply(x))


def test_gradients_are_those_of_the_module_s_own_code():
    core = looked(WrongBackward, "carafe").core
    x = torch.ones(1, 16, 3, 4, requires_grad=True)
    core(x=x, mask=torch.full((1, 9, 6, 8), 1 / 9), kernel_size=3, group_size=1, scale_factor=2).sum().backward()
    right = torch.ones(1, 16, 3, 4, requires_grad=True)
    reassembly(right, torch.full((1, 9, 6, 8), 1 / 9), kernel_size=3, group_size=1, scale_factor=2).sum().backward()
    assert not torch.allclose(x.grad, right.grad)


class TakesNoImage(nn.Module):
    def forward(self, x, y):
        return x + y


def test_a_module_that_takes_no_image_is_not_judged():
    from opbench.schema import OpbenchError

    with pytest.raises(OpbenchError, match="not judged: it takes no image"):
        look("TakesNoImage", lambda count: TakesNoImage(), (16,), ANATOMIES, "carafe")
