"""Traffic: what dispatched operations read and write, against sums done by hand."""

import pytest
import torch
from hand_counts import CORES, MASK, S

from opbench import registry
from opbench.build import build
from opbench.kernels.fused import fused
from opbench.measure.prediction import on_meta
from opbench.measure.traffic import Traffic, count_traffic, distinct_bytes
from opbench.operators.carafe import traffic as carafe_traffic
from opbench.operators.dcnv3 import traffic as dcnv3_traffic
from opbench.operators.dcnv4 import traffic as dcnv4_traffic
from opbench.operators.dysample import traffic as dysample_traffic
from opbench.operators.external import torchvision
from opbench.schema import Case, Implementation

DIMS = {"N": 1, "C": 8, "H": 6, "W": 6}
MODES = ("inference", "training")


def case(task, contender, mode, dtype="float32"):
    operator, _, implementation = contender.rstrip("]").partition("[")
    declared = registry.tasks()[task]
    dims = declared.given({**DIMS, **({"G": 2} if "G" in declared.dims else {})})
    return Case(task, "by-hand", operator, implementation, dims, dtype, "cpu", mode, 0.5)


def moved(work, declared=None):
    with torch.no_grad(), Traffic(declared or {}) as seen:
        work()
    return seen.total


# --- one operation --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("work", "floats"),
    [
        (lambda x: x + 1, 12 + 12),
        (lambda x: x.add_(1), 12 + 12),
        (lambda x: x * x, 12 + 12),
        (lambda x: x + torch.ones(4), 4 + 12 + 4 + 12),
        (lambda x: x[:1].expand(3, 4) + x, 12 + 4 + 12),
        (lambda x: x.sum(), 12 + 1),
        (lambda x: x.view(4, 3).t()[1:].unsqueeze(0).detach(), 0),
        (lambda x: x.t().contiguous(), 12 + 12),
        (lambda x: torch.empty_like(x), 0),
        (lambda x: torch.zeros_like(x), 12),
        (lambda x: x.new_zeros(5), 5),
        (lambda x: x.zero_(), 12),
        (lambda x: torch.empty(3, 4).copy_(x), 12 + 12),
        (lambda x: torch.mul(x, x, out=torch.empty(3, 4)), 12 + 12),
        (lambda x: torch.cat((x, x[:1])), 12 + 4 + 16),
        (lambda x: x > 0, 12 + 12 / 4),
        (lambda x: x[torch.tensor([0])], 4 + 2 + 4),
        (lambda x: x.index_put_((torch.tensor([0]),), torch.ones(4)), 4 + 2 + 4 + 4),
        (lambda x: x.unfold(1, 2, 1) * 1.0, 12 + 18),
        (lambda x: torch.nn.functional.pad(x, (-1, -1)), 6 + 6),
    ],
)
def test_an_operation_reads_its_inputs_and_writes_its_outputs_once(work, floats):
    assert moved(lambda: work(torch.ones(12).view(3, 4).clone())) - 4 * (12 + 24) == 4 * floats


def test_adding_to_a_part_moves_it_once():
    x = torch.ones(8, 4)

    def work():
        x[2:6] += torch.full((4, 4), 2.0)

    assert moved(work) == 4 * (16 + 3 * 16)


def test_distinct_bytes_of_expanded_and_overlapping_views():
    x = torch.ones(2, 10)
    assert distinct_bytes(x.unsqueeze(1).expand(2, 5, 10)) == x.nbytes
    assert distinct_bytes(x.unfold(1, 3, 1)) == x.nbytes
    assert distinct_bytes(x[:, ::2]) == 4 * 10
    assert distinct_bytes(x[:0]) == 0


def test_code_that_is_compiled_apart_is_one_operation():
    def steps(x):
        return (x * 2).exp() + 1

    def refuse(*_):
        raise AssertionError("a watcher runs the code uncompiled")

    x = torch.ones(100)
    assert moved(lambda: fused(steps, refuse)(x)) == 800
    assert torch.equal(fused(steps, steps)(x), steps(x))


def test_an_operation_may_declare_what_it_moves():
    assert moved(lambda: torch.ones(4).sum(), {"aten::sum": lambda arguments, outputs: 1000}) == 16 + 1000


# --- implementations ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("task", "contender"), CORES)
def test_an_implementation_moves_what_was_counted_by_hand(task, contender, mode):
    registry.load()
    by_hand = dict(zip(MODES, CORES[task, contender](), strict=True))[mode]
    assert count_traffic(on_meta(case(task, contender, mode))) == pytest.approx(4 * by_hand, rel=META.get(contender, 0))


