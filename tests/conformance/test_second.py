"""What can't be differentiated twice, or comes out otherwise, is fragile and not wrong."""

from pathlib import Path

import pytest
import torch

from opbench.conformance import second
from opbench.conformance.cores import relations
from opbench.conformance.findings import Request
from opbench.conformance.judging import prepare
from opbench.conformance.search import search
from opbench.operators.carafe.cores import shift_add, unfold
from opbench.operators.dcnv3.cores import CORES
from opbench.relations import Space


def tried(core, operator="carafe", dtype="float32", examples=6):
    relation = next(one for one in relations(operator) if one.name == second.NAME)
    assert relation.tier == "fragile"
    done = search(relation, core, Space(dtype), examples=examples, seed=0, shrink_seconds=0.0)
    assert done.finding is None
    return [one.cause for one in done.fragile]


class Once(torch.autograd.Function):
    """CARAFE whose backward pass gives plain numbers; `kept` of them are differentiable."""

    @staticmethod
    def forward(ctx, x, mask, options, kept):
        ctx.save_for_backward(x, mask)
        ctx.options, ctx.kept = options, kept
        return unfold(x, mask, **options)

    @staticmethod
    def backward(ctx, grad):
        with torch.enable_grad():
            x, mask = (value.detach().requires_grad_() for value in ctx.saved_tensors)
            found = torch.autograd.grad(unfold(x, mask, **ctx.options), (x, mask), grad, create_graph=True)
        return *(one if number < ctx.kept else one.detach() for number, one in enumerate(found)), None, None


def once(x, mask, **options):
    return Once.apply(x, mask, options, 0)


def half(x, mask, **options):
    return Once.apply(x, mask, options, 1)


@pytest.mark.parametrize("core", [shift_add, unfold])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_right_cores_have_the_definition_s(core, dtype):
    assert tried(core, dtype=dtype) == []


def test_so_has_dcnv3_s_gather():
    assert tried(CORES["gather"].function, "dcnv3") == []


def test_a_core_on_torch_s_grid_sample_has_them_where_this_release_of_torch_has():
    assert tried(CORES["grid-sample"].function, "dcnv3") in ([], [second.NONE])


def test_gradients_that_are_constants_are_told_apart_from_those_that_are_missing():
    assert tried(once) == [second.NONE]
    assert tried(half) == [second.OTHER]


def test_half_inputs_are_not_asked():
    assert tried(once, dtype="bfloat16") == []


MODULES = Path(__file__).parent / "twice_modules.py"


def modules_causes(name, operator):
    judged = prepare(Request(f"{MODULES}:{name}", operator))
    relation = next(one for one in judged.properties if one.name == second.NAME)
    held = judged.held_to(relation.name)
    done = search(relation, held.core, Space("float32", "cpu", held.fixed), examples=3, seed=0, shrink_seconds=0.0)
    assert done.finding is None
    return [one.cause for one in done.fragile]


def test_modules_are_asked_by_name_and_by_the_core_inside():
    assert modules_causes("Published", "carafe") == []
    assert modules_causes("OnceDifferentiable", "carafe") == [second.NONE]
    assert modules_causes("Inside", "carafe") == []


def test_a_parameter_s_wrong_gradient_is_called_a_gradient():
    judged = prepare(Request(f"{MODULES}:WrongGradients", "carafe"))
    relation = next(one for one in judged.properties if one.name == "evaluation")
    done = search(relation, judged.core, Space(fixed=judged.fixed), examples=1, seed=0, shrink_seconds=0.0)
    assert done.finding.message.startswith("gradient of ")
