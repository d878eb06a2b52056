"""The decorator that says which cases a test with the fixture `opbench_case` goes through."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest
    import torch

    from opbench.schema import Device, DType, Mode, Operator


def cases(
    operator: str | Operator,
    *,
    core: Callable[..., torch.Tensor] | None = None,
    module: Callable[[Mapping[str, Any]], torch.nn.Module] | None = None,
    name: str = "",
    task: str = "",
    suite: str = "smoke",
    workloads: Mapping[str, Mapping[str, int]] | None = None,
    dtypes: Sequence[DType] = ("float32",),
    modes: Sequence[Mode] = ("inference", "training"),
    devices: Sequence[Device] = ("cpu",),
) -> pytest.MarkDecorator:
    """Parametrises a test that asks for `opbench_case`: one run for each workload, dtype, mode and device.

    operator: what is computed: "carafe", or one implementation of it, "carafe[cpu]", or an `Operator` of one's own.
    core: a function with the signature of the operator's core, as CARAFE's x (N, C, H, W), mask (N, g*k*k, s*H, s*W)
    -> (N, C, s*H, s*W), which takes the place of its implementations. module: a function from dimensions, as in
    {"N": 1, "C": 64, "H": 20, "W": 20, "k_up": 5}, to a module with the parameters of the operator's own: it is held to
    the same definition. Without either, all implementations of the operator are cases.

    `name` is what core or module is called in the names of cases. `task` is a slot or core of the operator; left out,
    every one that fits. `workloads` are dimensions by name and take the place of those of the `suite`, a built-in one's
    name or FILE.toml. What can't run here is skipped with its reason. Nothing is imported before tests are collected.

    >>> @cases("carafe[shift-add]", modes=["inference"])
    ... def test_time(opbench_case, benchmark):
    ...     opbench_case.time(benchmark)
    """
    import pytest

    from opbench.testing.plugin import MARKER

    marker: pytest.MarkDecorator = getattr(pytest.mark, MARKER)
    return marker(
        operator,
        core=core,
        module=module,
        name=name,
        task=task,
        suite=suite,
        workloads=workloads,
        dtypes=tuple(dtypes),
        modes=tuple(modes),
        devices=tuple(devices),
    )
