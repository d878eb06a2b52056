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
from opbench.exit_codes import Exit
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
from opbench.schema import OpbenchError

if TYPE_CHECKING:
    from opbench.deploy.asked import AskedFiles
    from opbench.deploy.making import FoundFiles
    from opbench.deploy.nouns import Deployment
    from opbench.deploy.progress import DeploymentProgress
    from opbench.deploy.targets import DeployTarget
    from opbench.engine.planner import LaidOut
    from opbench.report.screen import Screen
    from opbench.schema import Case, Run


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
            "Only this runtime: torch, torchscript, onnxruntime, openvino, ncnn ... [torch, onnxruntime, openvino].",
            group=CASES,
        ),
    ] = ()
    opset: Annotated[tuple[int, ...], Option("An opset to write: 16 to 23 (repeatable) [17 and 20].", group=CASES)] = ()
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
    dtype: Annotated[
        tuple[str, ...], Option("Of the files: float32, float16 (repeatable) [float32].", group=CASES)
    ] = ()
    int8: Annotated[bool, Option("Quantise each file to int8, too, and say its signal over the error: no proof.")] = (
        False
    )
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
    resume: Annotated[bool, Option("Go on with the unfinished deployment in -o DIR.", repeats=False)] = False
    as_json: AsJson = False
    quiet: Quiet = False
    verbose: Verbose = False
    with_: With = ()


def deploy(request: DeployRequest) -> Exit:
    """Export it, prove each file, and say what it costs in ONNX Runtime, OpenVINO and others; with a script to ship."""
    from opbench.deploy.asked import asked_files
    from opbench.deploy.progress import DeploymentProgress, begun
    from opbench.report.lines import say
    from opbench.report.screen import screen
    from opbench.slug import slug

    if request.resume and not request.output:
        raise OpbenchError("--resume needs -o DIR: the folder of the deployment to go on with")
    told = screen(error=True, loudness=loudness(request))
    asked = asked_files(request.runtime, request.opset, request.dtype, int8=request.int8)
    folder = request.output or local_folder(RunRequest(suite=f"deploy-{slug(request.target)}"))
    files = (request.target.partition(":")[0], *request.with_)
    progress = DeploymentProgress(folder, begun(command_line("deploy", request), files), resume=request.resume)
    try:
        return _deployed(request, asked, folder, progress, told)
    except KeyboardInterrupt:
        for line in progress.kept():
            say(line, error=True)
        return Exit.INTERRUPTED


def _deployed(
    request: DeployRequest, asked: AskedFiles, folder: Path, progress: DeploymentProgress, told: Screen
) -> Exit:
    from opbench import documents
    from opbench.deploy.answer import exit_of
    from opbench.deploy.making import exportable
    from opbench.deploy.progress import DOCUMENT, FOLDER, or_nothing
    from opbench.report.deployment import shown_deployment, write_deployment
    from opbench.report.lines import say_json
    from opbench.report.screen import screen, status

    with contextlib.redirect_stdout(sys.stderr), status("loading the target", piped=True, loudness=loudness(request)):
        target = _target(request)
    with or_nothing(folder):
        planned, laid_out = _planned(request, target, asked, folder)
        cases = exportable(laid_out.plan, target.name)
    with status("writing the files", piped=True, loudness=loudness(request)) as tell:
        found = _files(request, cases, planned, target, asked, progress, tell)
    run = None if request.prove_only else _measured(planned, progress, told)
    answer = _answer(request, target, laid_out, found, run)
    documents.save(answer, folder / DOCUMENT)
    report = write_deployment(answer, folder)
    progress.finish()
    if request.as_json:
        say_json(msgspec.json.format(documents.render(answer), indent=2))
    else:
        screen().show(*shown_deployment(answer))
        screen().line(f"report: {report}\nfiles: {folder / FOLDER}")
    return exit_of(answer, run)


def _target(request: DeployRequest) -> DeployTarget:
    from opbench import registry
    from opbench.deploy.targets import is_operator, network_target, operator_target, parse_sizes

    if request.target.endswith(".onnx"):
        said = f"hold it against an operator's definition by `opbench check {request.target} --operator NAME`"
        raise OpbenchError(f"{request.target}: it is exported already; {said}")
    registry.load()
    sizes = parse_sizes(request.shape)
    if is_operator(request.target):
        if request.swap:
            raise OpbenchError(f"--swap belongs to a network, and {request.target} is an operator")
        return operator_target(request.target, request.task, sizes)
    if request.task:
        raise OpbenchError(f"--task belongs to an operator, and {request.target} is a network")
    return network_target(request.target, request.swap, parse_size(request.size), sizes, request.arg, request.seed)


