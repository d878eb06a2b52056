"""The deterministic memory tracker against sums done by hand."""

import pytest
import torch

from opbench import plan, suites
from opbench.build import build
from opbench.measure.memory import LiveBytes, measure_memory

MIB = 1 << 20


def floats(mib):
    return torch.empty(mib * MIB // 4)


def test_the_peak_is_the_largest_sum_of_live_storages():
    x = floats(4)
    with LiveBytes([x]) as live:
        y = x + 1  # 4
        y = y * 2  # 8 for a moment
        del y
        z = x.view(-1)[: MIB // 4].clone()  # 1
    assert live.peak == 8 * MIB
    assert live.current == z.untyped_storage().nbytes() == MIB


def test_views_and_inputs_cost_nothing():
    x = floats(2)
    with LiveBytes([x]) as live:
        x.view(2, -1).t()[:, 1:]
        x.add_(1)
    assert live.peak == 0


def test_a_storage_made_anew_at_the_same_address_counts_again():
    x = floats(1)
    with LiveBytes([x]) as live:
        for _ in range(5):
            y = x + 1
            del y
    assert live.peak == MIB
    assert live.current == 0


def toy_case(mode):
    text = '[[workload]]\ntask="toy"\nname="w"\nsource="-"\ndims={N=1024, C=256}\ndevices=["cpu"]\n'
    laid_out = plan.plan(suites.parse(text, "toy", where="-"), {"mode": [mode]}, cuda=False)
    return laid_out.panels[0].cases[0]


@pytest.mark.usefixtures("toys")
def test_inference_holds_one_intermediate_and_the_output():
    # x * 2 * weight: the product with 2, then the output while the product still lives.
    memory = measure_memory(build(toy_case("inference")))
    assert (memory.peak_bytes, memory.saved_bytes, memory.predicted) == (2 * MIB, 0, False)


@pytest.mark.usefixtures("toys")
def test_training_keeps_what_backward_needs():
    # Kept for the gradient of weight: the product x * 2. The weight itself is a parameter and not counted.
    memory = measure_memory(build(toy_case("training")))
    assert memory.saved_bytes == MIB
    assert memory.peak_bytes >= 2 * MIB


@pytest.mark.usefixtures("toys")
def test_the_figure_is_the_same_every_time():
    assert len({measure_memory(build(toy_case("training"))).peak_bytes for _ in range(3)}) == 1
