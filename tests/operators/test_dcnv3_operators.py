"""DCNv3's declarations: drawn inputs, offset spread, closed-form costs and what the counters see."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sampling_cases import FEW
from torch.utils.flop_counter import FlopCounterMode

from opbench import registry
from opbench.measure.macs import CORRECTED
from opbench.operators.dcnv3 import SAME
from opbench.operators.dcnv3.cost import COUNTING

CORE = registry.operator("dcnv3_core", "dcnv3")
DEFORMABLE = ("dcnv2", "dcnv3", "yolo-dcnv3")
DIMS = {"N": 2, "C": 8, "H": 6, "W": 5, "G": 2}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def core_dims(**changes):
    return {**DIMS, "k": 3, "stride": 1, "dilation": 1, **changes}


def counted(operator, module, tensors):
    """MACs of the forward and of the whole call, as torch's counter sees them with the operator's formulas."""
    mapping = {}
    for name, formula in {**CORRECTED, **operator.formulas}.items():
        namespace, _, op = name.partition("::")
        mapping[getattr(getattr(torch.ops, namespace), op)] = as_flops(formula)
    leaves = [value.requires_grad_() for value in tensors]
    with FlopCounterMode(display=False, custom_mapping=mapping) as counter:
        out = module(*leaves)
        forward = counter.get_total_flops() // 2
        out.sum().backward()
    return forward, counter.get_total_flops() // 2


def as_flops(formula):
    def flops(*arguments, out_val=None, **_):
        return 2 * formula([tuple(a.shape) if isinstance(a, torch.Tensor) else a for a in arguments])

    flops._get_raw = True
    return flops


dims_of_cores = st.builds(
    lambda **dims: {**dims, "C": dims["C"] * dims["G"]},
    N=st.integers(1, 2),
    C=st.integers(1, 3),
    H=st.integers(3, 9),
    W=st.integers(3, 9),
    G=st.integers(1, 3),
    k=st.integers(1, 3),
    stride=st.integers(1, 2),
    dilation=st.integers(1, 2),
)


@FEW
@given(dims=dims_of_cores)
def test_the_cores_costs_are_what_its_tensors_and_its_counter_say(dims):
    if CORE.requires(dims):
        return
    tensors = list(CORE.inputs(dims, 1.0, generator()).values())
    cost = CORE.cost(dims)
    module = CORE.module(dims, COUNTING)
    out = module(*tensors)
    assert out.shape == CORE.module(dims, CORE.implementations["gather"])(*tensors).shape
    assert cost.params == 0
    assert cost.elements == sum(value.numel() for value in tensors) + out.numel()
    # Every output element is P points of four multiply-adds.
    assert cost.macs == 4 * dims["k"] ** 2 * out.numel()
    assert counted(CORE, module, tensors) == (cost.macs, cost.macs + cost.macs_backward)


@pytest.mark.parametrize("name", DEFORMABLE)
@FEW
@given(C=st.integers(1, 4), G=st.integers(1, 3), H=st.integers(1, 6), W=st.integers(1, 6), N=st.integers(1, 2))
def test_a_modules_costs_are_what_its_parameters_and_its_counter_say(name, C, G, H, W, N):
    operator, dims = registry.operator("conv3x3", name), {"N": N, "C": C * G, "H": H, "W": W, "G": G}
    module, cost = operator.module(dims, operator.counting), operator.cost(dims)
    x = operator.inputs(dims, 0.0, generator())["x"].float()
    module.eval()
    assert cost.params == sum(parameter.numel() for parameter in module.parameters())
    assert cost.elements == 2 * x.numel() + cost.params
    assert counted(operator, module, [x]) == (cost.macs, cost.macs + cost.macs_backward)


def test_the_papers_formula_of_the_modules_parameters_holds():
    C, G, P, kd = 64, 4, 9, 3
    expected = 2 * C**2 + 5 * C + C * kd**2 + 3 * G * P * (C + 1)
    assert registry.operator("conv3x3", "dcnv3").cost({**DIMS, "C": C, "G": G}).params == expected


def test_the_counting_operation_works_without_data():
    dims = core_dims()
    tensors = [value.to("meta").requires_grad_() for value in CORE.inputs(dims, 1.0, generator()).values()]
    out = CORE.module(dims, COUNTING)(*tensors)
    gradients = torch.autograd.grad(out.sum(), tensors)
    assert [g.shape for g in gradients] == [t.shape for t in tensors]


def test_drawn_offsets_deviate_by_the_spread_and_avoid_whole_locations():
    dims = core_dims(H=40, W=40)
    # Off the kink at whole locations, yet all the same.
    assert set(CORE.inputs(dims, 0.0, generator())["offset"].flatten().tolist()) == {SAME}
    for spread in (0.5, 2.0, 8.0):
        offset = CORE.inputs(dims, spread, generator())["offset"]
        assert offset.std().item() == pytest.approx(spread, rel=0.02)
        assert (offset - offset.round()).abs().min() > 1e-3
        assert (offset.float() - offset.float().round()).abs().min() > 1e-3


def test_a_drawn_mask_sums_to_one_per_group():
    mask = CORE.inputs(core_dims(), 1.0, generator())["mask"].view(2, 6, 5, 2, 9)
    torch.testing.assert_close(mask.sum(-1), torch.ones(2, 6, 5, 2, dtype=torch.float64))


@pytest.mark.parametrize("name", DEFORMABLE)
@pytest.mark.parametrize("spread", [0.0, 0.5, 8.0])
def test_prepared_modules_spread_their_offsets_as_asked(name, spread):
    operator, seen = registry.operator("conv3x3", name), []

    def spy(x, offset, mask, *weight, **settings):
        seen.append((offset, mask))
        return operator.implementations["gather"].function(x, offset, mask, *weight, **settings)

    module = operator.module(DIMS, operator.implementations["gather"]).double().eval()
    (module.dcnv3 if name == "yolo-dcnv3" else module).implementation = spy
    x = operator.inputs(DIMS, spread, generator())["x"]
    operator.prepare(module, DIMS, spread, generator(), x)
    module(x)
    ((offset, mask),) = seen
    around = SAME if spread == 0 else 0.0
    assert (offset - around).square().mean().sqrt().item() == pytest.approx(spread, rel=1e-9, abs=1e-12)
    assert mask.std() > 0.01, "a uniform mask would hide mistakes"


def test_features_that_give_nothing_to_scale_are_refused():
    operator = registry.operator("conv3x3", "dcnv2")
    module = operator.module(DIMS, operator.implementations["gather"]).double()
    with pytest.raises(ValueError, match=r"offsets: expected features with a positive, finite deviation, got 0\.0"):
        operator.prepare(module, DIMS, 1.0, generator(), torch.zeros(2, 8, 6, 5, dtype=torch.float64))


def test_dimensions_that_do_not_fit_are_named():
    assert CORE.requires(core_dims()) is None
    assert CORE.requires(core_dims(G=3)) == "C=8 is not a multiple of G=3 groups"
    assert CORE.requires(core_dims(k=2, dilation=3, H=1)) == "1 x 5 pixels are smaller than the dilated kernel"
    for name in DEFORMABLE:
        assert registry.operator("conv3x3", name).requires({**DIMS, "G": 3}) == "C=8 is not a multiple of G=3 groups"


def test_every_deformable_contender_is_declared():
    names = {operator.name: set(operator.implementations) for operator in registry.operators("conv3x3").values()}
    assert names["dcnv3"] == names["yolo-dcnv3"] == set(CORE.implementations)
    assert {"gather", "grid-sample"} <= names["dcnv3"] & names["dcnv2"]
