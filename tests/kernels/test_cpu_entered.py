"""The CPU kernels as contenders: found, counted exactly, seen whole by compilers, and sparing with memory."""

import itertools
from dataclasses import replace

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from opbench import registry
from opbench.build import build
from opbench.commands.list import ListRequest, list_
from opbench.kernels.cpu import processor
from opbench.measure.macs import CORRECTED, by_fvcore, by_torch, count
from opbench.measure.memory import measure_memory
from opbench.operators.carafe import CARAFE, YoloCARAFE, carafe
from opbench.operators.dcnv3 import DCNv3, DCNV3_YoLo
from opbench.schema import Case

CORES = {
    "carafe_core": ("carafe", {"N": 2, "C": 6, "H": 9, "W": 7, "k": 3, "g": 2, "s": 2}),
    "dcnv3_core": ("dcnv3", {"N": 2, "C": 6, "H": 9, "W": 7, "G": 2, "k": 3, "stride": 2, "dilation": 1}),
}
MODULES = {
    "upsample2x": ("yolo-carafe", {"N": 1, "C": 8, "H": 6, "W": 5, "k_up": 5, "k_enc": 3, "c_mid": 4, "g": 1}),
    "conv3x3": ("yolo-dcnv3", {"N": 1, "C": 8, "H": 6, "W": 5, "G": 2}),
}
# The cases that bounds on memory are promised for.
LARGE = {
    "carafe_core": ("carafe", {"N": 1, "C": 256, "H": 64, "W": 64, "k": 5, "g": 1, "s": 2}),
    "dcnv3_core": ("dcnv3", {"N": 1, "C": 128, "H": 80, "W": 80, "G": 8, "k": 3, "stride": 1, "dilation": 1}),
}
MODES = pytest.mark.parametrize("mode", ["inference", "training"])
# Each thread's tile: at most this much for the kernel sizes of CARAFE and DCNv3.
TILE_BYTES = 256 << 10


def case_of(declared, task, mode, dtype="float32"):
    operator, dims = declared[task]
    spread = 2.0 if task in ("dcnv3_core", "conv3x3") else None
    return Case(task, "w", operator, "cpu", dims, dtype, "cpu", mode, spread=spread)


# --- Counts -----------------------------------------------------------------------------------------------------------


