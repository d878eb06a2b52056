"""The answer of `opbench deploy`, and of the script that goes with the files: sentences and tables."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rich.console import RenderableType
from rich.text import Text

from opbench.deploy.answer import title
from opbench.deploy.nouns import Deployment, DeviceProof, DeviceRun, RuntimeLatency
from opbench.documents import replace_file
from opbench.plural import counted
from opbench.report import numbers
from opbench.report.escape import block, prose, visible
from opbench.report.table import Table
from opbench.statistics.ratios import METHODS

REPORT = "report.md"


def write_deployment(answer: Deployment, folder: Path) -> Path:
    """Writes report.md; the same answer gives the same bytes."""
    latency = latency_table(answer)
    parts = [
        f"# {prose(answer.target)} where it is deployed",
        prose(setting(answer)),
        *(f"- {prose(line)}" for line in answer.verdict),
        "## Right or wrong",
        proof_table(answer.proofs, answer).markdown(),
        prose(PROOF_NOTE.format(definition=answer.definition)),
        *(["## Latency", latency.markdown(), prose(latency.note)] if answer.latencies else []),
        *(
            ["## int8, not proven", (small := int8_table(answer)).markdown(), prose(small.note)]
            if answer.quantised
            else []
        ),
        "## Files",
        file_table(answer).markdown(),
    ]
    if answer.refused:
        parts += ["## Not written", refused_table(answer).markdown()]
    if answer.quality:
        parts.append(prose(answer.quality))
    parts += [
        "## On the device",
        prose(
            "Copy the folder artifacts/ to the device, which needs numpy and the runtime, and run on_device.py there: "
            "it proves the files, times them, and writes device.json, which opbench report reads."
        ),
        "## How to repeat it",
        block([answer.command], "sh"),
    ]
    replace_file(folder / REPORT, ("\n\n".join(parts) + "\n").encode())
    return folder / REPORT


PROOF_NOTE = (
    "Held against {definition}. Of the bound: the largest error of any element over what rounding explains. Elsewhere: "
    "operations that the runtime hands to another provider or computes by its reference code, by its own profile. Peak "
    "memory is of a process that loads this one file."
)


def shown_deployment(answer: Deployment) -> Iterator[RenderableType]:
    """The whole answer for a terminal, the sentences last."""
    yield Text(visible(f"{answer.target}: {setting(answer)}"), "bold")
    yield summary_table(answer).rich()
    if answer.latencies:
        yield latency_table(answer).rich()
    if answer.quantised:
        yield int8_table(answer).rich()
    if answer.refused:
        yield refused_table(answer).rich()
    for sentence in answer.verdict:
        yield Text(visible(sentence))


def setting(answer: Deployment) -> str:
    """Where and how."""
    threads = counted(answer.threads, "thread")
    sizes = " ".join(f"{name}={value}" for name, value in answer.shape.items())
    return f"{sizes}, {answer.dtype}, inference on the CPU ({answer.machine}, {threads}), {answer.started}"


def proof_table(proofs: tuple[DeviceProof, ...], answer: Deployment | None = None) -> Table:
    """A row for each file in each runtime."""
    axes = {one.file: one.axes for one in answer.artifacts} if answer else {}
    rows = tuple(
        (
            one.file,
            title(one.runtime),
            one.version,
            one.proof,
            _sizes(one, axes.get(one.file, "")),
            numbers.plain(max((at.worst_ratio for at in one.at if at.worst_ratio is not None), default=None), "-"),
            ", ".join(f"{count} {kind}" for kind, count in one.elsewhere.items()) or one.note or "none",
            numbers.seconds(one.load_seconds, "-"),
            numbers.size(one.peak_bytes, "-"),
            one.reason,
        )
        for one in proofs
    )
    header = ("file", "runtime", "version", "proof", "at", "of the bound", "elsewhere", "to load", "peak memory", "why")
    return Table(header, rows, numbers=(5, 7, 8))


def summary_table(answer: Deployment) -> Table:
    """A row for each contender in each runtime: how many of its files are right, and what runs elsewhere in one."""
    rows = []
    for runtime in dict.fromkeys(one.runtime for one in answer.proofs):
        for contender in dict.fromkeys(one.contender for one in answer.proofs):
            own = [one for one in answer.proofs_of(contender) if one.runtime == runtime]
            if not own:
                continue
            ratios = [at.worst_ratio for one in own for at in one.at if at.worst_ratio is not None]
            elsewhere = {kind: max(one.elsewhere.get(kind, 0) for one in own) for one in own for kind in one.elsewhere}
            rows.append(
                (
                    title(runtime),
                    contender,
                    f"{sum(one.proof == 'right' for one in own)} of {len(own)}",
                    numbers.plain(max(ratios, default=None), "-"),
                    ", ".join(f"{count} {kind}" for kind, count in elsewhere.items()) or "none",
                )
            )
    header = ("runtime", "contender", "files right", "of the bound", "elsewhere, at most")
    return Table(header, tuple(rows), names=(1,), numbers=(2, 3))


def _sizes(one: DeviceProof, axes: str) -> str:
    sizes = ", ".join("x".join(map(str, at.shape)) for at in one.at if at.shape)
    return f"{sizes} (free axes)" if axes == "free" else sizes


def latency_table(answer: Deployment) -> Table:
    """A row for each contender in each runtime that was timed."""
    rows = tuple(
        (
            _where(one),
            one.contender,
            numbers.seconds(one.seconds, one.outcome),
            numbers.ratio(one.ratio, one.outcome) if one.baseline else "baseline",
            one.baseline or "-",
            one.message,
        )
        for one in answer.latencies
    )
    methods = dict.fromkeys(one.ratio.method for one in answer.latencies if one.ratio)
    note = f"In brackets: {'; '.join(METHODS[method] for method in methods)}." if methods else ""
    return Table(("runtime", "contender", "latency", "over", "baseline", "why"), rows, note, (1, 4), numbers=(2, 3))


def _where(one: RuntimeLatency) -> str:
    return title(one.runtime) if one.dtype == "float32" else f"{title(one.runtime)}, {one.dtype}"


def int8_table(answer: Deployment) -> Table:
    """A row for each contender in each runtime that executes it in int8."""
    rows = tuple(
        (
            one.contender,
            title(one.runtime),
            one.method,
            "-" if one.decibels is None else f"{one.decibels:.1f} dB",
            numbers.size(one.bytes or None, "-"),
            one.reason,
        )
        for one in answer.quantised
    )
    draws = max((one.calibration for one in answer.quantised), default=0)
    note = (
        "Not proven. Signal over error: the float64 definition's output over its difference from the int8 output, at "
        "the inputs that the files are proven at. The ranges of the activations come from "
        f"{draws} other draws of the inputs."
    )
    header = ("contender", "runtime", "quantised by", "signal over error", "size", "why")
    return Table(header, rows, note, (0,), numbers=(3, 4))


def file_table(answer: Deployment) -> Table:
    """A row for each file."""
    rows = tuple(
        (
            one.file,
            one.contender,
            one.dtype,
            one.exporter,
            str(one.opset) if one.opset else "-",
            one.axes,
            numbers.size(one.bytes),
            numbers.exactly(one.nodes),
        )
        for one in answer.artifacts
    )
    return Table(
        ("file", "contender", "dtype", "exporter", "opset", "axes", "size", "nodes"), rows, "", (0, 1), numbers=(6, 7)
    )


def refused_table(answer: Deployment) -> Table:
    """What could not be written, and why."""
    rows = tuple(
        (one.contender, f"{one.format}, {one.dtype}", str(one.opset or "-"), one.axes, one.reason)
        for one in answer.refused
    )
    return Table(("contender", "format", "opset", "axes", "why"), rows)


def write_device(found: DeviceRun, folder: Path) -> Path:
    """The report of a document that `on_device.py` wrote."""
    table = device_table(found)
    threads = counted(found.threads, "thread")
    parts = [
        f"# {prose(found.target)} on {prose(found.machine)}",
        prose(f"{found.system}, Python {found.python}, {threads}, {found.started}"),
        proof_table(found.proofs).markdown(),
        prose(PROOF_NOTE.format(definition=found.definition)),
        "## Latency",
        table.markdown(),
        prose(table.note),
    ]
    replace_file(folder / REPORT, ("\n\n".join(parts) + "\n").encode())
    return folder / REPORT


def device_table(found: DeviceRun) -> Table:
    """The times of each file, alone."""
    rows = []
    for one in found.proofs:
        times = sorted(one.samples_seconds)
        middle = times[len(times) // 2] if times else None
        ends = f"{numbers.seconds(times[0])} to {numbers.seconds(times[-1])}" if times else "-"
        rows.append((one.file, title(one.runtime), one.provider, numbers.seconds(middle, one.proof), ends))
    note = (
        "Medians of single calls and their whole range, one file after the other in processes of their own: not side "
        "by side, so that no interval of a ratio follows from them."
    )
    return Table(("file", "runtime", "provider", "latency", "range"), tuple(rows), note, numbers=(3, 4))
