"""How Triton kernels are launched: whether they can be, with which tile sizes, and on which device.

Triton is imported with the first launch. Under its interpreter (TRITON_INTERPRET=1 before that) kernels run on CPU
tensors, one program at a time, to be tested.

Tile sizes are those that `tile_table` has for a call, so that nothing is timed and every process takes the same. Where
tuning was asked for (`OPBENCH_TRITON_TILES=tune`) the few candidates of a kernel are timed the first time that a call
of that kind and size is met on a machine, a few milliseconds each, and the choice is kept in the user's cache folder.
Candidates differ in how the work is cut; only sums over channels, as gradients of masks and offsets are, may be added
up in another order by another tile. Nothing is timed under the interpreter or while a CUDA graph is captured: what was
chosen before is taken, else the first candidate.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from opbench.kernels.triton import tile_cache, tile_table

# Whose tensors the operations take: the CPU's for the interpreter.
DEVICES = ("cuda", "cpu")
# Milliseconds for which a candidate is run before and while it is timed.
WARM_UP, TIMED = 5, 20
# Registers that a thread can have, and those of a program together, on every device so far.
MOST_REGISTERS, REGISTERS = 255, 65536
# Programs of one launch.
MOST = 2**31
# Programs below which a device would be left idle: an H100 has 132 multiprocessors, an A100 108.
ENOUGH = 200


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
        of them: it is given all that a program of so many warps can have.
        """
        registers = min(MOST_REGISTERS, REGISTERS // (32 * self.warps))
        return {"num_warps": self.warps, "num_stages": 1, "maxnreg": registers}


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
    """The candidate for calls of this kind: the first, or where tuning was asked for the fastest, timed once."""
    if len(candidates) == 1:
        return candidates[0]
    kinds = tuple((tensor.dtype, tensor.device) for tensor in tensors.values())
    key = (kernel.__module__, kernel.__name__, kinds, *arguments.values(), *map(str, constants.values()))
    if key not in _chosen:
        if torch.cuda.is_current_stream_capturing():
            return candidates[0]
        _chosen[key] = _tuned(key, candidates, start) if tile_table.tuning() else candidates[0]
    return _chosen[key]


def _tuned(key: tuple[Any, ...], candidates: Sequence[Candidate], start: Callable[[Candidate], None]) -> Candidate:
    """The fastest candidate, as it was timed once on this machine."""
    text = repr((torch.cuda.get_device_name(), key, [(dict(one.blocks), one.warps) for one in candidates]))
    kept = tile_cache.read(text)
    if kept is not None and 0 <= kept < len(candidates):
        return candidates[kept]
    from triton.runtime.errors import OutOfResources
    from triton.testing import do_bench

    times: dict[int, float] = {}
    for index, candidate in enumerate(candidates):
        try:
            times[index] = do_bench(lambda c=candidate: start(c), warmup=WARM_UP, rep=TIMED)
        except OutOfResources:  # a smaller device than the candidates were compiled for
            continue
    fastest = min(times, key=lambda index: times[index], default=0)
    tile_cache.write(text, fastest)
    return candidates[fastest]


@cache  # it is asked with every launch
def steps_of(units: int, programs: int) -> int:
    """How many of `units` a program takes one after the other, where each of them alone would be `programs`.

    As many as leave programs enough for a device; a divisor of `units`, so that all programs take as many.
    """
    divisors = (steps for steps in range(1, units + 1) if units % steps == 0)
    return max((steps for steps in divisors if programs * (units // steps) >= ENOUGH), default=1)


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
