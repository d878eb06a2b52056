"""Claims that a closed form decides: parameters, MACs, their share of a network, and figures that a paper prints."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from decimal import Decimal

from opbench import registry
from opbench.analyse.claims.nouns import Claim, Document, Finding, everywhere, times
from opbench.operators.carafe.paper_flops import paper_flops
from opbench.schema import Cost, Dims

_POWERS = {"k": 3, "M": 6, "G": 9}


def parameters(claim: Claim, baseline: str, given: Sequence[Document]) -> Finding:
    """Parameters of the two operators at every size of the claim."""
    return _quotients(claim, baseline, lambda cost: cost.params, "parameters")


def macs(claim: Claim, baseline: str, given: Sequence[Document]) -> Finding:
    """MACs per pixel of the two operators at every size of the claim."""
    return _quotients(claim, baseline, lambda cost: cost.macs, "MACs per pixel")


def linear(claim: Claim, baseline: str, given: Sequence[Document]) -> Finding:
    """Whether the parameters of the subject grow by as much from each size of the claim to the next; steps are even."""
    counted = [_cost(claim.task, claim.subject, dims).params for dims in claim.dims]
    steps = [after - before for before, after in itertools.pairwise(counted)]
    words = ", ".join(f"{count:,} at {_at(dims)}" for count, dims in zip(counted, claim.dims, strict=True))
    grown = " and ".join(f"{step:,}" for step in steps)
    return Finding("confirmed" if len(set(steps)) == 1 else "refuted", f"parameters: {words}; steps of {grown}")


def overhead(claim: Claim, network: str, given: Sequence[Document]) -> Finding:
    """What the subject adds in its slots, as shares of the network's printed parameters and FLOPs.

    The interpolation that it replaces has no parameters and no MACs to take away.
    """
    printed_figures = claim.networks[network]
    costs = [_cost(claim.task, claim.subject, dims) for dims in printed_figures.slots]
    added = (sum(cost.params for cost in costs), 2 * sum(cost.macs for cost in costs))
    whole = (printed_figures.params, 1e9 * printed_figures.gflops)
    shares = [part / of for part, of in zip(added, whole, strict=True)]
    words = (
        f"{added[0]:,} parameters more, {100 * shares[0]:.2g} % of {printed_figures.params:,}; "
        f"{added[1] / 1e9:.3g} GFLOPs more, {100 * shares[1]:.2g} % of {printed_figures.gflops:g}"
    )
    return Finding(everywhere([claim.holds(share, share) for share in shares]), words)


def printed(claim: Claim, operator: str, given: Sequence[Document]) -> Finding:
    """A row of a paper's table against the closed forms, to the last digit that is printed."""
    dims = claim.dims[0]
    ours = (paper_flops(operator, dims), _cost(claim.task, operator, dims).params)
    said = claim.printed[operator]
    words = [
        f"{text} {what} printed, {count:,} counted"
        for text, count, what in zip(said, ours, ("FLOPs per input pixel", "parameters"), strict=True)
    ]
    agree = all(rounds_to(count, text) for text, count in zip(said, ours, strict=True))
    return Finding("confirmed" if agree else "refuted", f"{'; '.join(words)}; at {_at(dims)}")


def rounds_to(count: int, text: str) -> bool:
    """Whether a count, rounded as a printed figure is, gives that figure.

    >>> rounds_to(199_496, "199k"), rounds_to(199_496, "200k"), rounds_to(4_718_592, "4.7M")
    (True, False, True)
    """
    power = _POWERS.get(text[-1], 0)
    figure = Decimal(text[:-1] if power else text)
    half = Decimal(5).scaleb(int(figure.as_tuple().exponent) - 1)
    return abs(Decimal(count).scaleb(-power) - figure) <= half


def _quotients(claim: Claim, baseline: str, of: Callable[[Cost], int], what: str) -> Finding:
    words, verdicts = [], []
    for dims in claim.dims:
        ours = of(_cost(claim.task, claim.subject, dims))
        other = {**dims, **claim.against_dims}
        theirs = of(_cost(claim.task, baseline, other))
        quotient = ours / theirs if theirs else float("inf")
        verdicts.append(claim.holds(quotient, quotient))
        beside = "" if other == dims else f" ({_at(claim.against_dims)})"
        share = f", {times(quotient)}" if theirs else ""
        words.append(f"{ours:,} against {theirs:,}{beside}{share} at {_at(dims)}")
    return Finding(everywhere(verdicts), f"{what}: {'; '.join(words)}")


def _cost(task: str, operator: str, dims: Dims) -> Cost:
    declared = registry.operator(task, operator)
    return declared.cost(declared.given(registry.tasks()[task].given({"N": 1, "H": 1, "W": 1, **dims})))


def _at(dims: Dims) -> str:
    return " ".join(f"{name}={value}" for name, value in dims.items())
