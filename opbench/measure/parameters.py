"""Parameters, counted on the module."""

from __future__ import annotations

import torch


def count_parameters(module: torch.nn.Module) -> int:
    """Trainable parameters of a module; a tensor used twice counts once. Buffers (running statistics) don't count."""
    return sum(value.numel() for value in module.parameters())
