"""The entries of a table of cores that are alike for every operator: its kernels, and what torch.compile makes."""

from __future__ import annotations

from collections.abc import Mapping

from opbench.kernels.cpu import processor
from opbench.kernels.triton import launch
from opbench.operators.common import compiling
from opbench.operators.common.choice import Core
from opbench.schema import Implementation, MovedBytes

MACHINE_CODE = "machine code through llvmlite, made on the first call and kept in the user's cache folder"


def cpu_kernel(function: Core, traffic: Mapping[str, MovedBytes], note: str = MACHINE_CODE) -> Implementation:
    """The entry `cpu`: a kernel that llvmlite compiles."""
    return Implementation(
        "cpu",
        function,
        unexportable=processor.UNEXPORTABLE,
        devices=("cpu",),
        missing=processor.missing,
        note=note,
        traffic=traffic,
    )


def triton_kernel(
    function: Core, traffic: Mapping[str, MovedBytes], note: str, *, deterministic_backward: bool = True
) -> Implementation:
    """The entry `triton`: a kernel for CUDA."""
    return Implementation(
        "triton",
        function,
        unexportable=launch.UNEXPORTABLE,
        devices=("cuda",),
        missing=launch.missing,
        deterministic_backward=deterministic_backward,
        note=note,
        traffic=traffic,
    )


def fused_steps(function: Core, note: str = "") -> Implementation:
    """The entry `compiled`: torch.compile fuses its steps, and what moves bytes stays an operation of torch's."""
    return Implementation("compiled", function, missing=compiling.missing, compiles=True, dispatched=True, note=note)