# torch's own description of a bag without data has bookkeeping that its CPU code leaves out.
META = {"dcnv3[compiled]": 0.1, "dcnv3[gather]": 0.1}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("contender", ["dcnv3[gather]", "dcnv3[compiled]", "dcnv3[cpu]"])
def test_a_call_with_data_moves_what_was_counted_by_hand(contender, mode):
    registry.load()
    by_hand = dict(zip(MODES, CORES["dcnv3_core", contender](), strict=True))[mode]
    assert count_traffic(build(case("dcnv3_core", contender, mode))) == 4 * by_hand


MODULES = pytest.mark.parametrize(
    ("task", "module", "core"),
    [
        ("upsample2x", "carafe", "carafe_core"),
        ("upsample2x", "yolo-carafe", "carafe_core"),
        ("conv3x3", "dcnv3", "dcnv3_core"),
    ],
)


def around(task, module, core, mode, implementation):
    """What a module moves beside its core."""
    operator = core.removesuffix("_core")
    whole = count_traffic(on_meta(case(task, f"{module}[{implementation}]", mode)))
    return whole - count_traffic(on_meta(case(core, f"{operator}[{implementation}]", mode)))


@pytest.mark.parametrize("mode", MODES)
@MODULES
def test_around_its_core_a_module_moves_the_same_whatever_computes_the_core(task, module, core, mode):
    registry.load()
    names = {contender.partition("[")[2].rstrip("]") for at, contender in CORES if at == core}
    # The output of one is a transposed view, which the layer after it copies first; the other takes logits.
    names -= {"grid-sample", "cpu"}
    found = {around(task, module, core, mode, name) for name in names}
    assert len(found) == 1
    assert found.pop() > 0


@MODULES
def test_a_kernel_that_takes_logits_saves_the_passes_over_them(task, module, core):
    """Softmax: two, and three for its gradient; pixel shuffle: two, and two. CARAFE's backward makes weights: three."""
    registry.load()
    plain = "gather" if core == "dcnv3_core" else "unfold"
    logits = 4 * (S if core == "dcnv3_core" else MASK)
    for mode, passes in zip(MODES, (2, 5) if core == "dcnv3_core" else (4, 6), strict=True):
        saved = around(task, module, core, mode, plain) - around(task, module, core, mode, "cpu")
        assert saved == passes * logits


def test_what_the_dispatcher_does_not_see_is_not_counted():
    built = on_meta(case("conv3x3", "conv3x3[torch]", "inference"))
    hidden = Implementation("torch", compiles=True)
    operator = type(built.operator)(**{**vars(built.operator), "implementations": {"torch": hidden}})
    assert count_traffic(type(built)(**{**vars(built), "operator": operator})) is None
    assert not hidden.seen
    assert Implementation("torch", compiles=True, dispatched=True).seen
    assert not Implementation("extension", dispatched=False).seen


# --- kernels' closed forms ------------------------------------------------------------------------------------------


def tensors(*shapes, dtype=torch.float32):
    return [torch.empty(shape, dtype=dtype) for shape in shapes]


def test_a_gradient_that_is_not_wanted_is_not_read_for():
    grad, x, mask = tensors((1, 8, 12, 12), (1, 8, 6, 6), (1, 25, 12, 12))
    form = carafe_traffic.CPU["opbench::carafe_cpu_backward"]
    nothing = torch.empty(0)
    assert form([grad, x, mask, 5, 1, 2, [True, False]], [x, nothing]) == 4 * (1152 + 3600 + 288)
    assert form([grad, x, mask, 5, 1, 2, [False, True]], [nothing, mask]) == 4 * (1152 + 288 + 3600)


def test_an_input_that_is_copied_first_is_read_twice_and_written_once():
    x = torch.empty(1, 8, 6, 12)[..., ::2]
    mask, out = tensors((1, 25, 12, 12), (1, 8, 12, 12))
    form = carafe_traffic.CPU["opbench::carafe_cpu"]
    assert form([x, mask, 5, 1, 2], [out]) == 4 * (3 * 288 + 3600 + 1152)


def test_the_fused_kernels_of_carafe_read_logits_and_stats_and_round_at_the_end():
    grad, x, logits = tensors((1, 8, 12, 12), (1, 8, 6, 6), (1, 100, 6, 6), dtype=torch.bfloat16)
    stats = torch.empty(2, 1, 1, 6, 6, 4)
    form = carafe_traffic.TRITON["opbench::carafe_triton_logits_backward"]
    to_x = 2 * (1152 + 3600 + 288) + 4 * 288
    to_logits = 2 * (1152 + 288 + 3600 + 3600) + 4 * 288 + 4 * 3600
    assert form([grad, x, logits, stats, 5, 1, 2, [True, True]], [x, logits]) == to_x + to_logits


