"""What an exception of a target's says: it refuses a call, is fragile, needs another device, or is at fault.

No fault are NotImplementedError, a failed assertion, and a ValueError that names an option. Fragile is what works on
plain float32 tensors and raises on a rarer dtype, or on memory that isn't contiguous.
"""

from __future__ import annotations

import linecache
import re
import traceback
from collections.abc import Collection

from opbench.errors import text_of
from opbench.relations import Example, Space

MEMORY = re.compile(r"can't allocate memory|not enough memory|out of memory|bad_?alloc", re.IGNORECASE)
NEEDS_CUDA = re.compile(
    r"not compiled with CUDA|no NVIDIA driver|No CUDA GPUs|is_cuda|must be (on )?a? ?CUDA|expected .*\bCUDA\b"
    r"|cannot be accessed from Triton|0 active drivers|Could not find .*CUDA|not implemented (on|for) (the )?'?CPU"
    r"|with arguments from the 'CPU' backend",
    re.IGNORECASE,
)
# torch's own words for a kernel that lacks a dtype.
LACKS_DTYPE = re.compile(r"not implemented for '")
MIXES_DTYPES = re.compile(
    r"expected scalar type \w+ but (found|got)|same dtype|expected .*dtype|should be the same|to have the same type"
    r"|Found dtype \w+ but expected",
    re.IGNORECASE,
)
NEEDS_CONTIGUOUS = re.compile(
    r"view size is not compatible|must be contiguous|is not contiguous|only supports? contiguous", re.IGNORECASE
)
# torch's own words for an operation that lacks a backward pass for a memory format, whatever the module does.
TORCH_REFUSES_FORMAT = re.compile(r"Unsupported memory format")
# Of a target: whatever its code may raise.
WHAT_A_TARGET_RAISES = (Exception, SystemExit, GeneratorExit, KeyboardInterrupt)


def refuses(error: BaseException, message: str, made: Example, words: Collection[str]) -> bool:
    """Whether the target says that it can't be called so."""
    if isinstance(error, (NotImplementedError, AssertionError)) or LACKS_DTYPE.search(message):
        return True
    if not isinstance(error, ValueError):
        return False
    return _names_one({*made.options, *words}, text_of(error), but=set(made.tensors))


def raises_on(dtype: str) -> str:
    """The sentence about a target that a rarer dtype was forgotten in."""
    return f"raises on {dtype} inputs"


def fragile_because(message: str, made: Example, space: Space, *, strided: bool) -> str:
    """The sentence about a call that raises though plain ones work; "" where that isn't known.

    `strided` says that something of the call isn't contiguous beside its tensors.
    """
    if space.dtype != "float32" and MIXES_DTYPES.search(message):
        return raises_on(space.dtype)
    if NEEDS_CONTIGUOUS.search(message) and (strided or not all(t.is_contiguous() for t in made.tensors.values())):
        return "raises where memory isn't contiguous"
    return ""


def is_missing_cuda(error: BaseException, message: str) -> bool:
    """Whether it is the words of code that wants a GPU."""
    kinds = (RuntimeError, AssertionError, ValueError, TypeError)
    if isinstance(error, AssertionError) and "cuda" in line_of(error):  # a bare `assert x.is_cuda`
        return True
    return isinstance(error, kinds) and bool(NEEDS_CUDA.search(message))


def line_of(error: BaseException) -> str:
    """The line of the target's own code that raised, as in `line 12: x = x.cuda()`; "" where that can't be told."""
    frame = _own_frame(error)
    if frame is None:
        return ""
    return f"line {frame.lineno}: {(frame.line or linecache.getline(frame.filename, frame.lineno or 0)).strip()}"


def place_of(error: BaseException) -> str:
    """Where in the target's own code it was raised, as far as that can be told."""
    frame = _own_frame(error)
    return "" if frame is None else f" ({frame.filename.rsplit('/', 1)[-1]}, line {frame.lineno})"


def _own_frame(error: BaseException) -> traceback.FrameSummary | None:
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        elsewhere = ("site-packages", "opbench/verify", "opbench\\verify", "opbench/conformance", "/relations/", "<")
        if not any(part in frame.filename for part in elsewhere):
            return frame
    return None


def _names_one(options: Collection[str], message: str, but: Collection[str]) -> bool:
    """Whether the message speaks of an option: by its name, or by its first word unless that is a tensor's name."""
    whole = {*options, *(name.replace("_", " ") for name in options)}
    heads = {head for name in options if len(head := name.split("_")[0]) > 2} - set(but)
    patterns = [*(rf"\b{re.escape(name)}\b" for name in whole), *(rf"\b{re.escape(head)}" for head in heads)]
    return any(re.search(pattern, message, re.IGNORECASE) for pattern in patterns)
