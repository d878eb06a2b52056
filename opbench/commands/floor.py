"""`opbench floor`."""

from __future__ import annotations

from typing import Annotated

import msgspec

from opbench.commands import Command
from opbench.exit_codes import Exit
from opbench.options import CASES, OUTPUT, Option, With
from opbench.schema import Filter, OpbenchError


class FloorRequest(msgspec.Struct, frozen=True, kw_only=True):
    """On which GPUs, and which cases of a suite; nothing is measured, so that no GPU is needed."""

    gpu: Annotated[tuple[str, ...], Option("A GPU by name: h100, a100, l4, orin (repeatable) [all].", group=CASES)] = ()
    suite: Annotated[str, Option("A suite's name, or a suite file of your own (FILE.toml).", metavar="SUITE")] = (
        "default"
    )
    task: Annotated[tuple[str, ...], Option("Only this task (repeatable, as are all filters).", group=CASES)] = ()
    workload: Annotated[tuple[str, ...], Option("Only this workload.", group=CASES)] = ()
    operator: Annotated[tuple[str, ...], Option("Only this operator, beside the baseline.", group=CASES)] = ()
    implementation: Annotated[
        tuple[str, ...], Option("Only this implementation, beside the baseline.", group=CASES)
    ] = ()
    dtype: Annotated[tuple[str, ...], Option("This dtype: float64, float32, bfloat16, float16.", group=CASES)] = ()
    mode: Annotated[tuple[str, ...], Option("This mode: inference, training.", group=CASES)] = ()
    as_json: Annotated[
        bool, Option("Print them as JSON, in seconds and bytes.", flag="--json", repeats=False, group=OUTPUT)
    ] = False
    with_: With = ()


def floor(request: FloorRequest) -> Exit:
    """Compute the least time that GPUs' data sheets allow operators, and the uncached time of implementations."""
    from opbench import plan, registry, suites
    from opbench.documents import encode
    from opbench.floor.floors import floors
    from opbench.floor.gpus import gpu, gpus
    from opbench.report.lines import say_json, say_lines

    registry.load()
    asked = {name: gpu(name) for name in request.gpu} or gpus()
    names: tuple[Filter, ...] = ("task", "workload", "operator", "implementation", "dtype", "mode")
    filters: dict[Filter, tuple[str, ...]] = {name: getattr(request, name) for name in names}
    laid_out = plan.plan(suites.load(request.suite), {**filters, "device": ("cuda",)}, cuda=True, here=False)
    if not laid_out.panels:
        raise OpbenchError("no case runs on a GPU; see `opbench list workloads --suite ...`")
    found = tuple(floors(laid_out, asked))
    if request.as_json:
        say_json(encode({"gpus": asked, "floors": found}))
        return Exit.FINE
    from opbench.report.floor import NOTE, sources, tables
    from opbench.report.screen import screen

    shown = screen()
    for table in tables(found, asked):
        shown.table(table.header, table.rows, table.title)
    say_lines((NOTE, *sources(asked)))
    return Exit.FINE


COMMAND = Command("floor", FloorRequest, floor)
