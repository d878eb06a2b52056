"""Cores of DCNv4: ways to compute the same sampling, one function and one entry of `CORES` each.

Every core takes (x, offset_mask, *, kernel_size, stride, pad, dilation, group, offset_scale, remove_center) as
described at `opbench.operators.dcnv4.dcnv4`, whose checks come first, and is differentiable in both. The function is
DCNv3's sampling with masks as they come, so that DCNv3's cores compute it from the parts of the packed layout; the
kernels, `cpu` and `triton`, read the layout itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import Tensor

from opbench.kernels.cpu.dcnv4 import dcnv4_cpu
from opbench.kernels.dcnv4_packed import unpack
from opbench.kernels.triton.dcnv4 import dcnv4_triton
from opbench.operators.common.choice import CoreTable
from opbench.operators.dcnv3.cores import CORES as DCNV3
from opbench.operators.dcnv4 import traffic
from opbench.operators.external.peers import DCNV4_PEERS
from opbench.schema import Implementation


def _unpacked(core: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """DCNv3's core behind the packed layout."""

    def function(
        x: Tensor,
        offset_mask: Tensor,
        *,
        kernel_size: int,
        group: int,
        remove_center: bool,
        **options: Any,
    ) -> Tensor:
        parts = unpack(offset_mask, group, kernel_size**2 - remove_center)
        return core(x, *parts, kernel_size=kernel_size, group=group, remove_center=remove_center, **options)

    return function


def _taken(name: str) -> Implementation:
    core = DCNV3[name]
    assert core.function is not None
    return replace(core, function=_unpacked(core.function))


CORES = CoreTable(
    *(_taken(name) for name in ("grid-sample", "gather", "compiled")),
    replace(DCNV3["cpu"], function=dcnv4_cpu, traffic=traffic.CPU),
    replace(DCNV3["triton"], function=dcnv4_triton, traffic=traffic.TRITON),
    *DCNV4_PEERS.values(),
    fallback=DCNV3.fallback,
    kernels=DCNV3.kernels,
    export=DCNV3.export,
)
