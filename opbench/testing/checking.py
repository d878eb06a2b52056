"""`opbench check` as an assertion: a test fails with the smallest input that shows what is wrong."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import opbench

if TYPE_CHECKING:
    from opbench.commands.check import CheckRequest
    from opbench.conformance.findings import Conformance, Request
    from opbench.conformance.promises.findings import PromiseRequest, Promises


def assert_right(
    target: str | Callable[..., Any],
    operator: str | None = None,
    *,
    quick: bool = True,
    strict: bool = False,
    path: Iterable[str] = (),
    **options: Any,
) -> Conformance | Promises:
    """Asserts that a function or module class computes what `operator` is defined to compute.

    target: a core as x (N, C, H, W), mask (N, g*k*k, s*H, s*W) -> (N, C, s*H, s*W), or a module (N, C, H, W), at the
    top of a file, or its place "FILE.py:NAME". Without an operator a module is held to what every module promises.
    With `strict`, what is fragile fails, too. `options` are those of `opbench.check`: only, skip, fix, arguments,
    dtypes, shape, device, forward_only, seed. It is tried in a process of its own, for up to 20 seconds; with
    quick=False for two minutes.

    Raises AssertionError with what `opbench check` prints: also where nothing could be judged.
    """
    __tracebackhide__ = True  # what a person reads is what the check says
    folders = (*path, *_root(target))
    good = ("right",) if strict else ("right", "fragile")
    if operator is None:
        promised: Promises = opbench.check(target, path=folders, **options)
        assert promised.verdict in good, _promises(promised)
        return promised
    found: Conformance = opbench.check(target, operator, quick=quick, path=folders, **options)
    assert found.verdict in good, _conformance(found)
    return found


def _root(target: str | Callable[..., Any]) -> list[str]:
    """The folder from which a file that is part of a package is imported, for its relative imports."""
    from opbench.conformance.target import package_root

    file = None if isinstance(target, str) else inspect.getsourcefile(target)
    if file is None:
        return []
    root = package_root(Path(file))
    return [] if root == Path(file).resolve().parent else [str(root)]


def _conformance(found: Conformance) -> str:
    from opbench.commands.check import repeat
    from opbench.report.conformance import lines

    asked = found.request
    again = _again(
        asked, operator=asked.operator, dtype=asked.dtypes, fix=asked.fix, shape=asked.shape, quick=asked.quick
    )
    return "\n".join(lines(found, lambda only, dtypes: repeat(again, only, dtypes)))


def _promises(found: Promises) -> str:
    from opbench.commands.check import repeat
    from opbench.report.promises import promise_lines

    shape = ",".join(f"{axis}={size}" for axis, size in found.request.shape.items())
    return "\n".join(promise_lines(found, repeat(_again(found.request, shape=shape))))


def _again(asked: Request | PromiseRequest, **more: Any) -> CheckRequest:
    """What the command line would ask for, to check the same once more."""
    from opbench.commands.check import CheckRequest

    return CheckRequest(
        target=asked.target,
        only=asked.only,
        skip=asked.skip,
        arg=asked.arguments,
        device=asked.device,
        forward_only=asked.forward_only,
        path=asked.path,
        seed=asked.seed,
        **more,
    )
