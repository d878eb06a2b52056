"""The implementations of CARAFE's reassembly: ways to compute the same function, one entry of `IMPLEMENTATIONS` each.

Each takes `(x, mask, *, kernel_size, group_size, scale_factor)` as described at `opbench.operators.carafe.carafe`,
whose checks come first, and is differentiable in x and mask.
"""

from __future__ import annotations

from opbench.kernels.cpu.carafe import carafe_cpu, carafe_cpu_logits
from opbench.kernels.triton.carafe import carafe_triton, carafe_triton_logits
from opbench.operators.carafe import traffic
from opbench.operators.carafe.contraction import compiled
from opbench.operators.carafe.cores import shift_add, slices, unfold
from opbench.operators.common.choice import CoreTable
from opbench.operators.common.kernels import cpu_kernel, fused_steps, triton_kernel
from opbench.operators.external.peers import CARAFE_PEERS
from opbench.schema import Implementation

IMPLEMENTATIONS = CoreTable(
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
    fused_steps(compiled),
    cpu_kernel(carafe_cpu, traffic.CPU),
    triton_kernel(
        carafe_triton, traffic.TRITON, "reads either memory format in place; no atomics. Not measured on a GPU yet"
    ),
    *CARAFE_PEERS.values(),
    fallback="shift-add",
    kernels=("triton", "cpu"),
    export="slices",
    # Pixel shuffle and softmax are in these kernels.
    fused=((carafe_cpu, carafe_cpu_logits), (carafe_triton, carafe_triton_logits)),
)
