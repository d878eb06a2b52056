"""Whether a call is being written down for another runtime."""

from __future__ import annotations

import torch
from torch.jit._trace import is_tracing


def exporting() -> bool:
    """Whether `torch.export` or `torch.onnx` (either exporter) is recording this call."""
    return torch.compiler.is_exporting() or torch.onnx.is_in_onnx_export()


def recording() -> bool:
    """The same, or `torch.jit.trace`: what is recorded is to run where opbench isn't."""
    return exporting() or bool(is_tracing())
