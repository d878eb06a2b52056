"""Every DCNv3 core meets every relation, in every dtype, and torch's own demands; strategies draw what they say."""

import pytest
import torch
from by_day import in_turns
from falsify import assert_holds, falsify
from formulas_by_loops import dcnv3_by_loops
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

from opbench.conformance.oracle import answers
from opbench.conformance.strategies import noise
from opbench.operators.dcnv3 import CORES, DCNv3
from opbench.operators.dcnv3.relations import RELATIONS
from opbench.operators.dcnv3.relations import examples as fields
from opbench.operators.dcnv3.relations.examples import calls, locations, output_size, pairs, points
from opbench.relations import Example, Space

# Most of what is wrong shows in float32; the other dtypes of every relation take the night.
NIGHTLY_DTYPES = [pytest.param(dtype, marks=pytest.mark.nightly) for dtype in ("float64", "bfloat16")]
# By day every implementation meets these, and the other relations in turns.
ALWAYS = ("definition", "definition-gradients", "offsets-not-finite")
EAGER = [name for name, core in CORES.items() if not core.compiles and "cpu" in core.devices and core.missing() is None]
COMPILED = [name for name, core in CORES.items() if core.compiles and core.missing() is None]
BY_NAME = {relation.name: relation for relation in RELATIONS}
OPTIONS = {"kernel_size": 3, "stride": 2, "pad": 1, "dilation": 1, "group": 2, "offset_scale": 2.0}
OPTIONS = {**OPTIONS, "remove_center": True}
REGISTERED = ("test_schema", "test_autograd_registration", "test_faketensor")
# What the order of atomic additions may change; see `Implementation.deterministic_backward`.
NEEDS_AN_ORDER = ("repeatable-gradients",)
DRAWN = settings(max_examples=30, suppress_health_check=list(HealthCheck))


def call(dtype=torch.float32):
    """N 2, H 5, W 4, C 6 at OPTIONS."""
    shape = (2, *output_size(5, 4, OPTIONS), 2 * points(OPTIONS))
    tensors = {"x": noise((2, 5, 4, 6), 0), "offset": noise((*shape[:3], 2 * shape[3]), 1), "mask": noise(shape, 2)}
    return Example({name: value.to(dtype) for name, value in tensors.items()}, OPTIONS)


# --- Implementations --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", *NIGHTLY_DTYPES])
@pytest.mark.parametrize(("name", "relation"), in_turns(EAGER, RELATIONS, always=ALWAYS))
def test_every_implementation_meets_every_relation(name, relation, dtype, thorough):
    if relation.name in NEEDS_AN_ORDER and not CORES[name].deterministic_backward:
        pytest.skip(f"{name} promises no order of additions in its backward pass")
    assert_holds(relation, CORES[name].function, Space(dtype), number=10 if thorough else 3)


@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
@pytest.mark.parametrize("name", EAGER)
def test_output_and_gradients_are_the_definition_s_in_the_other_dtypes(name, dtype, thorough):
    assert_holds(BY_NAME["definition-gradients"], CORES[name].function, Space(dtype), number=8 if thorough else 2)


@pytest.mark.parametrize("relation", ["definition-gradients", "powers-of-two", "huge-offsets", "offsets-not-finite"])
@pytest.mark.parametrize("name", EAGER)
def test_float16_meets_the_relations_that_its_range_endangers(name, relation, thorough):
    assert_holds(BY_NAME[relation], CORES[name].function, Space("float16"), number=10 if thorough else 3)


@pytest.mark.slow
@pytest.mark.parametrize("relation", ["definition-gradients", "offsets-not-finite"])
@pytest.mark.parametrize("name", COMPILED)
def test_what_compiles_meets_the_relations_on_few_shapes(name, relation):
    fixed = {**OPTIONS, "N": 2, "H": 5, "W": 4, "C": 6}
    assert_holds(BY_NAME[relation], CORES[name].function, Space("float32", fixed=fixed), number=2)


# --- What torch asks of a core ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EAGER)
def test_fake_tensors_have_the_shape_and_dtype_of_real_ones(name):
    example = call(torch.bfloat16)
    real = answers(CORES[name].function, example)
    with FakeTensorMode() as mode:
        leaves = {key: mode.from_tensor(value).requires_grad_() for key, value in example.tensors.items()}
        out = CORES[name].function(**leaves, **OPTIONS)
        gradients = torch.autograd.grad(out, list(leaves.values()), torch.ones_like(out))
    for fake, value in zip((out, *gradients), real.values(), strict=True):
        assert (fake.shape, fake.dtype) == (value.shape, value.dtype)


