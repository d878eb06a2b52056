"""An earlier place of DCNv3's modules: models that were saved whole name them here."""

import warnings

from opbench.operators.dcnv3.module import ChannelsFirstDCNv3, ChannelsLast, DCNv3, DCNV3_YoLo, _Conv

__all__ = ["ChannelsFirstDCNv3", "ChannelsLast", "DCNV3_YoLo", "DCNv3", "_Conv"]

warnings.warn(
    "opbench.operators.dcnv3_modules moved: import DCNv3 and DCNV3_YoLo from opbench.operators.dcnv3, the others from "
    "opbench.operators.dcnv3.module",
    DeprecationWarning,
    stacklevel=2,
)
