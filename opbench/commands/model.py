"""`opbench model`."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec

from opbench.commands import Command
from opbench.exit_codes import Exit
from opbench.options import Argument, Option, With
from opbench.schema import DEVICES, DTYPES, MODES, OpbenchError

if TYPE_CHECKING:
    from opbench.models.costs import Costs

LARGEST_SIDE = 1 << 16


class ModelRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Which network, with what swapped in, on which input."""

    target: Annotated[str, Argument("PACKAGE.MODULE:NAME or FILE.py:NAME, a model or what makes one; or yolov8n.yaml.")]
    swap: Annotated[
        tuple[str, ...],
        Option(
            "upsample=carafe, conv3x3@bottleneck=dcnv3[gather], 'conv3x3:backbone.*=dcnv3' (repeatable); roles are "
            "backbone, neck, head and bottleneck.",
            metavar="WHAT[@ROLE][:GLOB]=WITH",
        ),
    ] = ()
    where: Annotated[str | None, Option("Swap only layers of such names, where no :GLOB says.", metavar="GLOB")] = None
    size: Annotated[
        str,
        Option("Height and width of the input, channels before them if guessed wrongly.", metavar="[Cx]HxW"),
    ] = "640x640"
    batch: Annotated[int, Option("Images at once.", least=1)] = 1
    dtype: Annotated[str, Option("float32, float64, bfloat16 or float16.")] = "float32"
    device: Annotated[str, Option("cpu or cuda.")] = "cpu"
    mode: Annotated[str, Option("inference, or training: forward and backward.")] = "inference"
    implementation: Annotated[str, Option("Of what is swapped in, where no brackets name one.")] = "auto"
    arg: Annotated[tuple[str, ...], Option("An argument for what makes the model.", metavar="NAME=VALUE")] = ()
    spread: Annotated[float, Option("Standard deviation of deformable layers' offsets, in pixels.", least=0)] = 2.0
    threads: Annotated[int | None, Option("CPU threads [torch's own choice].", least=1)] = None
    precision: Annotated[float, Option("Of the latency ratio.", metavar="SHARE", share=True)] = 0.01
    budget: Annotated[float, Option("Seconds of timing.", least=0)] = 20.0
    seed: Annotated[int, Option("Seed of parameters and inputs.", least=0, most=2**63 - 1)] = 0
    markdown: Annotated[Path | None, Option("Write the answer for a pull request.", metavar="FILE", repeats=False)] = (
        None
    )
    as_json: Annotated[
        bool, Option("Print the answer, raw samples included, as JSON.", flag="--json", repeats=False)
    ] = False
    with_: With = ()


def model(request: ModelRequest) -> Exit:
    """Say what CARAFE, DCNv3 or a rival costs in your own network: before and after, side by side."""
    from opbench import documents
    from opbench.documents import replace_file
    from opbench.report.lines import say_json
    from opbench.report.model import as_markdown, shown
    from opbench.report.screen import screen

    for kind, given, known in (
        ("device", request.device, DEVICES),
        ("dtype", request.dtype, DTYPES),
        ("mode", request.mode, MODES),
    ):
        if given not in known:
            from opbench.errors import nearest

            raise OpbenchError(f"--{kind}: {nearest(kind, given, known)}")
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

    if request.device == "cpu":
        cores.fitting(request.threads, screen(error=True).line, cores.look())
    with contextlib.redirect_stdout(sys.stderr):  # what a model or its framework prints is no part of the answer
        swaps = tuple(parse_swap(text, request.implementation, request.where) for text in request.swap)
        with status("", piped=True) as told:
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


def parse_size(text: str) -> tuple[int, ...]:
    """`480x640` is height x width; `640` is square; `1x480x640` has channels before them."""
    sides = text.lower().split("x")
    if len(sides) == 1:
        sides *= 2
    if len(sides) not in (2, 3) or not all(
        side.isascii() and side.isdigit() and 0 < int(side) <= LARGEST_SIDE for side in sides
    ):
        raise OpbenchError(
            f"--size {text}: expected HEIGHTxWIDTH in pixels, as in 640x640, or CHANNELSxHEIGHTxWIDTH: a cost is "
            f"one of a known size, so none may be left open"
        )
    return tuple(map(int, sides))


COMMAND = Command("model", ModelRequest, model)
