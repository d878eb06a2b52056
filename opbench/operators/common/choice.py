"""Which core a call runs: a name from the operator's table, "auto", or a callable of one's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from torch import Tensor

from opbench.errors import nearest
from opbench.operators.common.exporting import exporting, recording
from opbench.schema import Implementation

Core: TypeAlias = Callable[..., Tensor]


def from_logits(core: Core, fused: Sequence[tuple[Core, Core]]) -> Core | None:
    """What takes logits in the place of `core`'s mask, of pairs of both; None where nothing does.

    By identity: somebody's callable may have no hash.
    """
    return next((logits for mask, logits in fused if mask is core), None)


def choose(
    implementation: str | Core,
    cores: Mapping[str, Implementation],
    device: str,
    preferred: Mapping[str, Sequence[str]],
    fallback: str,
) -> Core:
    """The core to call on tensors of a device type ("cpu", "cuda", ...).

    "auto" takes the first of the device's `preferred` cores that is in the table and can run here, else `fallback`;
    while a call is recorded for another runtime (`torch.onnx`, `torch.export`, `torch.jit.trace`) it takes the first of
    `preferred["export"]`.
    Raises ValueError for an unknown name or one that doesn't run on this device, RuntimeError for one that can't run
    on this machine, TypeError for anything that is neither a name nor a callable.
    """
    if not isinstance(implementation, str):
        if not callable(implementation):
            raise TypeError(
                f"implementation: expected a name or a callable with the core's signature, got {implementation!r}"
            )
        return implementation
    if implementation == "auto":
        wanted = preferred.get("export" if recording() and "export" in preferred else device, ())
        names = [name for name in wanted if name in cores and cores[name].missing() is None]
        implementation = names[0] if names else fallback
    if implementation not in cores:
        raise ValueError(nearest("implementation", implementation, ("auto", *cores)))
    chosen = cores[implementation]
    # A device type opbench doesn't know (mps, xpu, meta) is left to torch: its own error names the operation.
    if device in ("cpu", "cuda") and device not in chosen.devices:
        raise ValueError(
            f"implementation {implementation!r} runs on {', '.join(chosen.devices)}, but x is on {device}: "
            f"move the tensors, or use implementation='auto'"
        )
    if exporting() and chosen.obstacle_to_export:
        named = ", ".join(repr(name) for name, core in cores.items() if not (core.obstacle_to_export or core.missing()))
        raise RuntimeError(
            f"implementation {implementation!r} can't be exported: {chosen.obstacle_to_export}; "
            f"use implementation='auto', or one of {named}"
        )
    reason = chosen.missing()
    if reason is not None:
        raise RuntimeError(f"implementation {implementation!r} can't run here: {reason}")
    assert chosen.function is not None
    return chosen.function
