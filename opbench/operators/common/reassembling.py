"""What the layers of CARAFE's family have in common: how they begin, and the masks that they predict."""

from __future__ import annotations

from torch import Tensor, nn


def initialise(compressor: nn.Conv2d, encoder: nn.Conv2d) -> None:
    """The package's: xavier-uniform, the encoder N(0, 0.001), biases zero; a fresh layer is close to a box blur."""
    nn.init.xavier_uniform_(compressor.weight)
    nn.init.normal_(encoder.weight, std=0.001)
    for convolution in (compressor, encoder):
        assert convolution.bias is not None
        nn.init.zeros_(convolution.bias)


def weights(logits: Tensor, groups: int, kernel_size: int, like: Tensor) -> Tensor:
    """`logits` (N, groups*k*k, H, W) -> their softmax over the k*k taps of each group, in the dtype of `like`."""
    mask: Tensor = logits.unflatten(1, (groups, kernel_size**2)).softmax(2).flatten(1, 2)
    return mask.to(like.dtype)  # under autocast, softmax returns float32
