"""What becomes of a module under torch.compile, and exported by torch.export and to ONNX: where that is asked for."""

from __future__ import annotations

from functools import partial

from opbench.conformance.deployed import COMPILED, DeployedWay, NotTaken, deployed_ways, differs
from opbench.conformance.promises.findings import PromiseRequest
from opbench.conformance.promises.promise import Broken, Promise
from opbench.conformance.promises.subject import Subject


def deployed_promises(request: PromiseRequest) -> tuple[tuple[Promise, ...], tuple[str, ...]]:
    """One for each way that was asked for and can run here, and in a sentence each why others can't."""
    ways, lacking = deployed_ways(request.compile, request.export)
    return tuple(map(_promise, ways)), lacking


def _promise(way: DeployedWay) -> Promise:
    what = "output and gradients are" if way.gradients else "the output is"
    return Promise(
        way.name,
        f"{way.called}, {what} what it computes eagerly",
        f"a call {way.called}",
        "no value of a tensor in Python (.item(), a branch, int(...)), no NumPy, no attribute that a call writes"
        if way is COMPILED
        else "sizes from x.shape, operations that the exporter knows, no branch on a tensor's values",
        partial(_find, way=way),
        needs_gradients=way.gradients,
    )


def _find(subject: Subject, way: DeployedWay) -> Broken | None:
    module, x = subject.module(), subject.image(subject.sizes[0])
    shape = tuple(x.shape)
    subject.silently(module, x)
    subject.announce(None)  # taking it takes its time, and is no call
    try:
        fault = differs(way, module, (x,))
    except NotTaken as reason:
        return Broken(f"can't be had {way.called}: {reason}", shape)
    return Broken(f"computes other values {way.called}: {fault}", shape) if fault else None
