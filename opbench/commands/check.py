"""`opbench check`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec

from opbench.commands import Command
from opbench.exit_codes import Exit, of_verdict
from opbench.options import CASES, INPUT, OUTPUT, Argument, Option, Quiet, Verbose, With, command_line, loudness
from opbench.schema import DEVICES, DTYPES, OpbenchError

if TYPE_CHECKING:
    from opbench.conformance.findings import Limits, Request

# Of what can't be judged: it quotes what the target raises, which may be megabytes.
LONGEST_ERROR = 1000
# After so many checkers that were killed no other is begun: the target may kill each of them.
MOST_KILLED = 2


class CheckRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Whose code, as what, and how much of it."""

    target: Annotated[
        str, Argument("FILE.py:NAME or PACKAGE.MODULE:NAME, a function or a module; or FILE.onnx, its core or module.")
    ]
    operator: Annotated[
        str | None,
        Option(
            "What it should compute: carafe, dcnv3, any operator of `opbench list`. Without it, a module is held to "
            "what every module promises."
        ),
    ] = None
    only: Annotated[
        tuple[str, ...], Option("Only this relation or promise (repeatable).", metavar="RELATION", group=CASES)
    ] = ()
    skip: Annotated[
        tuple[str, ...],
        Option("Not this relation: the target doesn't promise it (repeatable).", metavar="RELATION", group=CASES),
    ] = ()
    dtype: Annotated[tuple[str, ...], Option("Only this dtype (repeatable).", group=CASES)] = ()
    fix: Annotated[
        tuple[str, ...], Option("Hold an option still, as in kernel_size=5.", metavar="NAME=VALUE", group=CASES)
    ] = ()
    shape: Annotated[
        str,
        Option(
            "Sizes of your own to try first, as in N=8,C=256,H=80,W=80; without --operator, the images to give.",
            metavar="NAME=SIZE,...",
            group=INPUT,
        ),
    ] = ""
    names: Annotated[
        str,
        Option(
            "Of FILE.onnx: its inputs in the order of the operator's, as in x,mask.", metavar="NAME,...", group=INPUT
        ),
    ] = ""
    arg: Annotated[
        tuple[str, ...], Option("A constructor argument of a module.", metavar="NAME=VALUE", group=INPUT)
    ] = ()
    device: Annotated[str, Option("cpu or cuda.", group=CASES)] = "cpu"
    forward_only: Annotated[
        bool, Option("Nothing that needs gradients: for code without a backward pass.", group=CASES)
    ] = False
    timeout: Annotated[
        float | None,
        Option(
            "Seconds that a call of the target, or importing it, may take [20, with --quick 12, without --operator 8; "
            "for importing 120 or 30]; longer on a busy machine, whose share of a core is measured.",
            metavar="SECONDS",
            least=1,
        ),
    ] = None
    quick: Annotated[bool, Option("Fewer examples: under 20 seconds.", group=CASES)] = False
    first: Annotated[bool, Option("Stop at the first failure.", group=CASES)] = False
    strict: Annotated[bool, Option("Fragile is bad news as well: exit code 1.")] = False
    compile: Annotated[
        bool, Option("Also under torch.compile: two calls more, which cost seconds to minutes.", group=CASES)
    ] = False
    export: Annotated[
        bool,
        Option(
            "Also exported, by torch.export and to ONNX: two calls more of each, which cost seconds to minutes.",
            group=CASES,
        ),
    ] = False
    path: Annotated[
        tuple[str, ...],
        Option("A folder that the target's file imports from (repeatable).", metavar="FOLDER", group=INPUT),
    ] = ()
    as_json: Annotated[bool, Option("Print the findings as JSON.", flag="--json", repeats=False, group=OUTPUT)] = False
    quiet: Quiet = False
    verbose: Verbose = False
    with_: With = ()
    seed: Annotated[int, Option("Seed of the search.", least=0, spelled=True)] = 0


