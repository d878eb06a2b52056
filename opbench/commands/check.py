"""`opbench check`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec

from opbench.commands import Command
from opbench.exit_codes import Exit
from opbench.options import Argument, Option, With, command_line
from opbench.schema import DEVICES, DTYPES, OpbenchError

if TYPE_CHECKING:
    from opbench.conformance.findings import Conformance, Limits, Request

# Of what can't be judged: it quotes what the target raises, which may be megabytes.
LONGEST_ERROR = 1000


class CheckRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Whose code, as what, and how much of it."""

    target: Annotated[str, Argument("FILE.py:NAME or PACKAGE.MODULE:NAME, a function or a module.")]
    operator: Annotated[
        str | None,
        Option(
            "What it should compute: carafe, dcnv3, any operator of `opbench list`. Without it, a module is held to "
            "what every module promises."
        ),
    ] = None
    only: Annotated[tuple[str, ...], Option("Only this relation or promise (repeatable).", metavar="RELATION")] = ()
    skip: Annotated[
        tuple[str, ...],
        Option("Not this relation: the target doesn't promise it (repeatable).", metavar="RELATION"),
    ] = ()
    dtype: Annotated[tuple[str, ...], Option("Only this dtype (repeatable).")] = ()
    fix: Annotated[tuple[str, ...], Option("Hold an option still, as in kernel_size=5.", metavar="NAME=VALUE")] = ()
    shape: Annotated[
        str,
        Option(
            "Sizes of your own to try first, as in N=8,C=256,H=80,W=80; without --operator, the images to give.",
            metavar="NAME=SIZE,...",
        ),
    ] = ""
    arg: Annotated[tuple[str, ...], Option("A constructor argument of a module.", metavar="NAME=VALUE")] = ()
    device: Annotated[str, Option("cpu or cuda.")] = "cpu"
    forward_only: Annotated[bool, Option("Nothing that needs gradients: for code without a backward pass.")] = False
    quick: Annotated[bool, Option("Fewer examples: under 20 seconds.")] = False
    as_json: Annotated[bool, Option("Print the findings as JSON.", flag="--json", repeats=False)] = False
    with_: With = ()
    seed: Annotated[int, Option("Seed of the search.", least=0, spelled=True)] = 0


def check(request: CheckRequest, limits: Limits | None = None) -> Exit:
    """Prove anyone's CARAFE, DCNv3 or other operator right or show, on a small input, what it breaks."""
    from opbench.conformance.check import check as judge
    from opbench.report.conformance import as_json, lines
    from opbench.report.screen import status

    if request.operator is None:
        return _promises(request)
    asked = _asked(request)
    with status("loading the target") as told:
        found = judge(asked, limits, lambda done, of, name: told(f"{done} of {of}: {name}"))
    print(
        as_json(found) if request.as_json else "\n".join(lines(found, lambda only, dtype: repeat(request, only, dtype)))
    )
    return _code(found)


def _promises(request: CheckRequest) -> Exit:
    """No operator is named: what every module promises, whatever it computes."""
    from opbench.conformance.promises.check import check_promises, parsed_shape
    from opbench.conformance.promises.findings import PromiseRequest
    from opbench.report.escape import visible
    from opbench.report.promises import promise_lines, promises_json
    from opbench.report.screen import status

    _known(request)
    for option, given in (("--fix", request.fix), ("--dtype", request.dtype)):
        if given:
            raise OpbenchError(f"{option} belongs to an operator: name it with --operator, or leave {option} out")
    asked = PromiseRequest(
        target=request.target,
        arguments=request.arg,
        shape=parsed_shape(request.shape),
        device=request.device,  # type: ignore[arg-type]
        only=request.only,
        skip=request.skip,
        forward_only=request.forward_only,
        seed=request.seed,
    )
    try:
        with status("loading the target") as told:
            found = check_promises(asked, progress=lambda done, of, name: told(f"{done} of {of}: {name}"))
    except OpbenchError as error:  # it quotes the target
        raise OpbenchError(visible(str(error), LONGEST_ERROR)) from error
    print(promises_json(found) if request.as_json else "\n".join(promise_lines(found, repeat(request))))
    if found.verdict == "wrong":
        return Exit.BAD_NEWS
    return Exit.FINE if found.conformant else Exit.NO_ANSWER


def repeat(request: CheckRequest, only: str = "", dtype: str = "") -> str:
    """The command that repeats a check, or one relation of it, or either in one dtype."""
    if only:
        request = msgspec.structs.replace(request, only=(only,), skip=())
    return command_line("check", msgspec.structs.replace(request, dtype=(dtype,)) if dtype else request)


def _known(request: CheckRequest) -> None:
    """Raises OpbenchError for a device or dtype that is none."""
    from opbench.errors import nearest

    for kind, given, known in (("device", (request.device,), DEVICES), ("dtype", request.dtype, DTYPES)):
        for name in given:
            if name not in known:
                raise OpbenchError(f"--{kind}: {nearest(kind, name, known)}")


def _asked(request: CheckRequest) -> Request:
    from opbench.conformance.findings import Request

    _known(request)
    assert request.operator is not None
    return Request(
        target=request.target,
        operator=request.operator,
        device=request.device,  # type: ignore[arg-type]
        dtypes=request.dtype,  # type: ignore[arg-type]
        fix=request.fix,
        arguments=request.arg,
        only=request.only,
        skip=request.skip,
        forward_only=request.forward_only,
        seed=request.seed,
        quick=request.quick,
        shape=request.shape,
    )


def _code(found: Conformance) -> Exit:
    """A target that refuses every call is as wrong as one that answers wrongly; one that nothing was asked of isn't."""
    if found.conformant:
        return Exit.FINE
    return Exit.BAD_NEWS if found.failing or found.refused else Exit.NO_ANSWER


COMMAND = Command("check", CheckRequest, check)
