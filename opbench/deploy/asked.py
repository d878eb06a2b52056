"""Which files a deployment is asked for: runtimes, opsets, dtypes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from opbench.errors import nearest
from opbench.runtimes import RUNTIMES
from opbench.runtimes.of_onnx import OPSET, OPSETS, TRACED
from opbench.schema import DEFAULT_RUNTIME, OpbenchError

USUAL = ("onnxruntime", "openvino")
# What a file may compute in: NumPy, which the device has, knows no bfloat16.
FILE_DTYPES = ("float32", "float16")


class AskedFiles(NamedTuple):
    """Torch, beside which the others are held, and those that were asked for; those of them that are here."""

    runtimes: tuple[str, ...]
    able: tuple[str, ...]
    opsets: tuple[int, ...]
    dtypes: tuple[str, ...]


def asked_files(
    runtimes: Sequence[str], opsets: Sequence[int], dtypes: Sequence[str], *, int8: bool = False
) -> AskedFiles:
    """What was asked for, with what is usual where nothing was.

    Raises OpbenchError for a runtime, an opset or a dtype that isn't known, where none of the runtimes is here, and for
    `int8` without a file that can be quantised.
    """
    for name in runtimes:
        if name not in RUNTIMES:
            raise OpbenchError(f"--runtime: {nearest('runtime', name, RUNTIMES)}")
    for dtype in dtypes:
        if dtype not in FILE_DTYPES:
            raise OpbenchError(f"--dtype: {nearest('dtype', dtype, FILE_DTYPES)}")
    first, last = OPSETS
    for opset in opsets:
        if not first <= opset <= last:
            raise OpbenchError(f"--opset {opset}: expected {first} to {last}, which torch's exporters write")
    asked = tuple(dict.fromkeys((DEFAULT_RUNTIME, *(runtimes or USUAL))))
    able = tuple(name for name in asked if RUNTIMES[name].missing() is None)
    if able == (DEFAULT_RUNTIME,):
        missing = dict.fromkeys(RUNTIMES[name].missing() or "" for name in asked if name != DEFAULT_RUNTIME)
        raise OpbenchError(f"there is no runtime to deploy to: {'; '.join(missing) or '--runtime names torch alone'}")
    chosen = tuple(dict.fromkeys(dtypes or FILE_DTYPES[:1]))
    if int8 and not ("float32" in chosen and set(USUAL) & set(able)):
        raise OpbenchError(f"--int8 quantises float32 files of {' or '.join(USUAL)}, and none of them is written here")
    return AskedFiles(asked, able, tuple(dict.fromkeys(opsets or (OPSET, TRACED))), chosen)
