"""Code that a compiler fuses into one operation, called so that whoever counts what a call moves can see it.

A compiled function passes torch's dispatcher by: under a mode that watches the dispatcher torch runs the code
uncompiled instead, which has operations, and memory, that the compiled code has not. So the code is one operation to
such a mode.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes, _get_current_dispatch_mode


class FusedWatcher(TorchDispatchMode):
    """A dispatch mode that is told of each call of fused code and sees nothing of what is inside."""

    @abstractmethod
    def fused(self, name: str, inputs: Iterable[Any], outputs: Any) -> None:
        """One call."""


def fused(function: Callable[..., Any], compiled: Callable[..., Any]) -> Callable[..., Any]:
    """`compiled`, a compilation of `function`, which computes the same: that is what a watcher's calls run."""

    def call(*args: Any, **kwargs: Any) -> Any:
        watcher = _get_current_dispatch_mode()
        if not isinstance(watcher, FusedWatcher):
            return compiled(*args, **kwargs)
        with _disable_current_modes():
            outputs = function(*args, **kwargs)
        watcher.fused(function.__name__, (*args, *kwargs.values()), outputs)
        return outputs

    return call
