"""Ways of calling a core that change nothing about what it computes: again, in other modes, after a failure.

What remembers a call, or a shape, or where its inputs lay, is right once.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from opbench.conformance.comparing import run, same
from opbench.conformance.oracle import Oracle, answers
from opbench.conformance.precision import violated
from opbench.conformance.raised import WHAT_A_TARGET_RAISES
from opbench.conformance.strategies import noise_like
from opbench.relations import Core, Example, Violation
from opbench.verify.bounds import allowed

# Calls of one example; a relation is tried on a dozen and more, so that races have some hundred chances.
REPEATS = 20
THREADS = 2


@dataclass(frozen=True)
class CallingChecks:
    """The checks of ways of calling, for one operator's oracle."""

    oracle: Oracle

    def is_right_in_a_row(self, core: Core, example: Example) -> None:
        """Other values of the same shape, a larger batch and its first images again, and the first; both passes."""
        other = _renewed(example, seed=11)
        twice = {name: torch.cat([tensor, tensor.flip(0)]) for name, tensor in other.tensors.items()}
        batch = example.replace(None, **twice)
        # The first images of the batch before, with others after them.
        mixed = {name: torch.cat([tensor, example.tensors[name]]) for name, tensor in other.tensors.items()}
        again = example.replace(None, **mixed)
        calls = (
            ("first", example),
            ("second", other),
            ("third, of twice the batch,", batch),
            ("fourth, of the third's first images,", again),
            ("fifth", example),
        )
        for seed, (which, call) in enumerate(calls, start=51):
            grad_output = noise_like(self.oracle.output(call), seed).to(next(iter(call.tensors.values())))
            got = answers(core, call, grad_output)
            with _saying(f"in the {which} of five calls"):
                # Gradients are asked for in all and compared in one: the definition's take their time.
                if call is other:
                    self.oracle.close_answers(got, call, grad_output)
                else:
                    self.oracle.close(got["output"], call)

    def is_right_though_memory_is_reused(self, core: Core, example: Example) -> None:
        """New values in the same memory are a new call: no result is remembered by an address or a shape."""
        call = example.replace(None, **{name: tensor.clone() for name, tensor in example.tensors.items()})
        run(core, call)
        for seed, (name, tensor) in enumerate(_renewed(example, seed=21).tensors.items()):
            call.tensors[name].copy_(tensor)
            with _saying(f"once {name} was written anew" if not seed else f"once {name} was written anew, too,"):
                self.oracle.close(run(core, call), call)

    def has_one_answer_in_every_mode(self, core: Core, example: Example) -> None:
        """With gradients, without, and in inference: the same function."""
        leaves = {name: t.detach().clone().requires_grad_(True) for name, t in example.tensors.items()}
        modes: dict[str, Callable[[], contextlib.AbstractContextManager[object]]] = {
            "torch.no_grad": torch.no_grad,
            "torch.inference_mode": torch.inference_mode,
            "gradients on, all inputs asking for them,": torch.enable_grad,
            "torch.no_grad again": torch.no_grad,
        }
        for mode, entered in modes.items():
            with entered():
                out = run(core, example.replace(None, **leaves) if "asking" in mode else example).detach().clone()
            with _saying(f"under {mode}"):
                self.oracle.close(out.clone(), example)

    def backs_up_twice(self, core: Core, example: Example) -> None:
        """A graph that is kept gives the same gradients each time; and two graphs at once don't meet."""
        grad_output = noise_like(self.oracle.output(example), seed=1).to(next(iter(example.tensors.values())))
        one, other = example, _renewed(example, seed=31)
        kept = []
        for call in (one, other):
            leaves = {name: tensor.detach().clone().requires_grad_(True) for name, tensor in call.tensors.items()}
            kept.append((call, leaves, run(core, call.replace(None, **leaves))))
        for call, leaves, out in kept:
            if not out.requires_grad:
                raise Violation("output: expected it to be differentiable, got one that is not", call)
            for _ in range(2 if call is one else 1):
                found = torch.autograd.grad(out, list(leaves.values()), grad_output, retain_graph=True)
            got = {"output": out.detach(), **dict(zip(leaves, found, strict=True))}
            with _saying(f"in the {'second' if call is one else 'first'} backward pass, another graph being alive"):
                self.oracle.close_answers(got, call, grad_output)

    def recovers_from_a_failed_call(self, core: Core, example: Example) -> None:
        """A call that raises, or is interrupted half-way, leaves nothing behind."""
        last = list(example.tensors)[-1]
        tensor = example.tensors[last]
        with contextlib.suppress(*WHAT_A_TARGET_RAISES):
            # Not a tensor at all: nothing that a kernel could read beyond.
            core(**{**example.tensors, last: tensor.tolist()}, **example.options)
        with _saying("after a call that raised"):
            self.oracle.close(run(core, example), example)
        with _Interrupting() as whole:
            run(core, example)
        with contextlib.suppress(KeyboardInterrupt), _Interrupting(at=whole.calls // 2):
            core(**example.tensors, **example.options)
        with _saying("after a call that was interrupted"):
            self.oracle.close(run(core, example), example)

    def agrees_with_itself_many_times(self, core: Core, example: Example) -> None:
        """Twenty calls in a row, bit for bit: a race shows in some of them."""
        first = run(core, example)
        for call in range(2, REPEATS + 1):
            same(run(core, example), first, example, f"output of call {call} of {REPEATS}")

    def may_be_called_from_threads(self, core: Core, example: Example) -> None:
        """Two threads, each with values of its own: neither sees the other's."""
        calls = [example, *(_renewed(example, seed=40 + n) for n in range(1, THREADS))]
        found: list[list[Tensor]] = [[] for _ in calls]
        raised: list[BaseException] = []

        def repeat(n: int) -> None:
            try:
                for _ in range(5):
                    found[n].append(run(core, calls[n]).detach().clone())
            except WHAT_A_TARGET_RAISES as error:
                raised.append(error)

        threads = [threading.Thread(target=repeat, args=(n,)) for n in range(len(calls))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if raised:
            raise raised[0]
        for call, outs in zip(calls, found, strict=True):
            for out in outs:
                with _saying("called from two threads at once"):
                    self.oracle.close(out, call)

    def works_under_autocast(self, core: Core, example: Example) -> None:
        """float32 inputs under autocast: the definition's output to bfloat16's precision, in either type."""
        if example.tensors[next(iter(example.tensors))].dtype != torch.float32:
            return
        device = next(iter(example.tensors.values())).device.type
        with torch.autocast(device, dtype=torch.bfloat16):
            out = run(core, example)
        expected, terms = self.oracle.output(example), self.oracle.terms(example)["output"]
        bound = 2 * allowed(terms, "bfloat16") + 2.0**-8 * terms.total
        error = (out.detach().cpu().double() - expected).abs() if out.shape == expected.shape else None
        if error is None or not bool((error <= bound).all()):
            worst = "another shape" if error is None else f"an error of {float(error.max()):.3g}"
            violated(f"output under autocast: expected the definition's to bfloat16's precision, got {worst}", example)


class _Interrupting(TorchFunctionMode):
    """Counts the calls of torch, and raises KeyboardInterrupt in the place of one of them, as Ctrl-C does."""

    def __init__(self, at: int | None = None) -> None:
        super().__init__()
        self.at = at
        self.calls = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self.calls == self.at:
            raise KeyboardInterrupt
        self.calls += 1
        return func(*args, **(kwargs or {}))


def _renewed(example: Example, seed: int) -> Example:
    """The same call with other values of the same kind: each image's are another image's, and turned round."""
    renewed = {}
    for place, (name, tensor) in enumerate(example.tensors.items()):
        turned = tensor.flip(0)
        if bool(turned.isfinite().all()):
            # Of the same size as before, so that what is linear stays as exact as it was.
            turned = turned * noise_like(turned, seed + place).sign()
        renewed[name] = turned.contiguous()
    return example.replace(None, **renewed)


@contextlib.contextmanager
def _saying(when: str) -> Iterator[None]:
    """Violations inside say when."""
    try:
        yield
    except Violation as violation:
        raise Violation(f"{violation} {when}", violation.example, violation.cause) from violation
