"""Every CARAFE core meets every relation, in every dtype; what fails is shown small."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from by_day import in_turns
from falsify import assert_holds, falsify
from formulas_by_loops import reassembly_by_loops
from hypothesis import find, given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

from opbench.conformance.oracle import answers
from opbench.conformance.strategies import LAYOUTS, narrowed, noise, values
from opbench.operators.carafe import IMPLEMENTATIONS, contraction
from opbench.operators.carafe.definition import reassembly
from opbench.operators.carafe.relations import RELATIONS
from opbench.operators.carafe.relations.examples import calls, outside, sizes
from opbench.relations import Example, Space, Violation
from opbench.schema import DTYPES
from opbench.verify.bounds import coefficient

# Most of what is wrong shows in float32; the other dtypes of every relation take the night.
NIGHTLY_DTYPES = [pytest.param(dtype, marks=pytest.mark.nightly) for dtype in ("float64", "bfloat16")]
# By day every implementation meets these, and the other relations in turns.
ALWAYS = ("definition", "definition-gradients", "outside-taps")
EAGER = [
    name for name, it in IMPLEMENTATIONS.items() if not it.compiles and "cpu" in it.devices and it.missing() is None
]
COMPILED = [name for name, it in IMPLEMENTATIONS.items() if it.compiles and it.missing() is None]
BY_NAME = {relation.name: relation for relation in RELATIONS}
OPTIONS = {"kernel_size": 3, "group_size": 2, "scale_factor": 2}
REGISTERED = ("test_schema", "test_autograd_registration", "test_faketensor")


def narrow(dtype, thorough):
    """By day one kernel size: the CPU's kernels are compiled for each, and this is about their arithmetic."""
    return Space(dtype, fixed={} if thorough else {"kernel_size": 3})


def inputs(dtype=torch.float32, **changes):
    return noise((2, 4, 3, 5), 0).to(dtype), noise((2, 18, 6, 10), 1).to(dtype)


# --- Implementations --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", *NIGHTLY_DTYPES])
@pytest.mark.parametrize(("name", "relation"), in_turns(EAGER, RELATIONS, always=ALWAYS))
def test_every_implementation_meets_every_relation(name, relation, dtype, thorough):
    assert_holds(relation, IMPLEMENTATIONS[name].function, Space(dtype), number=12 if thorough else 3)


@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
@pytest.mark.parametrize("name", EAGER)
def test_output_and_gradients_are_the_definition_s_in_the_other_dtypes(name, dtype, thorough):
    number = 8 if thorough else 2
    assert_holds(
        BY_NAME["definition-gradients"], IMPLEMENTATIONS[name].function, narrow(dtype, thorough), number=number
    )


@pytest.mark.parametrize("name", EAGER)
@pytest.mark.parametrize("relation", ["definition-gradients", "powers-of-two", "outside-taps", "huge-values"])
def test_float16_meets_the_relations_that_its_range_endangers(name, relation, thorough):
    core = IMPLEMENTATIONS[name].function
    assert_holds(BY_NAME[relation], core, narrow("float16", thorough), number=12 if thorough else 3)


@pytest.mark.slow
@pytest.mark.parametrize("relation", ["definition-gradients", "outside-taps"])
@pytest.mark.parametrize("name", COMPILED)
def test_what_compiles_meets_the_relations_on_few_shapes(name, relation):
    space = Space("float32", fixed={**OPTIONS, "N": 2, "H": 3, "W": 4})
    assert_holds(BY_NAME[relation], IMPLEMENTATIONS[name].function, space, number=2)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("relation", RELATIONS, ids=lambda relation: relation.name)
def test_the_definition_meets_every_relation(relation, dtype):
    def core(x, mask, **options):
        return (
            reassembly(x.float(), mask.float(), **options).to(x.dtype)
            if x.dtype.itemsize == 2
            else reassembly(x, mask, **options)
        )

    assert_holds(relation, core, Space(dtype), number=5)


# --- What torch asks of a core ----------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["contiguous", "channels last"])
@pytest.mark.parametrize("name", EAGER)
def test_fake_tensors_have_the_shape_and_dtype_of_real_ones(name, layout):
    core = IMPLEMENTATIONS[name].function
    x, mask = (LAYOUTS[layout](tensor) for tensor in inputs(torch.bfloat16))
    real = answers(lambda x, mask, **_: core(x, mask, **OPTIONS), call_of(x, mask))
    with FakeTensorMode() as mode:
        fake_x, fake_mask = (mode.from_tensor(tensor).requires_grad_() for tensor in (x, mask))
        out = core(fake_x, fake_mask, **OPTIONS)
        gradients = torch.autograd.grad(out, (fake_x, fake_mask), torch.ones_like(out))
    for fake, value in zip((out, *gradients), real.values(), strict=True):
        assert (fake.shape, fake.dtype) == (value.shape, value.dtype)
    assert out.stride() == real["output"].stride()


