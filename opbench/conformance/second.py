"""Second derivatives: whether a target's gradients can be differentiated again, and give what the definition gives.

A penalty on gradients, a Hessian, or training through an optimiser asks for them. What has none, or other ones,
is fragile: its output and its gradients are the operator's all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from opbench.conformance.oracle import Oracle, differentiable, exact
from opbench.conformance.precision import HALVES, violated
from opbench.conformance.raised import WHAT_A_TARGET_RAISES, place_of
from opbench.conformance.strategies import noise_like
from opbench.errors import said
from opbench.relations import Core, Example

NAME = "second-derivative"
STATEMENT = "the gradients can be differentiated again, and give the definition's second derivatives"
NONE = "has no second derivative: its gradients can't be differentiated again"
OTHER = "gives second derivatives that are not the definition's"
# Of the largest of them, or of 1: rounding stays far below it, and one that is wrong is off by its own size.
SHARE = 1e-2
_INCOMING = "the output's gradient"


def is_twice_differentiable(oracle: Oracle) -> Callable[[Core, Example], None]:
    """The check of a core that has a definition."""

    def gives_the_definitions(core: Core, example: Example) -> None:
        """Holds them to the definition's, in every tensor and in the output's gradient."""
        compare(core, oracle.definition, example, tuple(example.tensors))

    return gives_the_definitions


def compare(core: Core, definition: Core, example: Example, names: Sequence[str]) -> None:
    """Holds the core's second derivatives to the definition's, in the tensors named and the output's gradient.

    In float32 and float64 only: of half precision, rounding alone could move them as far as a fault.
    """
    if str(next(iter(example.tensors.values())).dtype).removeprefix("torch.") in HALVES:
        return
    out, held = differentiable(core, example, names)
    incoming = noise_like(out, seed=1)
    along = {name: noise_like(value, seed) for seed, (name, value) in enumerate(example.tensors.items(), start=61)}
    try:
        got = _second(out, held, names, incoming, along)
    except WHAT_A_TARGET_RAISES as error:
        violated(f"second derivative: raised {said(error)}{place_of(error)}", example, NONE)
        return
    out, held = differentiable(definition, exact(example), names)
    if out.shape != incoming.shape:  # another function, as others say
        return
    wide = {name: value.double().cpu() for name, value in along.items()}
    expected = _second(out, held, names, incoming.double().cpu(), wide)
    allowed = SHARE * max([1.0, *(float(value.abs().max()) for value in expected.values() if value.numel())])
    for name, value in expected.items():
        apart = (got[name].detach().double().cpu() - value).abs()
        if apart.numel() and not bool((apart <= allowed).all()):
            worst = apart.nan_to_num(torch.inf).argmax()
            found, wanted = (float(one.flatten()[worst]) for one in (got[name].detach(), value))
            violated(
                f"second derivative in {name}, along one direction: expected {wanted:.6g}, got {found:.6g}",
                example,
                OTHER,
            )
            return


def _second(
    out: Tensor, tensors: Mapping[str, Tensor], names: Sequence[str], incoming: Tensor, along: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The second derivatives along one direction, by name; zeros where there is none.

    They are the gradients of sum <first gradient, direction>, as in a Hessian-vector product.
    """
    incoming = incoming.detach().clone().requires_grad_()
    leaves = [tensors[name] for name in names]
    with torch.enable_grad():
        first = torch.autograd.grad(out, leaves, incoming, create_graph=True, allow_unused=True)
        parts = [(one * along[name]).sum() for name, one in zip(names, first, strict=True) if one is not None]
        total = torch.stack(parts).sum()
    # Through all of the graph: what is cut off from the leaves on purpose raises, instead of being passed over.
    total.backward()
    given = dict(zip((*names, _INCOMING), [*leaves, incoming], strict=True))
    return {name: torch.zeros_like(one) if one.grad is None else one.grad for name, one in given.items()}
