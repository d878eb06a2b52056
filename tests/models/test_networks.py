"""A whole network as an operator: counted three ways, prepared like a trained one, and convicted for a wrong core."""

import functools

import msgspec
import pytest
import torch
from torch import nn

from opbench import registry
from opbench.build import build, trained
from opbench.engine.check_case import check_case, count_case
from opbench.engine.panel import Context, run_panel
from opbench.models.closed_form import structure
from opbench.models.detector_networks import Cores
from opbench.models.internimage import InternImage, Variant
from opbench.models.networks import defined, filled, plain, register_network
from opbench.operators.carafe import CARAFE
from opbench.operators.carafe.cores import shift_add
from opbench.operators.dcnv2 import DCNv2
from opbench.operators.dcnv3 import DCNv3
from opbench.operators.dcnv3.cores import gather, grid_sample
from opbench.schema import Case, Implementation, OpbenchError, Panel, Settings, Task

TASK = "toy_network"
TINY = Variant(16, 8, 1, 2, post_norm=False, layer_scale=None)


class Upsampled(nn.Module):
    """InternImage's logits as an image, upsampled by CARAFE: a network with both cores, a constant and a batch norm."""

    def __init__(self, core):
        super().__init__()
        self.backbone = InternImage(TINY, 8 * 4 * 4, implementation=core)
        self.up = CARAFE(8, compressed_channels=4, implementation=core)
        self.constant = nn.Parameter(torch.full((1,), 3.0), requires_grad=False)

    def forward(self, x):
        out = self.up(self.backbone(x).unflatten(1, (8, 4, 4)))
        return out if self.training else self.constant * out


def eager(*tensors, **settings):
    return Cores(shift_add, gather)(*tensors, **settings)


def scaled(*tensors, **settings):
    return eager(*tensors, **settings) * 1.001


def swapped(*tensors, **settings):
    if "group" in settings:
        x, offset, mask = tensors
        return gather(x, offset.unflatten(-1, (-1, 2)).flip(-1).flatten(-2), mask, **settings)
    return shift_add(*tensors, **settings)


def edge_forgotten(*tensors, **settings):
    out = eager(*tensors, **settings).clone()
    if "scale_factor" in settings:
        out[..., -1] = out[..., -2]
    return out


def no_gradient_of_masks(*tensors, **settings):
    return eager(*tensors[:-1], tensors[-1].detach(), **settings)


WRONG = {
    "scaled": scaled,
    "swapped": swapped,
    "edge-forgotten": edge_forgotten,
}
CORES = {"eager": eager, "grid": Cores(shift_add, grid_sample), "no-gradient-of-masks": no_gradient_of_masks, **WRONG}


@pytest.fixture(scope="module", autouse=True)
def declared():
    if TASK not in registry.tasks():
        registry.register_task(Task(TASK, "a toy", "upsampled[eager]", ("N", "H", "W"), deformable=True))
        register_network(
            task=TASK,
            name="upsampled",
            title="a toy",
            source="made up for the tests",
            network=lambda dims, core: Upsampled(core),
            inputs=lambda dims: {"x": (dims["N"], 3, dims["H"], dims["W"])},
            implementations={name: Implementation(name, core) for name, core in CORES.items()},
            requires=lambda dims: None,
        )


def test_a_core_that_has_no_definition_is_refused_in_a_network():
    with pytest.raises(OpbenchError, match="DCNv3: a network of it needs core_definition and counting of operator"):
        filled(nn.Sequential(DCNv3(16, group=1)), lambda operator: None)


