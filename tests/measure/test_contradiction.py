"""When a counter contradicts an operator's closed form."""

import pytest

from opbench.measure.macs import contradiction
from opbench.schema import Counted, Counts


def counts(macs, torch, fvcore=None, **unaccounted):
    missed = {f"aten.{name}": times for name, times in unaccounted.items()}
    unseen = Counted(macs=None)
    return Counts(
        params=1, macs=macs, min_bytes=1, torch=Counted(torch, missed),
        fvcore=Counted(fvcore) if fvcore is not None else unseen, stock_torch=unseen, stock_fvcore=unseen,
    )  # fmt: skip


def test_counters_that_agree_contradict_nothing():
    assert contradiction(counts(100, 100, 100, add=3)) == ""


def test_a_counter_that_sees_more_contradicts():
    said = contradiction(counts(100, 101, mul=1))
    assert said == "its closed form says 100 MACs, torch's counter sees 101"


def test_a_counter_that_missed_no_product_and_sees_less_contradicts():
    assert contradiction(counts(100, 90, silu=2, native_batch_norm=1))
    assert contradiction(counts(100, 100, 99)) == "its closed form says 100 MACs, fvcore sees 99"


@pytest.mark.parametrize("name", ["mul", "grid_sampler_2d"])
def test_a_counter_that_missed_products_may_see_less(name):
    assert contradiction(counts(100, 90, **{name: 1})) == ""


def test_an_operation_of_somebody_else_may_hold_products():
    seen = Counted(90, {"torchvision.deform_conv2d": 1})
    unseen = Counted(None)
    assert contradiction(Counts(1, 100, 1, seen, unseen, unseen, unseen)) == ""
