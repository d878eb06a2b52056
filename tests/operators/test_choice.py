"""Which core a call runs."""

import pytest

from opbench.operators.common import choice
from opbench.operators.common.choice import CoreTable
from opbench.schema import Implementation

CORES = (
    Implementation("plain", min),
    Implementation("fast", max, devices=("cpu",)),
    Implementation("absent", sum, missing=lambda: "it needs a part that is not here"),
)


def table(kernels=("absent", "fast"), **options):
    return CoreTable(*CORES, fallback="plain", kernels=kernels, **options)


def chosen(implementation, device="cpu", **options):
    return table(**options).choose(implementation, device)


def test_auto_is_the_first_kernel_that_runs_here():
    assert chosen("auto") is max
    assert chosen("auto", kernels=("absent",)) is min
    assert chosen("auto", device="cuda") is min


@pytest.mark.parametrize(("export", "expected"), [("plain", min), (None, max)])
def test_while_a_call_is_recorded_auto_is_what_the_table_exports_if_it_says_so(monkeypatch, export, expected):
    monkeypatch.setattr(choice, "recording", lambda: True)
    assert chosen("auto", export=export) is expected


def test_more_cores_change_nothing_about_auto():
    more = table(export="plain").extended(Implementation("later", any))
    assert list(more) == ["plain", "fast", "absent", "later"]
    assert (more.automatic, more.export) == (("absent", "fast", "plain"), "plain")


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
