"""How Triton kernels are launched: whether they can be, with which tile sizes, and on which device.

Triton is imported with the first launch. Under its interpreter (TRITON_INTERPRET=1 before that) kernels run on CPU
tensors, one program at a time, to be tested.

Tile sizes are chosen by timing the few candidates that a kernel's launcher names, the first time a call of that kind
and size is met in a process; each takes a few milliseconds and, once per machine, its compilation. The results are the
same whatever is chosen: candidates differ in how the work is cut, never in the order of a sum. Nothing is timed under
the interpreter or while a CUDA graph is captured: what was chosen before is taken, else the first candidate.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

# Whose tensors the operations take: the CPU's for the interpreter.
DEVICES = ("cuda", "cpu")
# Milliseconds for which a candidate is run before and while it is timed.
WARM_UP, TIMED = 5, 20
# Registers that a thread can have, on every device so far.
MOST_REGISTERS = 255
# Programs of one launch.
MOST = 2**31


# Why no exporter can write a kernel down for another runtime.
UNEXPORTABLE = "it is a kernel of opbench's own"


def missing() -> str | None:
    """Why Triton kernels can't run here, or None."""
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed (pip install triton, on Linux)"
    if not torch.cuda.is_available():
        return "there is no CUDA device"
    return None


@dataclass(frozen=True)
class Candidate:
    """Sizes of a program's tile, by the names of the kernel's constants, and how many warps share it."""

    blocks: Mapping[str, int]
    warps: int = 4

    @property
    def options(self) -> dict[str, int]:
        """How it is compiled. Told no limit, ptxas spills a few registers here and there to get below a round number
        of them: it is given all there are.
        """
        return {"num_warps": self.warps, "num_stages": 1, "maxnreg": MOST_REGISTERS}


_chosen: dict[Hashable, Candidate] = {}


def choices() -> tuple[str, ...]:
    """What was chosen in this process, in order: kernel, dtype of its first tensor, tile sizes and warps."""
    return tuple(_said(key, candidate) for key, candidate in _chosen.items())


def _said(key: Any, candidate: Candidate) -> str:
    _, name, kinds, *_ = key
    blocks = " ".join(f"{block}={size}" for block, size in candidate.blocks.items())
    return f"{name} {str(kinds[0][0]).removeprefix('torch.')}: {blocks}, {candidate.warps} warps"


def launch(
    kernel: Any,
    candidates: Sequence[Candidate],
    programs: Callable[[Mapping[str, int]], tuple[Mapping[str, int], int]],
    tensors: Mapping[str, Tensor],
    arguments: Mapping[str, Any],
    constants: Mapping[str, Any],
    prepare: Callable[[], Any] = lambda: None,
) -> None:
    """Runs a kernel: `programs(blocks)` gives the arguments that depend on tile sizes, and how many programs there are.

    `prepare` comes before every run; choosing among candidates takes many. Raises RuntimeError for tensors that aren't
    all on one CUDA device, and ValueError for too large a problem.
    """
    import triton

    interpreted = not isinstance(kernel, triton.JITFunction)
    device = _device(tensors, interpreted)

    def start(candidate: Candidate) -> None:
        more, count = programs(candidate.blocks)
        if count >= MOST:
            raise ValueError(
                f"{kernel.__name__} would take {count} programs; expected fewer than {MOST}: split the batch"
            )
        prepare()
        kernel[(count,)](**tensors, **arguments, **more, **constants, **candidate.blocks, **candidate.options)

    if interpreted:
        start(candidates[0])
        return
    with torch.cuda.device(device):
        start(_choice(kernel, candidates, tensors, arguments, constants, start))


def _device(tensors: Mapping[str, Tensor], interpreted: bool) -> torch.device:
    devices = {tensor.device for tensor in tensors.values()}
    expected = "cpu" if interpreted else "cuda"
    if len(devices) == 1 and next(iter(devices)).type == expected:
        return next(iter(devices))
    got = ", ".join(f"{name} on {tensor.device}" for name, tensor in tensors.items())
    raise RuntimeError(f"the triton kernels take tensors on one {expected} device, got {got}: move the tensors")


def _choice(
    kernel: Any,
    candidates: Sequence[Candidate],
    tensors: Mapping[str, Tensor],
    arguments: Mapping[str, Any],
    constants: Mapping[str, Any],
    start: Callable[[Candidate], None],
) -> Candidate:
    """The fastest candidate for calls of this kind, timed once in a process."""
    if len(candidates) == 1:
        return candidates[0]
    kinds = tuple((tensor.dtype, tensor.device) for tensor in tensors.values())
    key = (kernel.__module__, kernel.__name__, kinds, *arguments.values(), *map(str, constants.values()))
    if key not in _chosen:
        if torch.cuda.is_current_stream_capturing():
            return candidates[0]
        from triton.runtime.errors import OutOfResources
        from triton.testing import do_bench

        times: dict[int, float] = {}
        for index, candidate in enumerate(candidates):
            try:
                times[index] = do_bench(lambda c=candidate: start(c), warmup=WARM_UP, rep=TIMED)
            except OutOfResources:  # a smaller device than the candidates were compiled for
                continue
        _chosen[key] = candidates[min(times, key=lambda index: times[index], default=0)]
    return _chosen[key]


def power_of_two(at_least: int) -> int:
    """The smallest power of two that isn't below a number: tiles have such sizes."""
    return 1 << max(0, at_least - 1).bit_length()


def strides_of(axes: str, **tensors: Tensor) -> dict[str, int]:
    """A kernel's arguments for the strides of tensors of these axes: a tensor's letter and its axis, as in xn, xc."""
    return {
        letter + axis: stride
        for letter, tensor in tensors.items()
        for axis, stride in zip(axes, tensor.stride(), strict=True)
    }


def spans_64_bits(tensors: Sequence[Tensor]) -> bool:
    """Whether places within one image of some tensor (all axes but the first) need 64 bits."""
    furthest = (
        sum((size - 1) * abs(stride) for size, stride in zip(t.shape[1:], t.stride()[1:], strict=True)) for t in tensors
    )
    return any(place >= 2**31 - 1 for place in furthest)
