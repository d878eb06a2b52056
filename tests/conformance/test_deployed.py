"""Targets under torch.compile and exported; modules that are cores, or fit by name but for an activation."""

import pytest
import torch
from torch import nn

from opbench.conformance.adapting import core_of_module
from opbench.conformance.deployed import COMPILED, EXPORTED, NotTaken, differs
from opbench.conformance.findings import Request
from opbench.conformance.judging import prepare
from opbench.operators.carafe import YoloCARAFE


class Branches(nn.Module):
    def forward(self, x):
        return x if x.mean().item() > 100 else 2 * x


class ForgetsWhenExported(nn.Module):
    def forward(self, x):
        return x if torch.compiler.is_compiling() else 2 * x


@pytest.mark.parametrize("way", [COMPILED, EXPORTED], ids=lambda way: way.name)
def test_what_can_t_be_taken_is_told(way):
    with pytest.raises(NotTaken):
        differs(way, Branches(), (torch.ones(1, 2, 3, 3),))


def test_what_computes_something_else_once_exported_is_found():
    x = torch.ones(1, 2, 3, 3)
    assert "instead of" in differs(EXPORTED, ForgetsWhenExported(), (x,))
    assert differs(EXPORTED, nn.Conv2d(2, 2, 1), (x,)) is None


class TwoInputs(nn.Module):
    def forward(self, features, masks, size=5):
        return size * features + masks


def test_a_module_that_is_called_with_a_core_s_tensors_is_a_core():
    core = core_of_module(TwoInputs, 2)
    x = torch.ones(2)
    assert torch.equal(core(x, x, size=3), 4 * x)
    assert core_of_module(nn.Conv2d, 2) is None


class ReluForSilu(YoloCARAFE):
    def __init__(self, c, k_enc=3, k_up=5, c_mid=64, scale=2):
        super().__init__(c, k_enc=k_enc, k_up=k_up, c_mid=c_mid, scale=scale)
        self.comp.act = nn.ReLU()


def test_another_activation_round_a_right_core_is_fragile():
    judged = prepare(Request(f"{__file__}:ReluForSilu", "carafe", quick=True))
    named = next(one for one in judged.properties if one.name == "namesake")
    assert named.tier == "fragile"
    assert "ReLU, where YoloCARAFE has SiLU" in judged.instead