@pytest.mark.parametrize("name", EAGER)
def test_autocast_leaves_a_core_s_dtype_to_its_inputs(name):
    example = call()
    plain = CORES[name].function(**example.tensors, **OPTIONS)
    with torch.autocast("cpu", torch.bfloat16):
        under = CORES[name].function(**example.tensors, **OPTIONS)
    assert under.dtype == torch.float32
    torch.testing.assert_close(under, plain)


def test_the_counting_operations_are_registered_as_torch_asks():
    x, offset, mask = (value.requires_grad_() for value in call().tensors.values())
    options = tuple(OPTIONS.values())
    torch.library.opcheck(torch.ops.opbench.dcnv3_core.default, (x, offset, mask, *options), test_utils=REGISTERED)
    inputs = (x.detach(), offset.detach(), mask.detach())
    backward = (torch.ones(2, 3, 2, 6), *inputs, *options, [True] * 3)
    torch.library.opcheck(torch.ops.opbench.dcnv3_core_backward.default, backward, test_utils=REGISTERED)


def test_a_number_added_to_a_group_s_logits_changes_nothing():
    """Softmax is invariant to it, and the module takes it over the points of each group."""
    torch.manual_seed(0)
    module = DCNv3(6, group=2, implementation="gather").double()
    torch.nn.init.normal_(module.mask.weight)
    torch.nn.init.normal_(module.offset.weight)
    x = noise((1, 5, 4, 6), 0)
    before = module(x)
    with torch.no_grad():
        module.mask.bias += torch.tensor([3.0, -2.0]).repeat_interleave(9)
    torch.testing.assert_close(module(x), before, rtol=0, atol=1e-12)


# --- The strategies and the suite itself ------------------------------------------------------------------------


@DRAWN
@given(calls(Space("float64")))
def test_calls_fit_together_and_the_loops_take_them(call):
    x, mask = call.tensors["x"], call.tensors["mask"]
    tensors = {**call.tensors, "offset": call.tensors["offset"].nan_to_num(nan=1e6, posinf=1e6, neginf=-1e6)}
    if x.numel() * mask.numel() < 10_000:
        assert dcnv3_by_loops(**tensors, **call.options).shape == (*mask.shape[:3], x.shape[-1])
    assert mask.shape[1:3] == output_size(*x.shape[1:3], call.options)
    assert pairs(call).shape == (*mask.shape[:3], call.options["group"], points(call.options), 2)


@DRAWN
@given(st.data())
def test_what_a_space_fixes_stays_fixed(data):
    fixed = {"kernel_size": 3, "offset_scale": 1.7, "group": 2, "N": 1, "W": 1, "C": 4}
    drawn = data.draw(calls(Space(fixed=fixed)))
    assert {name: drawn.options[name] for name in ("kernel_size", "offset_scale", "group")} == {
        "kernel_size": 3,
        "offset_scale": 1.7,
        "group": 2,
    }
    assert drawn.tensors["x"].shape[0] == drawn.tensors["x"].shape[2] == 1
    assert drawn.tensors["x"].shape[3] == 4


@pytest.mark.parametrize(
    ("fixed", "narrowed"),
    [
        ({"kernel_size": 4}, {"remove_center": (True,)}),
        ({"offset_scale": 1.7}, {"exact": True}),
        ({"H": 5, "W": 5}, {"oblong": True}),
        ({"stride": 2}, {"stride": (1,)}),
    ],
)
def test_there_are_no_calls_where_the_space_fixes_others(fixed, narrowed):
    assert calls(Space(fixed=fixed), **narrowed).is_empty


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@DRAWN
@given(data=st.data())
def test_whole_and_half_locations_are_exact_in_every_dtype(dtype, data):
    kind = data.draw(st.sampled_from((fields.WHOLE, fields.HALF)))
    drawn = data.draw(calls(Space(dtype), offsets=(kind,), exact=True))
    for at in locations(drawn):
        assert torch.equal(at.frac().abs(), torch.full_like(at, 0.5 if kind == fields.HALF else 0))


@DRAWN
@given(calls(Space(), offsets=(fields.SMOOTH,)))
def test_smooth_locations_keep_away_from_whole_ones(drawn):
    for at in locations(drawn):
        assert ((at - at.round()).abs() > 0.2).all()


def test_a_counterexample_is_small_and_says_what_is_wrong():
    def transposed(x, offset, mask, **options):
        return CORES["gather"].function(x, offset.unflatten(-1, (-1, 2)).flip(-1).flatten(-2), mask, **options)

    message = str(falsify(BY_NAME["whole-locations"], transposed, Space(), 20))
    assert message.startswith("output[")
    assert "rounding explains" in message


def test_names_are_unique_and_every_relation_says_what_it_states():
    assert len(BY_NAME) == len(RELATIONS)
    assert all(relation.statement for relation in RELATIONS)
