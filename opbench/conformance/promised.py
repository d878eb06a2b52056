"""What convicts a module in which no operator was found: faults that no operator may have, whatever it computes."""

from __future__ import annotations

import inspect
import time
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from torch import nn

from opbench.conformance.findings import Request
from opbench.conformance.promises.accepting import accept
from opbench.conformance.promises.constructing import built
from opbench.conformance.promises.findings import PromiseRequest
from opbench.conformance.promises.promise import Broken, OutOfTime, Promise, TargetRaised
from opbench.conformance.promises.subject import Subject
from opbench.conformance.promises.wrong import WRONG
from opbench.schema import OpbenchError

# Of a module that computes something else than its operator these tell the most; the others say how it is kept.
REPEATABLE, IMAGES_APART, GRADIENTS = "repeatable", "images-apart", "gradients"
SECONDS = 20.0


def fault(
    request: Request, found: type[nn.Module] | nn.Module, supplied: Mapping[str, Any], name: str
) -> tuple[str, str]:
    """What the module `name` does that none may, in a sentence, and which promise it breaks; "" twice where nothing.

    `supplied` are arguments of its constructor that nobody gave, with the values to give.
    """
    given = {text.partition("=")[0].strip() for text in request.arguments}
    arguments = tuple(f"{key}={value}" for key, value in unset(found, supplied).items() if key not in given)
    asked = PromiseRequest(
        target=request.target,
        arguments=(*request.arguments, *arguments),
        device=request.device,
        seed=request.seed,
        path=request.path,
    )
    try:
        subject, _, channels, _ = built(asked)
        subject.deadline = time.monotonic() + SECONDS
        accept(subject, channels, {})
    except (OpbenchError, OutOfTime, TargetRaised):
        return "", ""
    promises = {promise.name: promise for promise in WRONG}
    names = [IMAGES_APART, *([] if request.forward_only else [GRADIENTS])]
    if _broken(promises[REPEATABLE], subject) is not None:
        names = names[1:]  # two calls differ anyway, so that comparing them says nothing
    broken = {promises[one].statement: seen for one in names if (seen := _broken(promises[one], subject)) is not None}
    if not broken:
        return "", ""
    return f"{name} {'; and it '.join(map(_told, broken.values()))}", "; ".join(broken)


def unset(found: type[nn.Module] | nn.Module, supplied: Mapping[str, Any]) -> dict[str, Any]:
    """Of the values supplied those that a class needs."""
    if isinstance(found, nn.Module) or not supplied:
        return {}
    parameters = inspect.signature(found).parameters
    empty = inspect.Parameter.empty
    return {name: value for name, value in supplied.items() if name in parameters and parameters[name].default is empty}


def _broken(promise: Promise, subject: Subject) -> Broken | None:
    """How it is broken; None where it is kept, or can't be tried."""
    try:
        return promise.find(subject)
    except (TargetRaised, OutOfTime):
        return None


def _told(broken: Broken) -> str:
    where = broken.where
    return broken.said + (f" ({PurePath(where.file).name}, line {where.line})" if where else "")
