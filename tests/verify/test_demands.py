"""A definition that the error bounds can't follow is refused in a sentence, and a constant buffer is never drawn."""

import dataclasses

import msgspec
import pytest
import torch
from torch import nn

from opbench import registry
from opbench.build import build, draw_parameters
from opbench.schema import Case, OpbenchError
from opbench.verify.demands import broken
from opbench.verify.gate import reference

CASE = Case("upsample2x", "w", "nearest", "torch", {"N": 1, "C": 2, "H": 3, "W": 3}, "float32", "cpu", "training")


def meta(*shape):
    return torch.empty(shape, dtype=torch.float64, device="meta")


def sampled(cell):
    def evaluate():
        x, at = meta(1, 2, 20), meta(1, 2, 20) * 3 + torch.arange(20, device="meta")
        left = cell(at)
        index = (left + 1).clamp(0, 19).long()
        return x.gather(2, index) * (at - left)

    return evaluate


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        (torch.floor, ""),
        (torch.trunc, "torch.trunc"),
        (torch.round, "torch.round"),
        (torch.ceil, "torch.ceil"),
        (lambda at: at.long(), "a conversion to integers"),
        (lambda at: torch.floor(at).long(), ""),
        (lambda at: (torch.floor(at) * 0.5).long(), "a conversion to integers"),
    ],
)
def test_a_cell_comes_from_floor(cell, said):
    found = broken(sampled(cell))
    assert (f"finds a sample's cell by {said}" in found) if said else found == ""


@pytest.mark.parametrize(
    "evaluate",
    [
        lambda: meta(3).sum().item(),
        lambda: meta(3)[meta(3) > 0],
        lambda: 1 if meta(3).sum() > 0 else 0,
    ],
)
def test_a_definition_that_reads_values_is_refused(evaluate):
    assert broken(evaluate).startswith("can't be evaluated on meta tensors")


@pytest.mark.parametrize("mode", ["inference", "training"])
def test_a_verdict_on_such_a_definition_is_no_verdict(mode, monkeypatch):
    registry.load()

    def definition(dims, tensors, training):
        x = tensors["x"]
        return x.repeat_interleave(2, 2).repeat_interleave(2, 3) * torch.round(x.sum())

    before = registry.operator("upsample2x", "nearest")
    monkeypatch.setitem(
        registry._operators, ("upsample2x", "nearest"), dataclasses.replace(before, definition=definition)
    )
    with pytest.raises(OpbenchError, match=r"^upsample2x/nearest: its definition finds a sample's cell by torch.round"):
        # Another size than any other test's: what was found about a shape is kept.
        reference(build(msgspec.structs.replace(CASE, mode=mode, dims={"N": 1, "C": 2, "H": 3, "W": 5})))


class Held(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3))
        self.register_buffer("start", torch.tensor([0.25, -0.25]))
        self.register_buffer("table", torch.ones(4))
        self.norm = nn.BatchNorm2d(3)


def test_a_constant_buffer_stays_and_running_statistics_are_drawn():
    module = Held()
    draw_parameters(module, torch.Generator().manual_seed(0))
    assert torch.equal(module.start, torch.tensor([0.25, -0.25]))
    assert torch.equal(module.table, torch.ones(4))
    assert module.weight.abs().min() > 0
    assert module.norm.running_mean.abs().min() > 0
    assert float((module.norm.running_var - 1).abs().max()) > 0


def test_an_operator_says_which_other_buffers_are_drawn():
    module = Held()
    draw_parameters(module, torch.Generator().manual_seed(0), ("table",))
    assert torch.equal(module.start, torch.tensor([0.25, -0.25]))
    assert not torch.equal(module.table, torch.ones(4))
    assert torch.equal(module.norm.running_mean, torch.zeros(3))
