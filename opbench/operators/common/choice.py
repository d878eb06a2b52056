"""Which core a call runs: a name from the operator's table, "auto", or a callable of one's own."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TypeAlias

from torch import Tensor

from opbench.errors import nearest
from opbench.operators.common.exporting import exporting, recording
from opbench.schema import Implementation

Core: TypeAlias = Callable[..., Tensor]


# How many look for the core inside a layer now.
_watchers = 0


@contextlib.contextmanager
def unfused() -> Iterator[None]:
    """Meanwhile layers make masks before they call a core: who looks for the core inside sees what it is given."""
    global _watchers
    _watchers += 1
    try:
        yield
    finally:
        _watchers -= 1


class CoreTable(dict[str, Implementation]):
    """An operator's cores by name, and which of them "auto" means.

    "auto" takes the first of the `kernels` that runs on the tensors' device and can run here, else `fallback`; while a
    call is recorded for another runtime (`torch.onnx`, `torch.export`, `torch.jit.trace`) it takes `export`, where that
    is given. `fused` are pairs of a core and a function of the same arguments, but for logits in the place of the mask.
    """

    def __init__(
        self,
        *cores: Implementation,
        fallback: str,
        kernels: tuple[str, ...] = (),
        export: str | None = None,
        fused: tuple[tuple[Core, Core], ...] = (),
    ) -> None:
        super().__init__((core.name, core) for core in cores)
        self.fallback, self.kernels, self.export, self.fused = fallback, kernels, export, fused

    def extended(self, *cores: Implementation) -> CoreTable:
        """The same with more cores, which "auto" never means."""
        return CoreTable(
            *self.values(), *cores, fallback=self.fallback, kernels=self.kernels, export=self.export, fused=self.fused
        )

    @property
    def automatic(self) -> tuple[str, ...]:
        """What "auto" means, the first that runs on the device: an operator's `preferred`."""
        return (*self.kernels, self.fallback)

    def check_name(self, implementation: str | Core) -> None:
        """A misspelt name fails where it was written, not at the first call. Raises ValueError for an unknown one."""
        if isinstance(implementation, str) and implementation != "auto" and implementation not in self:
            raise ValueError(nearest("implementation", implementation, ("auto", *self)))

    def choose(self, implementation: str | Core, device: str) -> Core:
        """The core to call on tensors of a device type ("cpu", "cuda", ...).

        Raises ValueError for an unknown name or one that doesn't run on this device, RuntimeError for one that can't
        run on this machine, TypeError for anything that is neither a name nor a callable.
        """
        if not isinstance(implementation, str):
            if not callable(implementation):
                raise TypeError(
                    f"implementation: expected a name or a callable with the core's signature, got {implementation!r}"
                )
            return implementation
        if implementation == "auto":
            implementation = self._meant(device)
        self.check_name(implementation)
        chosen = self[implementation]
        # A device type opbench doesn't know (mps, xpu, meta) is left to torch: its own error names the operation.
        if device in ("cpu", "cuda") and device not in chosen.devices:
            raise ValueError(
                f"implementation {implementation!r} runs on {', '.join(chosen.devices)}, but x is on {device}: "
                f"move the tensors, or use implementation='auto'"
            )
        if exporting() and chosen.obstacle_to_export:
            named = ", ".join(
                repr(name) for name, core in self.items() if not (core.obstacle_to_export or core.missing())
            )
            raise RuntimeError(
                f"implementation {implementation!r} can't be exported: {chosen.obstacle_to_export}; "
                f"use implementation='auto', or one of {named}"
            )
        reason = chosen.missing()
        if reason is not None:
            raise RuntimeError(f"implementation {implementation!r} can't run here: {reason}")
        assert chosen.function is not None
        return chosen.function

    def of_logits(self, core: Core) -> Core | None:
        """What takes logits in the place of a core's mask; None where nothing does, or while cores are `unfused`.

        By identity: somebody's callable may have no hash.
        """
        return None if _watchers else next((fused for plain, fused in self.fused if plain is core), None)

    def _meant(self, device: str) -> str:
        """What "auto" means now."""
        if self.export is not None and recording():
            return self.export
        running = [name for name in self.kernels if device in self[name].devices and self[name].missing() is None]
        return running[0] if running else self.fallback
