"""The checks of the general relations, for one operator's oracle; `general` says what each states."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor

from opbench.conformance.comparing import close, dot, run, same, within
from opbench.conformance.oracle import Oracle, answers, title
from opbench.conformance.strategies import LAYOUTS, noise_like
from opbench.relations import Core, Example, Violation
from opbench.schema import Terms
from opbench.verify.bounds import EPS, TINY, coefficient, unit
from opbench.verify.gate import poisoned


@dataclass(frozen=True)
class Checks:
    """The checks, for one operator's oracle."""

    oracle: Oracle
    linear: tuple[str, ...]

    def is_the_definition(self, core: Core, example: Example) -> None:
        """|core - definition| <= c eps sum|terms|, element by element (see `bounds`)."""
        self.oracle.close(run(core, example), example)

    def has_the_definition_s_gradients(self, core: Core, example: Example) -> None:
        """The same for output and every gradient, of one gradient of the output drawn at random."""
        grad_output = self._grad_output(example)
        self.oracle.close_answers(answers(core, example, grad_output), example, grad_output)

    def leaves_its_inputs_alone(self, core: Core, example: Example) -> None:
        """A pure function writes to nothing that it is given."""
        before = {name: tensor.clone() for name, tensor in example.tensors.items()}
        grad_output = self._grad_output(example)
        grad_before = grad_output.clone()
        run(core, example)
        for name, tensor in example.tensors.items():
            same(tensor, before[name], example, f"{name} after the call")
        answers(core, example, grad_output)
        for name, tensor in example.tensors.items():
            same(tensor, before[name], example, f"{name} after the backward pass")
        same(grad_output, grad_before, example, "gradient of the output after the backward pass")

    def keeps_the_type(self, core: Core, example: Example) -> None:
        """Float32 in, float32 out: sums may be wider, results are not; nor do they move to another device."""
        reference = next(iter(example.tensors.values()))
        for name, value in answers(core, example, self._grad_output(example)).items():
            for what in ("dtype", "device"):
                expected, got = getattr(reference, what), getattr(value, what)
                if got != expected:
                    raise Violation(f"{title(name)}: expected {what} {expected}, got {got}", example)

    def is_repeatable(self, core: Core, example: Example) -> None:
        """Without atomics or random numbers, the same roundings happen in the same order."""
        same(run(core, example), run(core, example), example, "output of the second call")

    def has_repeatable_gradients(self, core: Core, example: Example) -> None:
        """An accumulation whose order is left to chance differs in the last bits.

        An implementation that says so (`Implementation.deterministic_backward`) is not held to this.
        """
        grad_output = self._grad_output(example)
        first = answers(core, example, grad_output)
        for name, value in answers(core, example, grad_output).items():
            same(value, first[name], example, f"{title(name)}, the second time")

    def returns_fresh_memory(self, core: Core, example: Example) -> None:
        """Results that share memory, or are remembered for inputs that have changed since, are other calls' results."""
        example = example.replace(None, **{name: tensor.clone() for name, tensor in example.tensors.items()})
        first = run(core, example)
        for name, tensor in example.tensors.items():
            if _share_memory(first, tensor):
                raise Violation(f"output: expected memory of its own, got a view of {name}", example)
        kept = first.detach().clone()
        example.tensors[self.linear[0]].neg_()
        second = run(core, example)
        same(first, kept, example, "an earlier output after a later call")
        if _share_memory(first, second):
            raise Violation("output: expected memory of its own, got an earlier call's output", example)
        self.oracle.close(second, example, f"output after {self.linear[0]} was negated in place")

    def writes_every_element(self, core: Core, example: Example) -> None:
        """What is never written shows what the memory held before: here NaN, otherwise often the right answer."""
        grad_output = self._grad_output(example)
        with poisoned():
            got = answers(core, example, grad_output)
        self.oracle.close_answers(got, example, grad_output)

    def differentiates_any_subset(self, core: Core, example: Example) -> None:
        """The gradient of one input does not depend on who else asks.

        Bounded: a kernel for both gradients may sum in another order than the one for either.
        """
        grad_output = self._grad_output(example)
        every = answers(core, example, grad_output)
        terms = self.oracle.terms(example, grad_output)
        for names in _subsets(tuple(example.tensors)):
            for name, value in answers(core, example, grad_output, names).items():
                close(value, every[name], terms[name], example, f"{title(name)} where only {', '.join(names)} ask")
        if run(core, example).requires_grad:
            raise Violation("output: expected no gradient where no input asks, got one that requires it", example)

    def takes_an_empty_batch(self, core: Core, example: Example) -> None:
        """An empty sum is no error: N = 0 is the last batch of a filtered data set."""
        shape = self.oracle.output(example).shape
        empty = example.replace(None, **{name: tensor[:0] for name, tensor in example.tensors.items()})
        out = run(core, empty)
        same(out, out.new_empty((0, *shape[1:])), empty)
        for name, value in answers(core, empty).items():
            expected = out if name == "output" else empty.tensors[name]
            same(value, expected, empty, title(name))

    def takes_any_gradient_layout(self, core: Core, example: Example) -> None:
        """What follows the core decides how its gradient lies in memory: `out.sum()` sends one of stride 0.

        Bounded: another layout may be read, and so summed, in another order.
        """
        plain = self._grad_output(example)
        # "expanded" is the first image's gradient for all images, so it has values of its own.
        repeated = plain[:1].expand_as(plain).contiguous()
        for values, layouts in ((plain, LAYOUTS.keys() - {"contiguous", "expanded"}), (repeated, {"expanded"})):
            expected = answers(core, example, values)
            terms = self.oracle.terms(example, values)
            for layout in sorted(layouts):
                for name, value in answers(core, example, LAYOUTS[layout](values)).items():
                    close(value, expected[name], terms[name], example, f"{title(name)}, g being {layout}")

    def treats_images_apart(self, core: Core, example: Example) -> None:
        """No image contributes to another's output.

        Bounded: matrix libraries choose the order of a sum by the size of the batch.
        """
        total = self.oracle.terms(example)["output"]
        whole = run(core, example)
        for n in range(whole.shape[0]):
            alone = example.replace(None, **{name: tensor[n : n + 1] for name, tensor in example.tensors.items()})
            terms = Terms(total.total[n : n + 1], total.count)
            close(whole[n : n + 1], run(core, alone), terms, example, f"output of image {n} in its batch")

    def commutes_with_permuting_the_batch(self, core: Core, example: Example) -> None:
        """The same images in another order have the same answers, in that order.

        Bounded: a vector's lanes and its rest are summed in different orders, and which rows fall into the rest is a
        matter of their place in the batch (torch's reductions do so under AVX2).
        """
        grad_output = self._grad_output(example)
        turned, terms = grad_output.flip(0), self.oracle.terms(example, grad_output)
        got = answers(core, example.replace(None, **_flipped(example)), turned)
        for name, value in answers(core, example, grad_output).items():
            close(got[name].flip(0), value, terms[name], example, f"{title(name)} of the reversed batch")

    def scales_with_powers_of_two(self, core: Core, example: Example) -> None:
        """A power of two scales every rounding error with it, in any order of summation.

        Except where numbers leave the normal range, as products of float16 soon do: there the bound is taken.
        """
        out = run(core, example)
        for name in self.linear:
            for scale in (0.125, 4.0):
                scaled = example.replace(None, **{name: example.tensors[name] * scale})
                got, what = run(core, scaled), f"output for {scale} * {name}"
                if out.dtype == torch.float16:
                    close(got, out * scale, self.oracle.terms(scaled)["output"], example, what)
                else:
                    same(got, out * scale, example, what)

    def survives_huge_values(self, core: Core, example: Example) -> None:
        """No product, partial sum or sum of the definition overflows: they stay below an eighth of the largest."""
        limit = torch.finfo(next(iter(example.tensors.values())).dtype).max / 8
        for name, scaled in self._scaled_to(limit, example):
            self.oracle.close(run(core, scaled), scaled, f"output for huge {name}")

    def survives_tiny_values(self, core: Core, example: Example) -> None:
        """Terms around the smallest normal number over eps: each may underflow, and no error is larger than that."""
        dtype = str(next(iter(example.tensors.values())).dtype).removeprefix("torch.")
        for name, scaled in self._scaled_to(TINY[dtype] / EPS[dtype], example):
            terms = self.oracle.terms(scaled)["output"]
            others = math.prod(_peak(scaled.tensors[other]) for other in self.linear if other != name)
            slack = torch.full_like(terms.total, terms.count * TINY[dtype] * others)
            allowing = Terms(terms.total, terms.count, slack if terms.slack is None else terms.slack + slack)
            got = run(core, scaled)
            close(got.cpu(), self.oracle.output(scaled), allowing, scaled, f"output for tiny {name}", sides=1)

    def is_additive(self, core: Core, example: Example) -> None:
        """f(u + v) = f(u) + f(v); the terms of all three are bounded by those of |u| + |v|."""
        for name in self.linear:
            u = example.tensors[name]
            v = noise_like(u, seed=2)
            parts = run(core, example).double() + run(core, example.replace(None, **{name: v})).double()
            terms = self.oracle.terms(example.replace(None, **{name: u.double().abs() + v.double().abs()}))["output"]
            got = run(core, example.replace(None, **{name: u + v}))
            close(got, parts, terms, example, f"output for a sum in {name}", sides=3)

    def is_adjoint_to_its_gradients(self, core: Core, example: Example) -> None:
        """y = A t with gradient A'g, so <A t, g> = <t, A'g>: forward and backward pass are one matrix.

        Both sides sum the products |g| |A| |t|, rounded once for y and once for the gradient; and where locations are
        rounded, A itself has traces of pixels beside a whole one.
        """
        grad_output = self._grad_output(example)
        got = answers(core, example, grad_output)
        terms = self.oracle.terms(example, grad_output)
        expected = dot(got["output"], grad_output)
        dtype = str(grad_output.dtype).removeprefix("torch.")
        rounding = dot(unit(terms["output"], dtype), grad_output.abs())
        narrower = dot(unit(terms["output"], "float32"), grad_output.abs()) if dtype == "float64" else None
        for name in self.linear:
            coefficients = coefficient(terms["output"].count) + coefficient(terms[name].count)
            what = f"<{name}, gradient of {name}> against <output, g>"
            found = dot(example.tensors[name], got[name])
            excused = None if narrower is None else coefficients * narrower
            within(found, expected, coefficients * rounding, example, what, excused)

    def has_the_derivative_of_differences(self, core: Core, example: Example) -> None:
        """f(p + hv) - f(p - hv) = 2h Df(p) v + O(h^3), for one direction v in all inputs at once.

        With h = eps^(1/3) both the remainder and the rounding of the difference, c eps sum|terms| / h, are of the
        order of eps^(2/3); the direction is taken as it is rounded. The derivatives of a core that is multilinear
        are bounded by its terms on |p| + |v|.
        """
        dtype = next(iter(example.tensors.values())).dtype
        eps = EPS[str(dtype).removeprefix("torch.")]
        step = 2.0 ** round(math.log2(eps) / 3)
        ahead, behind, reach = {}, {}, {}
        for seed, (name, tensor) in enumerate(example.tensors.items(), start=3):
            direction = noise_like(tensor, seed)
            ahead[name], behind[name] = tensor + step * direction, tensor - step * direction
            reach[name] = tensor.double().abs() + direction.double().abs() if name in self.linear else tensor.double()
        grad_output = self._grad_output(example)
        gradients = answers(core, example, grad_output)
        difference = (
            run(core, example.replace(None, **ahead)).double() - run(core, example.replace(None, **behind)).double()
        )
        got = dot(difference, grad_output) / (2 * step)
        expected = torch.stack(
            [dot((ahead[name].double() - behind[name].double()) / (2 * step), gradients[name]) for name in ahead]
        ).sum()
        terms = self.oracle.terms(example.replace(None, **reach), grad_output)
        total = dot(terms["output"].total, grad_output.abs())
        for name in ahead:
            if name not in self.linear:
                total = total + dot(
                    terms[name].total, (ahead[name].double() - behind[name].double()).abs() / (2 * step)
                )

        def allowed(eps: float) -> Tensor:
            return total * (coefficient(terms["output"].count) * eps / step + step * step)

        what = "derivative along a direction, from differences against from gradients"
        narrower = allowed(EPS["float32"]) if dtype == torch.float64 else None
        within(got, expected, allowed(eps), example, what, narrower)

    def _grad_output(self, example: Example) -> Tensor:
        """Noise, always: sums of equal terms round to one side, and then the bound's sqrt(n) is no bound."""
        return noise_like(self.oracle.output(example), seed=1).to(next(iter(example.tensors.values())))

    def _scaled_to(self, limit: float, example: Example) -> Iterator[tuple[str, Example]]:
        """The example with one linear input scaled by a power of two, so that its largest product nears the limit."""
        total = self.oracle.terms(example)["output"].total
        peak = max(_peak(total), math.prod(_peak(example.tensors[name]) for name in self.linear))
        exponent = math.floor(math.log2(limit) - math.log2(peak))
        for name in self.linear:
            # In two steps: the scale alone may be out of range.
            half = exponent // 2
            scaled = example.tensors[name].double() * 2.0**half * 2.0 ** (exponent - half)
            yield name, example.replace(None, **{name: scaled.to(example.tensors[name].dtype)})


def _peak(tensor: Tensor) -> float:
    """The largest absolute value, at least 1."""
    return max(1.0, float(tensor.abs().max())) if tensor.numel() else 1.0


def _flipped(example: Example) -> dict[str, Tensor]:
    return {name: tensor.flip(0) for name, tensor in example.tensors.items()}


def _subsets(names: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Every one but the empty and the whole."""
    for size in range(1, len(names)):
        yield from combinations(names, size)


def _share_memory(a: Tensor, b: Tensor) -> bool:
    return a.numel() > 0 and a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr()
