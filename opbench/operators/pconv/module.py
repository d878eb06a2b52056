"""Partial convolution as a layer, with the signature and weights of FasterNet's repository."""

from __future__ import annotations

from torch import Tensor, nn

from opbench.errors import nearest
from opbench.operators.common.arguments import check_image, check_whole
from opbench.operators.common.choice import Core
from opbench.operators.pconv.cores import CORES


class Partial_conv3(nn.Module):  # noqa: N801 - the name that its repository and every copy have
    """x (N, dim, H, W) -> (N, dim, H, W): a 3x3 convolution of the first dim // n_div channels; the others pass.

    Source: "Run, Don't Walk", arXiv 2303.03667, section 3.2, and `Partial_conv3` of JierunChen/FasterNet, whose
    argument order and state-dict keys these are. `forward` is how it is computed, "split_cat" or "slicing": one
    function. The published "slicing" is for inference only; here both are differentiable. `implementation` is a name
    from `opbench.operators.pconv.CORES`, "auto" or a callable of (x, weight); left out, it is `forward`.

    Raises ValueError for an unknown `forward`, for fewer channels than n_div and for an input of other channels.
    """

    def __init__(
        self, dim: int, n_div: int = 4, forward: str = "split_cat", *, implementation: str | Core | None = None
    ) -> None:
        super().__init__()
        check_whole("Partial_conv3", dim=dim, n_div=n_div)
        if forward not in CORES:
            raise ValueError(f"Partial_conv3: {nearest('forward', str(forward), CORES)}")
        if dim < n_div:
            raise ValueError(
                f"Partial_conv3: expected at least n_div={n_div} channels, so that one of them is convolved, got {dim=}"
            )
        self.dim = dim
        self.dim_conv3 = dim // n_div
        self.dim_untouched = dim - self.dim_conv3
        self.implementation: str | Core = forward if implementation is None else implementation
        self.partial_conv3 = nn.Conv2d(self.dim_conv3, self.dim_conv3, 3, 1, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """`x` (N, dim, H, W) -> (N, dim, H, W), in memory of its own."""
        check_image("Partial_conv3", x, self.dim)
        return CORES.choose(self.implementation, x.device.type)(x, self.partial_conv3.weight)

    def extra_repr(self) -> str:
        """How many channels pass."""
        return f"dim_untouched={self.dim_untouched}"