def check(request: CheckRequest, limits: Limits | None = None) -> Exit:
    """Prove anyone's CARAFE, DCNv3 or other operator right or show, on a small input, what it breaks."""
    from opbench.conformance.check import check as judge
    from opbench.process.outliving import can_fork, outliving
    from opbench.report.conformance import as_json, lines
    from opbench.report.lines import say, say_json, say_lines
    from opbench.report.screen import status

    killed = 0
    if can_fork():
        killed = outliving(lambda one: say(f"opbench: {one}", error=True), "the check", "it is begun anew")
    if killed >= MOST_KILLED:
        raise OpbenchError(
            f"target {request.target!r}: not judged: the checker was killed {MOST_KILLED} times while it was tried, "
            "which the target may have done"
        )
    if request.target.endswith(".onnx"):
        return _artifact(request)
    if request.names:
        raise OpbenchError("--names belongs to FILE.onnx: leave it out")
    if request.operator is None:
        return _promises(request)
    asked = _asked(request)
    with status("loading the target", loudness=loudness(request)) as told:
        found = judge(asked, limits or _limits(request), lambda done, of, name: told(f"{done} of {of}: {name}"))
    if request.as_json:
        say_json(as_json(found).encode())
    else:
        say_lines(lines(found, lambda only, dtypes: repeat(request, only, dtypes)))
        if found.verdict == "not judged" and found.attempts and not found.results:
            say_lines(["", f"what every module promises it can be held to all the same: {_without_operator(request)}"])
    return of_verdict(found.verdict, request.strict)


def _without_operator(request: CheckRequest) -> str:
    """The command that holds the same target to what every module promises."""
    return command_line(
        "check", CheckRequest(target=request.target, arg=request.arg, path=request.path, device=request.device)
    )


def _artifact(request: CheckRequest) -> Exit:
    """A file that was exported: its output at its own sizes, or at several where they are free."""
    from opbench.conformance.artifact import ArtifactJob, check_artifact
    from opbench.conformance.target import assignments
    from opbench.report.artifact import artifact_json, artifact_lines, verdict_of
    from opbench.report.lines import say_json, say_lines

    if request.operator is None:
        raise OpbenchError(f"{request.target}: say what it should compute, as in --operator carafe")
    shape = [part for part in request.shape.split(",") if part.strip()]
    sizes: dict[str, int] = {}
    for name, value in {**assignments("--shape", shape), **assignments("--fix", request.fix)}.items():
        if type(value) is not int or value < 0:
            raise OpbenchError(f"{name}={value}: expected NAME=SIZE, as in --shape C=64,H=20 or --fix k=5")
        sizes[name] = value
    names = tuple(word.strip() for word in request.names.split(",") if word.strip())
    found = tuple(check_artifact(ArtifactJob(request.target, request.operator, sizes, names, request.seed)))
    if request.as_json:
        say_json(artifact_json(request.target, request.operator, found))
    else:
        say_lines(artifact_lines(request.target, request.operator, found))
    return of_verdict(verdict_of(found), request.strict)


def _promises(request: CheckRequest) -> Exit:
    """No operator is named: what every module promises, whatever it computes."""
    from opbench.conformance.promises.check import check_promises, parsed_shape
    from opbench.conformance.promises.findings import Patience, PromiseRequest
    from opbench.report.escape import visible
    from opbench.report.lines import say_json, say_lines
    from opbench.report.promises import promise_lines, promises_json
    from opbench.report.screen import status

    _known(request)
    for option, given in (("--fix", request.fix), ("--dtype", request.dtype), ("--first", request.first)):
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
        path=request.path,
        compile=request.compile,
        export=request.export,
    )
    patience = Patience()
    if request.timeout is not None:
        patience = msgspec.structs.replace(patience, call=request.timeout, importing=request.timeout)
    try:
        with status("loading the target", loudness=loudness(request)) as told:
            found = check_promises(asked, patience, progress=lambda done, of, name: told(f"{done} of {of}: {name}"))
    except OpbenchError as error:  # it quotes the target
        raise OpbenchError(visible(str(error), LONGEST_ERROR)) from error
    if request.as_json:
        say_json(promises_json(found).encode())
    else:
        say_lines(promise_lines(found, repeat(request)))
    return of_verdict(found.verdict, request.strict)


def repeat(request: CheckRequest, only: str = "", dtypes: tuple[str, ...] = ()) -> str:
    """The command that repeats a check, or one relation of it, or either in some dtypes."""
    if only:
        request = msgspec.structs.replace(request, only=(only,), skip=(), first=False)
    return command_line("check", msgspec.structs.replace(request, dtype=dtypes) if dtypes else request)


def _limits(request: CheckRequest) -> Limits:
    """Those of a quick check or a full one, with the seconds that were asked for."""
    from opbench.conformance.findings import FULL, QUICK

    limits = QUICK if request.quick else FULL
    if request.timeout is None:
        return limits
    return msgspec.structs.replace(limits, call_seconds=request.timeout, import_seconds=request.timeout)


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
        path=request.path,
        first=request.first,
        strict=request.strict,
        compile=request.compile,
        export=request.export,
    )


COMMAND = Command("check", CheckRequest, check)
