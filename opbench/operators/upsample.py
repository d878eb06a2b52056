"""An earlier place of what `interpolation`, `deconv`, `pixel_shuffle` and `spatial_attention` hold now."""

import warnings

from opbench.operators.common.upsampling import Upsampler as Rival
from opbench.operators.deconv import DECONV
from opbench.operators.interpolation import INTERPOLATIONS
from opbench.operators.interpolation.cost import FORMULAS
from opbench.operators.pixel_shuffle import PIXEL_SHUFFLE
from opbench.operators.spatial_attention import ATTENTION, SpatialAttention

__all__ = ["FORMULAS", "RIVALS", "Rival", "SpatialAttention"]

RIVALS = (*INTERPOLATIONS, DECONV, PIXEL_SHUFFLE, ATTENTION)

warnings.warn(
    "opbench.operators.upsample moved: import from opbench.operators.interpolation, .deconv, .pixel_shuffle or "
    ".spatial_attention",
    DeprecationWarning,
    stacklevel=2,
)
