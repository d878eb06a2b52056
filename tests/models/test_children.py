"""Shares by child: they add up, name what a person wrote, and put time and bytes where they are spent."""

import pytest
import torch
from torch import nn

from opbench.models import children as module
from opbench.models.children import REST, children


class Clock:
    """Stands still but for what sleeps by it."""

    now = 0.0

    def perf_counter(self):
        return self.now


CLOCK = Clock()


@pytest.fixture(scope="module", autouse=True)
def clock():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "time", CLOCK)
        yield


class Sleeper(nn.Module):
    def forward(self, x):
        CLOCK.now += 2.0
        return x


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 1)
        self.body = nn.Sequential(Sleeper(), nn.ReLU())
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x):
        CLOCK.now += 0.5
        return self.body(self.stem(x)) * self.scale


@pytest.fixture(scope="module")
def parts():
    return {part.name: part for part in children(Net(), torch.randn(1, 3, 8, 8), rounds=3)}


def test_children_are_named_through_sequences_and_the_rest_is_named_too(parts):
    assert list(parts) == ["stem", "body.0", "body.1", REST]
    assert parts["body.0"].kind == "Sleeper"


def test_a_wrapper_with_one_child_is_looked_through():
    names = [part.name for part in children(nn.Sequential(Net()), torch.randn(1, 3, 4, 4), rounds=1)]
    assert names == ["0.stem", "0.body.0", "0.body.1", REST]


def test_time_goes_to_the_child_that_spends_it(parts):
    assert {name: part.seconds for name, part in parts.items()} == {"stem": 0, "body.0": 2, "body.1": 0, REST: 0.5}
    assert parts["body.0"].share == pytest.approx(0.8)


def test_parameters_and_bytes_are_each_childs_own(parts):
    assert {name: part.params for name, part in parts.items()} == {"stem": 16, "body.0": 0, "body.1": 0, REST: 1}
    assert parts["stem"].peak_bytes == 4 * 8 * 8 * 4
    assert parts["body.0"].peak_bytes == 0
    # ReLU keeps its output; the product by the scale keeps the same tensor, which is the ReLU's already.
    assert parts["body.1"].saved_bytes == 4 * 8 * 8 * 4
    assert parts[REST].saved_bytes == 0


def test_a_childs_peak_is_not_that_of_the_one_before_it():
    class Wasteful(nn.Module):
        def forward(self, x):
            CLOCK.now += 1.0
            return x.repeat(100, 1).sum(0, keepdim=True)

    found = {part.name: part for part in children(nn.Sequential(Wasteful(), nn.ReLU()), torch.zeros(1, 8), rounds=1)}
    assert found["0"].peak_bytes >= 100 * 8 * 4
    assert found["1"].peak_bytes == 8 * 4


def test_a_child_called_twice_has_both_calls_in_one():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.nap = Sleeper()
            self.other = nn.ReLU()

        def forward(self, x):
            return self.other(self.nap(self.nap(x)))

    found = {part.name: part for part in children(Twice(), torch.zeros(1), rounds=1)}
    assert found["nap"].seconds == 4


def test_fewer_than_one_round_is_refused():
    with pytest.raises(ValueError, match="rounds: expected at least 1, got 0"):
        children(Net(), torch.zeros(1, 3, 4, 4), rounds=0)


def test_no_hook_is_left_behind():
    network = Net()
    children(network, torch.randn(1, 3, 4, 4), rounds=1)
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in network.modules())
