"""How DCNv4's sampling shows inside a module whose offsets and masks stand apart: as DCNv3's, with masks of any sum."""

from __future__ import annotations

from dataclasses import replace

from opbench.operators.dcnv3.anatomy import ANATOMY as DCNV3

ANATOMY = replace(
    DCNV3,
    function="DCNv4's sampling",
    normalised={},
    own="DCNv4's layer",
    around={"before": ("1x1 convolution",), "branch": ("1x1 convolution",), "behind": ("1x1 convolution",)},
)
