"""`opbench deploy`: what a network or an operator costs in the file that is shipped, and whether that file is right."""

from __future__ import annotations

import contextlib
import datetime
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec

from opbench.commands import Command
from opbench.exit_codes import Exit, of_outcomes
from opbench.network_request import Arguments, Size, Spread, parse_size
from opbench.options import (
    CASES,
    INPUT,
    Argument,
    AsJson,
    Option,
    Quiet,
    Verbose,
    With,
    command_line,
    folder,
    loudness,
    seconds,
)
from opbench.run_request import PRECISION, RunRequest, Seed, ShareCpu, Threads, local_folder
from opbench.schema import DEFAULT_RUNTIME, OpbenchError

if TYPE_CHECKING:
    from opbench.deploy.making import MadeFiles
    from opbench.deploy.nouns import Deployment, DeviceProof
    from opbench.deploy.targets import DeployTarget
    from opbench.engine.planner import LaidOut
    from opbench.report.screen import Screen
    from opbench.schema import Run

RUNTIMES = (DEFAULT_RUNTIME, "onnxruntime", "openvino")


class DeployRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What is deployed, with what swapped in, to which runtimes."""

    target: Annotated[
        str, Argument("An operator of `opbench list`, FILE.py:NAME or PACKAGE.MODULE:NAME of a model, or yolov8n.yaml.")
    ]
    swap: Annotated[
        tuple[str, ...],
        Option(
            "Of a network: upsample=carafe and the like (repeatable), as in `opbench model`.",
            metavar="WHAT=WITH",
            group=CASES,
        ),
    ] = ()
    runtime: Annotated[
        tuple[str, ...],
        Option(
            "Only this runtime: torch, torchscript, onnxruntime, openvino ... [torch, onnxruntime, openvino].",
            group=CASES,
        ),
    ] = ()
    opset: Annotated[tuple[int, ...], Option("An opset to write: 16 to 20 (repeatable) [17 and 20].", group=CASES)] = ()
    size: Size = "640x640"
    shape: Annotated[
        str,
        Option(
            "An operator's sizes, or a module's input, as in N=1,C=64,H=40,W=40.", metavar="NAME=SIZE,...", group=INPUT
        ),
    ] = ""
    task: Annotated[str, Option("Of an operator that stands in several tasks [the first slot].", group=CASES)] = ""
    arg: Arguments = ()
    spread: Spread = 2.0
    prove_only: Annotated[bool, Option("Write and prove the files, time nothing.")] = False
    precision: Annotated[float, PRECISION] = 0.02
    budget: Annotated[float, seconds("Seconds of timing per panel at most.", least=0.0)] = 20.0
    threads: Threads = None
    share_cpu: ShareCpu = False
    seed: Seed = 0
    output: Annotated[
        Path | None,
        folder("Folder for deploy.json, report.md and artifacts/ [results/local/...]."),
    ] = None
    as_json: AsJson = False
    quiet: Quiet = False
    verbose: Verbose = False
    with_: With = ()


def deploy(request: DeployRequest) -> Exit:
    """Export it, prove each file, and say what it costs in ONNX Runtime, OpenVINO and others; with a script to ship."""
    from opbench import documents
    from opbench.report.deployment import shown_deployment, write_deployment
    from opbench.report.lines import say_json
    from opbench.report.screen import screen, status

    told = screen(error=True, loudness=loudness(request))
    runtimes, opsets = _runtimes(request), _opsets(request)
    with contextlib.redirect_stdout(sys.stderr), status("loading the target", piped=True, loudness=loudness(request)):
        target = _target(request)
    planned, laid_out = _planned(request, target, runtimes)
    with status("writing the files", piped=True, loudness=loudness(request)) as tell:
        made, proofs = _files(request, laid_out, planned, target, runtimes, opsets, tell)
    run = None if request.prove_only else _measured(request, planned, told)
    answer = _answer(request, target, laid_out, made, proofs, run)
    folder = planned.output
    assert folder is not None
    documents.save(answer, folder / "deploy.json")
    report = write_deployment(answer, folder)
    if request.as_json:
        say_json(msgspec.json.format(documents.render(answer), indent=2))
    else:
        screen().show(*shown_deployment(answer))
        screen().line(f"report: {report}\nfiles: {folder / 'artifacts'}")
    return _exit(answer, run)


def _runtimes(request: DeployRequest) -> tuple[str, ...]:
    """Torch, beside which the others are held, and those that were asked for; OpbenchError for an unknown one."""
    from opbench.errors import nearest
    from opbench.runtimes import RUNTIMES as KNOWN

    for name in request.runtime:
        if name not in KNOWN:
            raise OpbenchError(f"--runtime: {nearest('runtime', name, KNOWN)}")
    asked = tuple(dict.fromkeys((DEFAULT_RUNTIME, *(request.runtime or RUNTIMES))))
    able = [name for name in asked if name != DEFAULT_RUNTIME and KNOWN[name].missing() is None]
    if not able:
        missing = dict.fromkeys(KNOWN[name].missing() or "" for name in asked if name != DEFAULT_RUNTIME)
        raise OpbenchError(f"there is no runtime to deploy to: {'; '.join(missing) or '--runtime names torch alone'}")
    return asked


def _opsets(request: DeployRequest) -> tuple[int, ...]:
    from opbench.runtimes.of_onnx import OPSET, OPSETS

    first, last = OPSETS
    for opset in request.opset:
        if not first <= opset <= last:
            raise OpbenchError(f"--opset {opset}: expected {first} to {last}, which torch's exporter writes")
    return tuple(dict.fromkeys(request.opset or (OPSET, last)))


def _target(request: DeployRequest) -> DeployTarget:
    from opbench import registry
    from opbench.deploy.targets import is_operator, network_target, operator_target, parse_sizes

    registry.load()
    sizes = parse_sizes(request.shape)
    if is_operator(request.target):
        if request.swap:
            raise OpbenchError(f"--swap belongs to a network, and {request.target} is an operator")
        return operator_target(request.target, request.task, sizes)
    if request.task:
        raise OpbenchError(f"--task belongs to an operator, and {request.target} is a network")
    return network_target(request.target, request.swap, parse_size(request.size), sizes, request.arg, request.seed)


def _planned(request: DeployRequest, target: DeployTarget, runtimes: Sequence[str]) -> tuple[RunRequest, LaidOut]:
    """Writes the suite, and what declares its contenders; nothing is measured yet."""
    from opbench.documents import replace_file
    from opbench.engine.planner import planned
    from opbench.slug import slug

    name = f"deploy-{slug(target.name)}"
    folder = request.output or local_folder(RunRequest(suite=name))
    suite, declared = folder / f"{name}.toml", folder / "contenders.py"
    replace_file(suite, target.suite(runtimes, request.spread).encode())
    if target.declared:
        replace_file(declared, target.declared.encode())
    asked = RunRequest(
        suite=str(suite),
        output=folder,
        precision=request.precision,
        budget=request.budget,
        threads=request.threads,
        share_cpu=request.share_cpu,
        seed=request.seed,
        extensions=(str(declared),) if target.declared else (),
    )
    return asked, planned(asked)


def _files(
    request: DeployRequest,
    laid_out: LaidOut,
    planned: RunRequest,
    target: DeployTarget,
    runtimes: Sequence[str],
    opsets: tuple[int, ...],
    tell: Callable[[str], None],
) -> tuple[MadeFiles, tuple[DeviceProof, ...]]:
    from opbench.deploy import making

    assert planned.output is not None
    folder = planned.output / making.FOLDER
    cases = making.exportable(laid_out.plan.panels)
    if not cases:
        reasons = dict.fromkeys(one.reason for one in laid_out.plan.skipped)
        raise OpbenchError(f"{target.name}: nothing of it can be exported: {'; '.join(reasons)}")
    made = making.make(cases, planned.extensions, folder, making.formats_of(runtimes), opsets, tell)
    making.ship(made, cases, folder, target.name, target.definition)
    threads = request.threads if request.threads and request.threads != "auto" else "1"
    return made, making.prove(made, folder, runtimes, int(threads), tell)


def _measured(request: DeployRequest, planned: RunRequest, told: Screen) -> Run:
    """The run, its document in the folder."""
    from opbench.commands.run import measured
    from opbench.documents import save

    folder = planned.output
    assert folder is not None
    run, said = measured(planned, folder, told.progress, lambda run, where: save(run, where / "run.json"), told.line)
    for line in said:
        told.line(line)
    return run


def _answer(
    request: DeployRequest,
    target: DeployTarget,
    laid_out: LaidOut,
    made: MadeFiles,
    proofs: tuple[DeviceProof, ...],
    run: Run | None,
) -> Deployment:
    import torch

    from opbench.analyse.quality import quality, sentence
    from opbench.deploy.answer import latencies
    from opbench.deploy.issues import applying
    from opbench.deploy.nouns import Deployment
    from opbench.engine.environment import cpu_name
    from opbench.report.deployment.verdict import verdict

    skipped = [one for one in laid_out.plan.skipped if not one.contender.partition("/")[0].endswith("[compiled]")]
    answer = Deployment(
        target=request.target,
        swaps=request.swap,
        shape=dict(target.dims),
        dtype="float32",
        definition=target.definition,
        threads=run.environment.threads if run else torch.get_num_threads(),
        machine=run.environment.cpu if run else cpu_name(),
        started=run.started if run else datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        command=command_line("deploy", request),
        artifacts=made.artifacts,
        refused=made.refused,
        proofs=proofs,
        latencies=tuple(latencies(run)) if run else (),
        issues=tuple(applying(made.artifacts)),
        not_tried=tuple(dict.fromkeys(one.reason for one in skipped)),
        quality=sentence(quality(run)) if run else "",
    )
    return msgspec.structs.replace(answer, verdict=tuple(verdict(answer, run)))


def _exit(answer: Deployment, run: Run | None) -> Exit:
    """Bad news where a file is not right or a row failed; no answer where none could be judged."""
    from opbench.deploy.nouns import BAD_PROOFS

    proofs = [one.proof for one in answer.proofs]
    if any(proof in BAD_PROOFS for proof in proofs):
        return Exit.BAD_NEWS
    if "right" not in proofs:
        return Exit.NO_ANSWER
    return of_outcomes(record.outcome for record in run.records) if run else Exit.FINE


COMMAND = Command("deploy", DeployRequest, deploy)