@MODES
@pytest.mark.parametrize("masks", ["", "_logits"], ids=["mask", "logits"])
@pytest.mark.parametrize("task", CORES)
def test_triton_s_operations_are_counted_as_the_closed_form_says(task, masks, mode):
    """On tensors without data: their kernels need a GPU, their counts don't."""
    built = build(case_of(CORES, task, mode))
    dims, cost = built.case.dims, built.operator.cost(built.case.dims)
    operation = getattr(torch.ops.opbench, f"{built.operator.name}_triton{masks}")
    inputs = [t.detach().to("meta") for t in built.inputs]
    if task == "dcnv3_core":
        options = (dims["k"], dims["stride"], dims["k"] // 2, dims["dilation"], dims["G"], 1.0, False, None)
    else:
        options = (dims["k"], dims["g"], dims["s"])
        if masks:  # as the encoder returns them
            inputs[1] = torch.nn.functional.pixel_unshuffle(inputs[1], dims["s"])

    class Core(torch.nn.Module):
        def forward(self, *tensors):
            out = operation(*tensors, *options)
            return out[0] if isinstance(out, tuple) else out

    leaves = tuple(t.requires_grad_(mode == "training") for t in inputs)
    grad = None if built.grad_output is None else built.grad_output.to("meta")
    seen = by_torch(replace(built, module=Core(), inputs=leaves, grad_output=grad), built.operator.formulas)
    assert seen.macs == cost.macs + (cost.macs_backward if mode == "training" else 0)
    assert not [name for name in seen.unaccounted if "opbench" in name]


SAMPLING = {
    "dcnv4": ("conv3x3", {"N": 2, "C": 8, "H": 6, "W": 5, "G": 2}, (3, 1, 1, 1, 2, 1.0, False, None)),
    "dysample": ("upsample2x", {"N": 2, "C": 8, "H": 6, "W": 5, "groups": 2}, (2, 2, None)),
}


@pytest.mark.parametrize("operator", SAMPLING)
def test_triton_s_sampling_is_counted_as_the_core_that_computes_nothing(operator):
    """On tensors without data, forward and for each gradient that is wanted."""
    task, dims, options = SAMPLING[operator]
    formulas = registry.operator(task, operator).formulas
    n, c, h, w = (dims[name] for name in "NCHW")
    if operator == "dcnv4":
        inputs, names, macs = [(n, h, w, c), (n, h, w, 56)], ["dcnv4_triton", "dcnv4_triton_logits"], 4 * 9 * c
    else:
        inputs, names, macs = [(n, c, h, w), (n, 16, h, w)], ["dysample_triton"], 4 * 4 * c
    for name, wanted in itertools.product(names, ((True, True), (True, False), (False, True))):
        leaves = [
            torch.empty(shape, device="meta", requires_grad=asks) for shape, asks in zip(inputs, wanted, strict=True)
        ]
        mapped = {f"opbench::{name}{part}": formulas[f"opbench::{name}{part}"] for part in ("", "_backward")}
        with torch.utils.flop_counter.FlopCounterMode(display=False, custom_mapping=mapping_of(mapped)) as counter:
            getattr(torch.ops.opbench, name)(*leaves, *options).sum().backward()
        assert counter.get_total_flops() == 2 * (1 + sum(wanted)) * macs * n * h * w


@MODES
@pytest.mark.parametrize("task", [*CORES, *MODULES])
def test_both_counters_see_the_kernel_itself_and_agree_with_the_closed_form(task, mode):
    built = build(case_of(CORES | MODULES, task, mode))
    cost = built.operator.cost(built.case.dims)
    formulas = built.operator.formulas
    expected = cost.macs + (cost.macs_backward if mode == "training" else 0)
    seen = by_torch(built, {**CORRECTED, **formulas})
    assert seen.macs == expected
    assert not [name for name in seen.unaccounted if "opbench" in name]
    assert by_fvcore(build(case_of(CORES | MODULES, task, "inference")), formulas).macs == cost.macs


@pytest.mark.parametrize("task", [*CORES, *MODULES])
def test_without_formulas_the_counters_name_what_they_missed(task):
    built = build(case_of(CORES | MODULES, task, "inference"))
    counts = count(built.case, built)
    assert counts.macs == counts.torch.macs == counts.fvcore.macs > counts.stock_torch.macs
    assert [name for name in counts.stock_torch.unaccounted if "_cpu" in name]


@pytest.mark.parametrize("task", CORES)
def test_a_gradient_that_is_not_wanted_is_not_counted(task):
    built = build(case_of(CORES, task, "training"))
    cost = built.operator.cost(built.case.dims)
    names = list(built.tensors)
    for wanted in itertools.product((False, True), repeat=len(names)):
        for tensor, needed in zip(built.inputs, wanted, strict=True):
            tensor.requires_grad_(needed)
        if not any(wanted):
            continue
        with torch.utils.flop_counter.FlopCounterMode(display=False, custom_mapping=mapping(built)) as counter:
            built.module(*built.inputs).sum().backward()
        # Every gradient of CARAFE costs as much as the call; those of DCNv3's offset and mask share their cost.
        gradients = sum(wanted) if task == "carafe_core" else wanted[0] + (wanted[1] or wanted[2])
        assert counter.get_total_flops() == 2 * (1 + gradients) * cost.macs


def mapping(built):
    return mapping_of(built.operator.formulas)


def mapping_of(formulas):
    def flops(formula):
        def counted(*arguments, out_val=None, **_):
            return 2 * formula([tuple(a.shape) if isinstance(a, torch.Tensor) else a for a in arguments])

        counted._get_raw = True
        return counted

    ops = {name.removeprefix("opbench::"): formula for name, formula in formulas.items()}
    return {getattr(torch.ops.opbench, name): flops(formula) for name, formula in ops.items()}


# --- Compilers --------------------------------------------------------------------------------------------------------

LAYERS = {
    "CARAFE": (lambda: CARAFE(8), (1, 8, 6, 5)),
    "YoloCARAFE": (lambda: YoloCARAFE(8), (1, 8, 6, 5)),
    "DCNv3": (lambda: DCNv3(8, group=2), (1, 6, 5, 8)),
    "DCNV3_YoLo": (lambda: DCNV3_YoLo(8, 8, 3, g=2), (1, 8, 6, 5)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_network_compiles_whole_and_exports_without_the_kernel(name):
    make, shape = LAYERS[name]
    torch.manual_seed(0)
    layer, x = make().eval(), torch.randn(shape)
    expected = gradients(layer, x)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    for got, want in zip(gradients(compiled, x), expected, strict=True):
        torch.testing.assert_close(got, want)
    program = torch.export.export(layer, (x,))
    # It is to run where opbench isn't.
    assert not [str(node.target) for node in program.graph.nodes if "opbench" in str(node.target)]
    torch.testing.assert_close(program.module()(x), expected[0])


def gradients(layer, x):
    leaf = x.clone().requires_grad_()
    out = layer(leaf)
    return out.detach(), *torch.autograd.grad(out.square().sum(), leaf)


# --- Where they can't run ---------------------------------------------------------------------------------------------


def test_the_listing_says_what_is_available_and_why_not(monkeypatch, capsys):
    list_(ListRequest(what="implementations"))
    assert "available" in line_of("dcnv3[cpu]", capsys.readouterr().out)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    list_(ListRequest(what="implementations"))
    assert "llvmlite is not installed" in line_of("carafe[cpu]", capsys.readouterr().out)


def line_of(contender, printed):
    return next(line for line in printed.splitlines() if "_core" in line and contender in line)


def test_without_llvmlite_auto_takes_another_and_the_name_says_why(monkeypatch):
    x, mask = torch.randn(1, 4, 3, 3), torch.rand(1, 9, 6, 6)
    given = {"kernel_size": 3, "group_size": 1, "scale_factor": 2}
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert torch.equal(carafe(x, mask, **given), carafe(x, mask, **given, implementation="shift-add"))
    with pytest.raises(RuntimeError, match="can't run here: llvmlite is not installed"):
        carafe(x, mask, **given, implementation="cpu")
    monkeypatch.undo()
    assert processor.missing() is None
    assert torch.equal(carafe(x, mask, **given), carafe(x, mask, **given, implementation="cpu"))


# --- Memory -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", CORES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_core_makes_its_output_and_its_gradients_and_keeps_nothing_more_for_backward(task, dtype):
    inference, training = (build(case_of(LARGE, task, mode, dtype)) for mode in ("inference", "training"))
    inputs = sum(value.nbytes for value in inference.inputs)
    least = registry.operator(task, inference.case.operator).cost(inference.case.dims).elements
    output = least * inference.inputs[0].element_size() - inputs
    forward, both = measure_memory(inference), measure_memory(training)
    assert (forward.peak_bytes, forward.saved_bytes) == (output, 0)
    # The output lives on while the gradients are made; what backward reads are the inputs themselves.
    assert (both.peak_bytes, both.saved_bytes) == (output + inputs, 0)


@MODES
@pytest.mark.parametrize("task", CORES)
def test_the_allocator_is_asked_for_a_tile_a_thread_beyond_that(task, mode):
    built = build(case_of(LARGE, task, mode))
    built.module(*built.inputs)  # compiles, and fills caches that live as long as the process
    tracked = measure_memory(built).peak_bytes
    peak = allocated(built)
    assert tracked <= peak <= tracked + torch.get_num_threads() * TILE_BYTES
    inputs = sum(value.nbytes for value in built.inputs)
    if mode == "inference":
        assert (inputs + peak) / (inputs + tracked) <= 1.1


def allocated(built):
    """The largest sum of what torch's CPU allocator gave out and had not got back, operators' own scratch included."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        out = built.module(*built.inputs)
        if built.grad_output is not None:
            torch.autograd.grad(out, built.leaves(), built.grad_output)
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    sizes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    return max(itertools.accumulate(sizes))
