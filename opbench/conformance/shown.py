"""A call as it is shown: shapes, dtypes, strides, and the values of what is small enough to be read."""

from __future__ import annotations

from opbench.conformance.findings import Counterexample, Values, plain
from opbench.relations import Example

# Tensors of more elements are shown by their shape alone.
READABLE = 64


def counterexample(example: Example, readable: int = READABLE) -> Counterexample:
    """The call as plain data."""
    tensors = {
        str(name): Values(
            shape=tuple(tensor.shape),
            dtype=str(tensor.dtype).removeprefix("torch."),
            stride=tuple(tensor.stride()),
            values=plain(tensor.detach().double().cpu().tolist()) if tensor.numel() <= readable else None,
        )
        for name, tensor in example.tensors.items()
    }
    return Counterexample(tensors, dict(example.options))
