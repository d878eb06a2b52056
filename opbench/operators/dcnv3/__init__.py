"""DCNv3, deformable convolution v3 (InternImage, arXiv 2211.05778): the sampling as a function, and its two modules.

dcnv3(x, offset, mask, *, kernel_size, stride=1, pad, dilation=1, group, offset_scale=1.0, remove_center=False)
DCNv3(channels=64, kernel_size=3, ...)             channels last
DCNV3_YoLo(inc, ouc, k=1, s=1, p=None, g=1, d=1)   channels first
"""

from opbench.operators.dcnv3 import conv3x3, dcnv3_core, downsample2x
from opbench.operators.dcnv3.cores import CORES
from opbench.operators.dcnv3.cost import COUNTING, FORMULAS, core_macs
from opbench.operators.dcnv3.dcnv3_core import NUDGE, PAPER, Sampling
from opbench.operators.dcnv3.definition import dcnv3_definition
from opbench.operators.dcnv3.function import dcnv3
from opbench.operators.dcnv3.module import DCNv3, DCNV3_YoLo
from opbench.operators.dcnv3.settings import output_size
from opbench.operators.dcnv3.terms import dcnv3_terms
from opbench.tasks import SAME, groups_divide

CORE = dcnv3_core.OPERATOR
TASKS = (dcnv3_core.TASK,)
OPERATORS = (conv3x3.MODULE, conv3x3.BLOCK, downsample2x.MODULE, downsample2x.BLOCK, CORE)

__all__ = [
    "CORE",
    "CORES",
    "COUNTING",
    "FORMULAS",
    "NUDGE",
    "OPERATORS",
    "PAPER",
    "SAME",
    "TASKS",
    "DCNV3_YoLo",
    "DCNv3",
    "Sampling",
    "core_macs",
    "dcnv3",
    "dcnv3_definition",
    "dcnv3_terms",
    "groups_divide",
    "output_size",
]
