"""`opbench model`."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec

from opbench.commands import Command
from opbench.exit_codes import Exit
from opbench.network_request import (
    Arguments,
    Batch,
    DeviceName,
    DTypeName,
    ModeName,
    Size,
    Spread,
    Target,
    check_words,
    parse_size,
)
from opbench.options import CASES, MEASURING, OUTPUT, Option, Quiet, Verbose, With, loudness, seconds

if TYPE_CHECKING:
    from opbench.models.costs import Costs


class ModelRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Which network, with what swapped in, on which input."""

    target: Target
    swap: Annotated[
        tuple[str, ...],
        Option(
            "upsample=carafe, conv3x3@bottleneck=dcnv3[gather], 'conv3x3:backbone.*=dcnv3' (repeatable); roles are "
            "backbone, neck, head and bottleneck.",
            metavar="WHAT[@ROLE][:GLOB]=WITH",
            group=CASES,
        ),
    ] = ()
    where: Annotated[
        str | None, Option("Swap only layers of such names, where no :GLOB says.", metavar="GLOB", group=CASES)
    ] = None
    size: Size = "640x640"
    batch: Batch = 1
    dtype: DTypeName = "float32"
    device: DeviceName = "cpu"
    mode: ModeName = "inference"
    implementation: Annotated[str, Option("Of what is swapped in, where no brackets name one.", group=CASES)] = "auto"
    arg: Arguments = ()
    spread: Spread = 2.0
    threads: Annotated[int | None, Option("CPU threads [torch's own choice].", least=1, group=MEASURING)] = None
    precision: Annotated[float, Option("Of the latency ratio.", metavar="SHARE", share=True, group=MEASURING)] = 0.01
    budget: Annotated[float, seconds("Seconds of timing.", least=0)] = 20.0
    seed: Annotated[int, Option("Seed of parameters and inputs.", least=0, most=2**63 - 1, group=MEASURING)] = 0
    markdown: Annotated[
        Path | None, Option("Write the answer for a pull request.", metavar="FILE", repeats=False, group=OUTPUT)
    ] = None
    as_json: Annotated[
        bool, Option("Print the answer, raw samples included, as JSON.", flag="--json", repeats=False, group=OUTPUT)
    ] = False
    quiet: Quiet = False
    verbose: Verbose = False
    with_: With = ()


def model(request: ModelRequest) -> Exit:
    """Say what CARAFE, DCNv3 or a rival costs in your own network: before and after, side by side."""
    from opbench import documents
    from opbench.documents import replace_file
    from opbench.report.lines import say_json
    from opbench.report.model import as_markdown, shown
    from opbench.report.screen import screen

    check_words(request.device, request.dtype, request.mode)
    costs = _measured(request)
    if request.markdown is not None:
        replace_file(request.markdown, as_markdown(costs).encode())
    if request.as_json:
        say_json(msgspec.json.format(documents.render(costs), indent=2))
    else:
        screen().show(*shown(costs))
    return Exit.FINE


def _measured(request: ModelRequest) -> Costs:
    from opbench.measure import cores
    from opbench.models.costs import CostRequest, parse_swap
    from opbench.models.side_by_side import measure
    from opbench.report.screen import screen, status

    loud = loudness(request)
    if request.device == "cpu":
        cores.fitting(request.threads, screen(error=True, loudness=loud).line, cores.look())
    with contextlib.redirect_stdout(sys.stderr):  # what a model or its framework prints is no part of the answer
        swaps = tuple(parse_swap(text, request.implementation, request.where) for text in request.swap)
        with status("", piped=True, loudness=loud) as told:
            return measure(
                CostRequest(
                    target=request.target,
                    swaps=swaps,
                    size=parse_size(request.size),
                    batch=request.batch,
                    dtype=request.dtype,  # type: ignore[arg-type]
                    device=request.device,  # type: ignore[arg-type]
                    mode=request.mode,  # type: ignore[arg-type]
                    arguments=request.arg,
                    spread=request.spread,
                    precision=request.precision,
                    budget_seconds=request.budget,
                    seed=request.seed,
                    threads=request.threads,
                    announce=told,
                )
            )


COMMAND = Command("model", ModelRequest, model)
