"""Which core a call runs."""

import pytest

from opbench.operators.common.choice import choose
from opbench.schema import Implementation

CORES = {
    core.name: core
    for core in (
        Implementation("plain", min),
        Implementation("fast", max, devices=("cpu",)),
        Implementation("absent", sum, missing=lambda: "it needs a part that is not here"),
    )
}


def chosen(implementation, device="cpu", preferred=("absent", "later", "fast")):
    return choose(implementation, CORES, device, {"cpu": preferred}, "plain")


def test_auto_is_the_first_preferred_core_that_is_known_and_runs():
    assert chosen("auto") is max
    assert chosen("auto", preferred=("absent", "later")) is min
    assert chosen("auto", device="cuda") is min


def test_a_name_or_a_callable_is_taken_as_it_is():
    assert chosen("plain") is min
    assert chosen(abs) is abs


@pytest.mark.parametrize(
    ("implementation", "device", "error", "message"),
    [
        ("fats", "cpu", ValueError, "did you mean 'fast'"),
        ("fast", "cuda", ValueError, "'fast' runs on cpu, but x is on cuda"),
        ("absent", "cpu", RuntimeError, "'absent' can't run here: it needs a part that is not here"),
        (3, "cpu", TypeError, "expected a name or a callable with the core's signature, got 3"),
    ],
)
def test_what_can_not_run_is_refused_with_the_reason(implementation, device, error, message):
    with pytest.raises(error, match=message):
        chosen(implementation, device)