@pytest.mark.parametrize("name", EAGER)
def test_under_autocast_a_core_rounds_to_no_less_than_the_autocast_dtype(name):
    x, mask = inputs()
    plain = IMPLEMENTATIONS[name].function(x, mask, **OPTIONS)
    with torch.autocast("cpu", torch.bfloat16):
        under = IMPLEMENTATIONS[name].function(x, mask, **OPTIONS)
    # A core made of matrix products is autocast with them; one of its own operations keeps the dtype of its inputs.
    assert under.dtype in (torch.float32, torch.bfloat16)
    terms = reassembly(x.abs(), mask.abs(), **OPTIONS)
    eps = torch.finfo(under.dtype).eps
    assert ((under.float() - plain).abs() <= coefficient(9) * eps * terms).all()


def test_the_counting_operations_are_registered_as_torch_asks():
    x, mask = (tensor.requires_grad_() for tensor in inputs())
    torch.library.opcheck(torch.ops.opbench.carafe_core.default, (x, mask, 3, 2, 2), test_utils=REGISTERED)
    backward = (torch.ones(2, 4, 6, 10), x.detach(), mask.detach(), 3, 2, 2, [True, True])
    torch.library.opcheck(torch.ops.opbench.carafe_core_backward.default, backward, test_utils=REGISTERED)


@pytest.mark.slow
@pytest.mark.skipif(not COMPILED, reason="nothing that compiles can run here")
def test_the_compiled_contraction_is_registered_as_torch_asks():
    arguments = (noise((2, 3, 4), 0), noise((2, 3, 4), 1), [2])
    torch.library.opcheck(contraction.contract, arguments, test_utils=("test_schema", "test_faketensor"))


# --- The suite itself -------------------------------------------------------------------------------------------


def call_of(x, mask):
    return Example({"x": x, "mask": mask}, OPTIONS)


def test_relations_have_distinct_names_and_say_what_they_say():
    assert len(BY_NAME) == len(RELATIONS)
    for relation in RELATIONS:
        assert relation.check.__doc__, relation.name


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_calls_fit_together(data):
    call = data.draw(calls(Space("float32")))
    k, g, s = sizes(call.options)
    x, mask = call.tensors["x"], call.tensors["mask"]
    assert mask.shape == (x.shape[0], g * k * k, s * x.shape[2], s * x.shape[3])
    assert x.shape[1] % g == 0
    assert x.dtype == mask.dtype == torch.float32


def test_calls_shrink_to_one_row_of_ones():
    smallest = find(calls(Space("float64")), lambda call: call.tensors["x"].shape[3] > 2)
    assert smallest.tensors["x"].tolist() == [[[[1, 1, 1]]]]
    assert smallest.options == {"kernel_size": 1, "group_size": 1, "scale_factor": 1}


def test_a_counterexample_is_small():
    def wrong(x, mask, **options):
        return reassembly(x, mask, **options) * (1 + (x.shape[3] > 2))

    with pytest.raises(Violation) as violation:
        assert_holds(BY_NAME["definition"], wrong, Space("float32"), number=50)
    assert violation.value.example.tensors["x"].shape == (1, 1, 1, 3)


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_taps_outside_are_those_the_definition_does_not_read(data):
    call = data.draw(calls(Space("float64", fixed={"N": 1, "H": 2, "scale_factor": 2}), kernel_size=3))
    call = call.replace(x=torch.ones_like(call.tensors["x"]), mask=torch.ones_like(call.tensors["mask"]))
    _, g, _ = sizes(call.options)
    counted = reassembly_by_loops(**call.tensors, **call.options)[:, :: call.tensors["x"].shape[1] // g]
    assert torch.equal((~outside(call)).unflatten(0, (g, -1)).sum(1)[None].double(), counted)


def test_fixed_options_narrow_what_is_drawn_and_leave_out_what_needs_others():
    space = Space("float32", fixed={"kernel_size": 5, "scale_factor": 2})
    assert find(calls(space), lambda call: call.tensors["x"].shape[3] > 2).options["kernel_size"] == 5
    empty = {relation.name for relation in RELATIONS if relation.draws(space).is_empty}
    assert empty == {"one-pixel-kernel", "tent-is-bilinear", "phases", "equal-children", "constant-mask"}


def test_a_space_is_narrowed_only_to_what_it_holds():
    space = Space(fixed={"kernel_size": 5})
    assert narrowed(space, kernel_size=3) is None
    assert narrowed(space, scale_factor=1) == dataclasses.replace(space, fixed={"kernel_size": 5, "scale_factor": 1})


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_keep_shape_and_values(layout):
    tensor = noise((2, 3, 4, 5), 0)
    arranged = LAYOUTS[layout](tensor)
    assert torch.equal(arranged, tensor[:1].expand_as(tensor) if layout == "expanded" else tensor)
    assert arranged.is_contiguous() == (layout == "contiguous")


def test_noise_and_structured_values_are_the_same_for_the_same_seed():
    assert torch.equal(noise((3, 2), 7), noise((3, 2), 7))
    assert not torch.equal(noise((3, 2), 7), noise((3, 2), 8))
    assert find(values((2, 2)), lambda tensor: tensor.sum() > 2).tolist() == [[1, 1], [1, 1]]


def test_a_core_that_is_a_convolution_of_nearest_is_not_a_carafe():
    def plausible(x, mask, *, kernel_size, group_size, scale_factor):
        return F.interpolate(x, scale_factor=scale_factor, mode="bilinear")

    assert falsify(BY_NAME["definition"], plausible, Space("float32"), number=10)
