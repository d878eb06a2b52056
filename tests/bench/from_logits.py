"""What it brings that CPU cores take logits: pixel shuffle and softmax in the kernel, against torch's before it.

    python tests/bench/from_logits.py -o results/xeon-2core/from-logits

Both ways take turns, round by round, on one thread, in inference and with the gradients of everything; which begins
alternates. In brackets the 95 % interval of the median over the rounds. A process of its own, and a machine with
nothing else to do, or times say little.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))

from kept_rows import keep

from opbench.engine.environment import cpu_name
from opbench.kernels.cpu.carafe import carafe_cpu, carafe_cpu_logits
from opbench.kernels.cpu.dcnv3 import dcnv3_cpu, dcnv3_cpu_logits
from opbench.statistics.intervals import interval

WARM = 5
CARAFE = {"kernel_size": 5, "group_size": 1, "scale_factor": 2}
DCNV3 = {"kernel_size": 3, "stride": 1, "pad": 1, "dilation": 1, "offset_scale": 1.0, "remove_center": False}

# The sites of YOLOv8n that modules are swapped into, and the cores' own workloads.
CARAFE_SHAPES = ((1, 256, 20, 20), (1, 128, 40, 40), (1, 256, 64, 64))
DCNV3_SHAPES = ((1, 40, 40, 64, 4), (1, 80, 80, 32, 2), (1, 56, 56, 64, 4), (1, 80, 80, 128, 8), (2, 40, 40, 256, 16))

Problem = tuple[str, tuple[Tensor, ...], Tensor, Callable[..., Tensor], Callable[..., Tensor]]


def shuffled(x: Tensor, logits: Tensor) -> Tensor:
    return carafe_cpu(x, F.pixel_shuffle(logits, 2).softmax(1), **CARAFE)


def weighed(group: int, x: Tensor, offset: Tensor, logits: Tensor) -> Tensor:
    mask = logits.unflatten(-1, (group, -1)).softmax(-1).flatten(-2)
    return dcnv3_cpu(x, offset, mask, group=group, **DCNV3)


def problems(dtype: torch.dtype) -> Iterator[Problem]:
    """What is computed, on which tensors, by torch's operations and a core, and by the core that takes logits."""
    torch.manual_seed(0)
    for n, c, h, w in CARAFE_SHAPES:
        for format in (torch.contiguous_format, torch.channels_last):
            drawn = (torch.randn(n, c, h, w), torch.randn(n, 100, h, w), torch.randn(n, c, 2 * h, 2 * w))
            x, logits, grad = (t.to(dtype).contiguous(memory_format=format) for t in drawn)
            name = f"CARAFE {n}x{c}x{h}x{w}{', channels last' if format is torch.channels_last else ''}"
            yield name, (x, logits), grad, shuffled, partial(carafe_cpu_logits, **CARAFE)
    for n, h, w, c, group in DCNV3_SHAPES:
        drawn = (torch.randn(n, h, w, c), 2 * torch.randn(n, h, w, group * 18), torch.randn(n, h, w, group * 9))
        inputs = tuple(t.to(dtype) for t in drawn)
        grad = torch.randn(n, h, w, c).to(dtype)
        core = partial(dcnv3_cpu_logits, group=group, **DCNV3)
        yield f"DCNv3 {n}x{h}x{w}x{c} G{group}", inputs, grad, partial(weighed, group), core


def seconds(core: Callable[..., Tensor], inputs: tuple[Tensor, ...], grad: Tensor | None) -> float:
    """Of one call."""
    began = time.perf_counter()
    if grad is None:
        with torch.inference_mode():
            core(*inputs)
    else:
        torch.autograd.grad(core(*inputs), inputs, grad)
    return time.perf_counter() - began


def measured(rounds: int) -> Iterator[dict[str, object]]:
    """A row for each problem, dtype and mode: seconds of both ways, round by round."""
    for dtype in (torch.float32, torch.bfloat16):
        for name, inputs, grad, before, after in problems(dtype):
            for mode in ("inference", "training"):
                given = tuple(t.detach().requires_grad_(mode == "training") for t in inputs)
                by = grad if mode == "training" else None
                times: dict[str, list[float]] = {"before": [], "after": []}
                ways = [("before", before), ("after", after)]
                for number in range(WARM + rounds):
                    for way, core in ways if number % 2 else ways[::-1]:
                        taken = seconds(core, given, by)
                        if number >= WARM:
                            times[way].append(taken)
                yield {"problem": name, "dtype": str(dtype).removeprefix("torch."), "mode": mode, **times}


def gain(row: dict[str, object]) -> str:
    """How many times as fast, with its interval."""
    logs = [math.log(a / b) for a, b in zip(row["before"], row["after"], strict=True)]
    low, median, high = (math.exp(value) for value in interval(logs))
    return f"{median:.2f}x [{low:.2f}, {high:.2f}]"


def page(rows: list[dict[str, object]], command: str) -> str:
    """The table as Markdown, with the command and the machine."""
    found = {(row["problem"], row["dtype"], row["mode"]): gain(row) for row in rows}
    kinds = [(dtype, mode) for dtype in ("float32", "bfloat16") for mode in ("inference", "training")]
    lines = ["# Cores that take logits", "", __doc__.partition("\n\n")[2].partition("\n\n")[2].strip(), ""]
    lines += [f"`{command}`", "", f"{cpu_name()}, one thread, torch {torch.__version__}.", ""]
    lines += ["Times as fast as torch's pixel shuffle and softmax, and the core that takes a mask:", ""]
    lines += [f"| problem | {' | '.join(' '.join(kind) for kind in kinds)} |", "| --- " * 5 + "|"]
    for problem in dict.fromkeys(row["problem"] for row in rows):
        lines.append(f"| {problem} | {' | '.join(found[problem, *kind] for kind in kinds)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("-o", dest="output", type=Path, help="folder for logits.md and logits.jsonl.gz")
    parser.add_argument("--rounds", type=int, default=60)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    rows = list(measured(asked.rounds))
    text = page(rows, f"python tests/bench/from_logits.py{f' -o {asked.output}' if asked.output else ''}")
    print(text)
    if asked.output:
        keep(asked.output, "logits", text, rows)


if __name__ == "__main__":
    main()