def test_x_s_gradient_of_dcnv3_is_zeroed_and_added_to_by_atomics_or_gathered():
    grad, x, offset, mask = tensors((1, 6, 6, 8), (1, 6, 6, 8), (1, 6, 6, 36), (1, 6, 6, 18))
    form = dcnv3_traffic.TRITON["opbench::dcnv3_triton_backward"]
    given = [grad, x, offset, mask, 3, 1, 1, 1, 2, 1.0, False]
    points = 288 + 1296 + 648 + 288 + 1296 + 648
    assert form([*given, False, [True, True, True]], [x, offset, mask]) == 4 * (points + 3 * 288)
    # int64: a key and a place for each sample, where each of 98 cells begins
    # and two shares of 4 bytes, which stand for its offsets from then on
    sort, search = 1296 + 4 * 2 * 648 + 2 * 648, 3 * 2 * 99 + 2 * 648
    gather = 2 * 648 + 648 + 288 + 2 * 648 + 2 * 99 + 288
    assert form([*given, True, [True, True, True]], [x, offset, mask]) == 4 * (points + sort + search + gather)


def test_dcnv4_moves_the_packed_tensor_where_dcnv3_moves_its_parts():
    grad, x, packed = tensors((1, 6, 6, 8), (1, 6, 6, 8), (1, 6, 6, 56))
    form = dcnv4_traffic.TRITON["opbench::dcnv4_triton_backward"]
    given = [grad, x, packed, 3, 1, 1, 1, 2, 1.0, False]
    both = 288 + 2 * 2016 + 288
    assert form([*given, False, [True, True]], [x, packed]) == 4 * (both + 3 * 288)
    assert form([*given, False, [True, False]], [x, torch.empty(0)]) == 4 * (288 + 2016 + 3 * 288)
    sort, search = 1296 + 4 * 2 * 648 + 2 * 648, 3 * 2 * 99 + 2 * 648
    gather = 2 * 648 + 648 + 288 + 2 * 648 + 2 * 99 + 288
    assert form([*given, True, [True, False]], [x, torch.empty(0)]) == 4 * (sort + search + gather)
    grad, x, packed = (t.half() for t in (grad, x, packed))
    fused_form = dcnv4_traffic.TRITON["opbench::dcnv4_triton_logits_backward"]
    # The gradient of 648 masks in float32, and so that of x, which is rounded at last.
    assert fused_form([grad, x, packed, *given[3:], False, [True, True]], [x, packed]) == (
        2 * both + 4 * 648 + 4 * 4 * 288 + 2 * 288
    )


def test_x_s_gradient_of_dysample_is_zeroed_and_added_to_by_atomics_or_gathered():
    grad, x, offset = tensors((1, 8, 12, 10), (1, 8, 6, 5), (1, 16, 6, 5))
    form = dysample_traffic.TRITON["opbench::dysample_triton_backward"]
    given = [grad, x, offset, 2, 2]
    both = 960 + 240 + 2 * 480
    assert form([*given, False, [True, True]], [x, offset]) == 4 * (both + 3 * 240)
    assert form([*given, False, [False, True]], [torch.empty(0), offset]) == 4 * both
    # 240 samples, a cell in each of two groups: as DCNv3's
    sort, search = 480 + 4 * 2 * 240 + 2 * 240, 3 * 2 * 85 + 2 * 240
    gather = 2 * 240 + 960 + 2 * 240 + 2 * 85 + 240
    assert form([*given, True, [True, False]], [x, torch.empty(0)]) == 4 * (sort + search + gather)
    narrow = [grad.half(), x.half(), offset, 2, 2, False, [True, False]]
    assert form(narrow, [x.half(), torch.empty(0)]) == 2 * 960 + 4 * 480 + 4 * 4 * 240 + 2 * 240


def test_torchvision_writes_columns_out():
    x, weight, offset, mask, bias = tensors((2, 4, 5, 5), (6, 4, 3, 3), (2, 18, 5, 5), (2, 9, 5, 5), (6,))
    out = torch.empty(2, 6, 5, 5)
    columns = 2 * 4 * 9 * 25
    inputs = 200 + 216 + 900 + 450
    assert torchvision.TRAFFIC["torchvision::deform_conv2d"]([x, weight, offset, mask, bias], [out]) == 4 * (
        inputs + 6 + 3 * columns + 8 * 300
    )
    made = [x, weight, offset, mask, bias]
    moved = 2 * 200 + 216 + 3 * (900 + 450) + 7 * 300 + 3 * (200 + 216) + 2 * (900 + 450) + 6 + 7 * columns
    assert (
        torchvision.TRAFFIC["torchvision::_deform_conv2d_backward"]([out, x, weight, offset, mask], made) == 4 * moved
    )