@pytest.mark.parametrize("core", [DCNv2(4, 4), CARAFE(4)], ids=["dcnv2", "carafe"])
def test_any_operator_s_core_is_exchanged_for_its_definition(core):
    """Whatever it is called with: nothing tells cores apart by their settings."""
    x = torch.randn(1, 4, 5, 6, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = core(x)
        network = defined(nn.Sequential(core))
        assert not isinstance(core.implementation, str)
        torch.testing.assert_close(network(x), expected)


def case(implementation="eager", mode="inference", dtype="float32", spread=2.0):
    return Case(
        task=TASK,
        workload="w",
        operator="upsampled",
        implementation=implementation,
        dims={"N": 2, "H": 64, "W": 64},
        dtype=dtype,
        device="cpu",
        mode=mode,
        spread=spread,
    )


# The definition and its sensitivity take seconds: once a mode, as for a panel.
REFERENCES = {"inference": {}, "training": {}}


@functools.cache
def checked(implementation, mode):
    return check_case(case(implementation, mode), REFERENCES[mode])


@pytest.mark.parametrize("mode", ["inference", "training"])
@pytest.mark.parametrize("implementation", ["eager", "grid"])
def test_a_right_core_is_acquitted(implementation, mode):
    verdict = checked(implementation, mode).verdict
    assert verdict.correct, verdict.reason
    assert verdict.judged >= 2 * 8 * 8 * 8


@pytest.mark.parametrize(
    ("implementation", "mode"),
    [
        ("scaled", "training"),
        ("swapped", "inference"),
        *(pytest.param(name, "inference", marks=pytest.mark.nightly) for name in WRONG if name != "swapped"),
    ],
)
def test_a_wrong_core_somewhere_in_the_network_is_convicted(implementation, mode):
    assert not checked(implementation, mode).verdict.correct


def test_a_gradient_that_a_core_forgets_is_missed_by_name():
    verdict = checked("no-gradient-of-masks", "training").verdict
    assert not verdict.correct
    assert "None" in verdict.reason


def test_a_network_with_a_wrong_core_is_recorded_and_never_timed(monkeypatch):
    checked("eager", "inference")
    (known,) = REFERENCES["inference"].values()
    monkeypatch.setattr("opbench.engine.check_case.reference", lambda built: known)
    cases = (case("eager"), case("scaled"))
    panel = Panel(cases[0].panel_id, "made up", "upsampled[eager]", cases)
    settings = Settings(suite="toy", precision=0.5, budget_seconds=0.01)
    right, wrong = run_panel(panel, settings, Context())
    assert (right.outcome, wrong.outcome) == ("ok", "incorrect")
    assert right.latencies
    assert not wrong.latencies


@pytest.mark.parametrize("mode", ["inference", "training"])
def test_three_counts_agree_and_stock_counters_miss_the_cores(mode):
    counts, memory = count_case(checked("eager", mode).built)
    assert counts.torch.macs == counts.macs
    assert counts.fvcore.macs == (counts.macs if mode == "inference" else None)
    assert counts.stock_torch.unaccounted
    assert memory.peak_bytes > 0
    assert (memory.saved_bytes > 0) == (mode == "training")


def test_training_counts_forward_and_both_gradients_of_what_it_runs():
    counts = {mode: count_case(build(case(mode=mode)))[0].macs for mode in ("inference", "training")}
    assert counts["training"] == 3 * counts["inference"]


def test_every_implementation_has_the_same_parameters():
    first, second = (build(case(name)).module.state_dict() for name in ("eager", "grid"))
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("spread", [0.5, 2.0])
def test_every_deformable_layer_has_the_stated_spread(spread):
    built = build(case(spread=spread, dtype="float64"))
    found = []
    for part in built.module.modules():
        if isinstance(part, DCNv3):
            part.offset.register_forward_hook(lambda layer, inputs, out: found.append(out.square().mean().sqrt()))
    with torch.no_grad():
        built.module(*built.inputs)
    assert len(found) == sum(TINY.stage_depths)
    assert [float(value) for value in found] == pytest.approx([spread] * len(found), rel=0.02)


def test_batch_norms_give_unit_variance_on_the_input_they_were_prepared_on():
    built = build(case(dtype="float64"))
    norm = built.module.backbone.conv_head[1][0]
    found = []
    norm.register_forward_hook(lambda layer, inputs, out: found.append(out - layer.bias[:, None, None]))
    with torch.no_grad():
        built.module(*built.inputs)
    (out,) = found
    scaled_by = out.square().mean((0, 2, 3)).sqrt() / norm.weight
    torch.testing.assert_close(scaled_by.abs(), torch.ones_like(scaled_by), rtol=0.1, atol=0.1)


def test_a_frozen_parameter_is_a_constant_neither_drawn_nor_differentiated():
    built = build(case(mode="training"))
    assert built.module.constant.item() == 3.0
    assert "constant" not in trained(built.module)
    assert "constant" not in built.differentiated
    assert "backbone.head.weight" in built.differentiated


def test_the_definition_leaves_the_running_statistics_that_it_is_given():
    built = build(case(mode="training"))
    before = {name: value.clone() for name, value in built.tensors.items()}
    built.operator.definition(built.case.dims, built.tensors, True)
    assert all(torch.equal(before[name], value) for name, value in built.tensors.items())


def test_a_layer_that_multiplies_in_a_way_not_known_has_no_closed_form():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(2, 2))

        def forward(self, x):
            return x @ self.weight

    with pytest.raises(ValueError, match=r"0: no closed form for a Odd, which holds matrices \(known: Conv2d"):
        structure(nn.Sequential(Odd()), torch.ones(1, 2))


def test_layers_called_twice_multiply_twice_and_hold_their_parameters_once():
    layer = nn.Linear(4, 4)
    found = structure(nn.Sequential(layer, layer), torch.ones(3, 4))
    assert (found.params, found.macs) == (20, 2 * 3 * 16)
    assert found.output == (3, 4)


def test_the_built_in_networks_are_declared_and_refuse_what_they_cannot_take():
    assert {"yolov8_model", "fpn_model", "internimage_model"} <= set(registry.tasks())
    intern = registry.operator("internimage_model", "internimage")
    assert intern.requires({"N": 1, "H": 224, "W": 224, "C": 64}) is None
    assert "no InternImage starts with C=65 channels" in intern.requires({"N": 1, "H": 224, "W": 224, "C": 65})
    assert "230 x 224 is no multiple of 32" in intern.requires({"N": 1, "H": 230, "W": 224, "C": 64})
    assert plain()["torch"].function is None


def test_a_case_is_data():
    assert msgspec.json.decode(msgspec.json.encode(case()), type=Case) == case()
