"""The implementations of CARAFE's reassembly: ways to compute the same function, one entry of `IMPLEMENTATIONS` each.

Each takes `(x, mask, *, kernel_size, group_size, scale_factor)` as described at `opbench.operators.carafe.carafe`,
whose checks come first, and is differentiable in x and mask.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from opbench.kernels.cpu import processor
from opbench.kernels.cpu.carafe import carafe_cpu, carafe_cpu_logits
from opbench.kernels.triton import launch
from opbench.kernels.triton.carafe import carafe_triton, carafe_triton_logits
from opbench.operators.carafe import traffic
from opbench.operators.carafe.contraction import compiled
from opbench.operators.carafe.cores import shift_add, slices, unfold
from opbench.operators.common import compiling
from opbench.operators.common.choice import Core
from opbench.operators.external.peers import CARAFE_PEERS
from opbench.schema import Implementation

IMPLEMENTATIONS: Mapping[str, Implementation] = {
    implementation.name: implementation
    for implementation in (
        Implementation(
            "unfold",
            unfold,
            note="the YOLOv8 write-up's way, plus one step: the mask of taps outside the image is cleared",
        ),
        Implementation("shift-add", shift_add, unexportable="its tiles would be unrolled for one size of image"),
        Implementation(
            "slices",
            slices,
            exported=True,
            note="k*k shifted slices of the upsampled image, multiplied and added: the graph that exports best",
        ),
        Implementation("compiled", compiled, missing=compiling.missing, compiles=True, dispatched=True),
        Implementation(
            "cpu",
            carafe_cpu,
            unexportable=processor.UNEXPORTABLE,
            devices=("cpu",),
            missing=processor.missing,
            note="machine code through llvmlite, made on the first call and kept in the user's cache folder",
            traffic=traffic.CPU,
        ),
        Implementation(
            "triton",
            carafe_triton,
            unexportable=launch.UNEXPORTABLE,
            devices=("cuda",),
            missing=launch.missing,
            note="reads either memory format in place; no atomics. Not measured on a GPU yet",
            traffic=traffic.TRITON,
        ),
        *CARAFE_PEERS.values(),
    )
}
# Cores, and what takes an encoder's output in the place of their mask: pixel shuffle and softmax are in its kernels.
FUSED: Sequence[tuple[Core, Core]] = ((carafe_cpu, carafe_cpu_logits), (carafe_triton, carafe_triton_logits))
# What "auto" takes on a device type, or while a call is recorded for another runtime, where it is in the table and can
# run; else FALLBACK.
PREFERRED = {"cuda": ("triton",), "cpu": ("cpu",), "export": ("slices",)}
FALLBACK = "shift-add"
AUTOMATIC = ("triton", "cpu", FALLBACK)