def _planned(
    request: DeployRequest, target: DeployTarget, asked: AskedFiles, folder: Path
) -> tuple[RunRequest, LaidOut]:
    """Writes the suite, and what declares its contenders; nothing is measured yet."""
    from opbench.documents import replace_file
    from opbench.engine.planner import planned
    from opbench.slug import slug

    suite, declared = folder / f"deploy-{slug(target.name)}.toml", folder / "contenders.py"
    replace_file(suite, target.suite(asked.runtimes, request.spread, asked.dtypes).encode())
    if target.declared:
        replace_file(declared, target.declared.encode())
    run = RunRequest(
        suite=str(suite),
        output=folder,
        precision=request.precision,
        budget=request.budget,
        threads=request.threads,
        share_cpu=request.share_cpu,
        seed=request.seed,
        extensions=(str(declared),) if target.declared else (),
        resume=request.resume,
    )
    return run, planned(run)


def _files(
    request: DeployRequest,
    cases: Sequence[Case],
    planned: RunRequest,
    target: DeployTarget,
    asked: AskedFiles,
    progress: DeploymentProgress,
    tell: Callable[[str], None],
) -> FoundFiles:
    from opbench.deploy import making
    from opbench.deploy.progress import FOLDER

    assert planned.output is not None
    folder = planned.output / FOLDER
    made = making.make(cases, planned.extensions, folder, making.formats_of(asked.able), asked.opsets, progress, tell)
    making.ship(made, cases, folder, target.name, target.definition)
    threads = int(request.threads) if request.threads and request.threads != "auto" else 1
    proofs = making.prove(made, folder, asked.able, threads, progress, tell)
    found = making.FoundFiles(made, proofs)
    if not request.int8:
        return found
    quantised = making.quantise(made, cases, planned.extensions, folder, asked.able, threads, progress, tell)
    return found._replace(quantised=quantised)


def _measured(planned: RunRequest, progress: DeploymentProgress, told: Screen) -> Run:
    """The run, its document in the folder."""
    from opbench.commands.run import measured
    from opbench.documents import save
    from opbench.engine.kept_runs import journals

    folder = planned.output
    assert folder is not None
    if (done := progress.timed()) is not None:
        return done
    progress.begin_timing()
    planned = msgspec.structs.replace(planned, resume=planned.resume and bool(journals(planned, folder)))
    run, said = measured(planned, folder, told.progress, lambda run, where: save(run, where / "run.json"), told.line)
    for line in said:
        told.line(line)
    return run


def _answer(
    request: DeployRequest, target: DeployTarget, laid_out: LaidOut, found: FoundFiles, run: Run | None
) -> Deployment:
    import torch

    from opbench.analyse.quality import quality, sentence
    from opbench.deploy.answer import latencies
    from opbench.deploy.issues import applying
    from opbench.deploy.nouns import INT8_NOT_MEASURED, INT8_NOT_PROVEN, Deployment
    from opbench.engine.environment import cpu_name
    from opbench.report.deployment.verdict import verdict

    skipped = [one for one in laid_out.plan.skipped if not one.contender.partition("/")[0].endswith("[compiled]")]
    answer = Deployment(
        target=request.target,
        swaps=request.swap,
        shape=dict(target.dims),
        dtype=", ".join(dict.fromkeys(request.dtype or ("float32",))),
        definition=target.definition,
        threads=run.environment.threads if run else torch.get_num_threads(),
        machine=run.environment.cpu if run else cpu_name(),
        started=run.started if run else datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        command=command_line("deploy", request),
        artifacts=found.made.artifacts,
        refused=found.made.refused,
        proofs=found.proofs,
        latencies=tuple(latencies(run)) if run else (),
        issues=tuple(applying(found.made.artifacts)),
        not_tried=tuple(dict.fromkeys(one.reason for one in skipped)),
        quality=sentence(quality(run)) if run else "",
        quantised=found.quantised,
        int8=INT8_NOT_PROVEN if found.quantised else INT8_NOT_MEASURED,
    )
    return msgspec.structs.replace(answer, verdict=tuple(verdict(answer, run)))


COMMAND = Command("deploy", DeployRequest, deploy)
