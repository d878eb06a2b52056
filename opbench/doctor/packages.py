"""Packages: those without which nothing runs are imported, those for one part of opbench are looked up."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from collections.abc import Callable, Iterator
from typing import NamedTuple

from opbench.doctor.nouns import DoctorLine
from opbench.errors import said

# The package's name, what it is imported as, what it is there for.
NEEDED = (
    ("torch", "torch", "every operator"),
    ("numpy", "numpy", "every operator"),
    ("scipy", "scipy.stats", "intervals and tests"),
    ("msgspec", "msgspec", "documents"),
    ("typer", "typer", "the command line"),
    ("rich", "rich", "tables and progress in a terminal"),
    ("fvcore", "fvcore", "one of the three counts of MACs"),
    ("hypothesis", "hypothesis", "the search of `opbench check`"),
    ("psutil", "psutil", "memory limits"),
    ("nvidia-ml-py", "pynvml", "clocks and temperatures of a GPU"),
    ("llvmlite", "llvmlite.binding", "the CPU kernels"),
)


class ExtraPackage(NamedTuple):
    """A package of an extra of opbench's own: `pip install 'opbench[EXTRA]'`."""

    package: str
    module: str
    extra: str
    wanted_for: str


EXTRAS = (
    ExtraPackage("vl-convert-python", "vl_convert", "report", "charts, and pictures as PNG"),
    ExtraPackage("markdown-it-py", "markdown_it", "report", "report.html"),
    ExtraPackage("pillow", "PIL", "report", "images of `opbench show`"),
    ExtraPackage("pytest", "pytest", "pytest", "`pytest --benchmark-only`"),
    ExtraPackage("pytest-benchmark", "pytest_benchmark", "pytest", "`pytest --benchmark-only`"),
    ExtraPackage("pyarrow", "pyarrow", "parquet", "`opbench export --format parquet`"),
    ExtraPackage("ray", "ray", "ray", "`opbench run --executor ray`"),
    ExtraPackage("fsspec", "fsspec", "store", "results at an address"),
    ExtraPackage("s3fs", "s3fs", "store", "results at s3://..."),
    ExtraPackage("ultralytics", "ultralytics", "ultralytics", "YOLOv8 itself in `opbench model` (AGPL-3.0)"),
)


def needed() -> Iterator[DoctorLine]:
    """Each is imported: an installation may be there and be broken."""
    for package, module, wanted_for in NEEDED:
        yield _needed(package, module, wanted_for)


def _needed(package: str, module: str, wanted_for: str) -> DoctorLine:
    version = _version(package)
    try:
        importlib.import_module(module)
        if package == "llvmlite":
            _compile()
    except Exception as error:
        there = version is not None and not _absent(error, module)
        state, cure = ("broken", "--force-reinstall ") if there else ("missing", "")
        found = f"{version} is installed, but {said(error)}" if there else "not installed"
        return DoctorLine("needed", package, state, found, wanted_for, f"pip install {cure}{package}")  # type: ignore[arg-type]
    return DoctorLine("needed", package, "fine", version or "imported; its version isn't recorded", wanted_for)


def _absent(error: Exception, module: str) -> bool:
    """Whether it is the module itself that isn't there, and not one that it imports."""
    return isinstance(error, ModuleNotFoundError) and module.startswith(str(error.name))


def _compile() -> None:
    """Has llvmlite make machine code: one that is too old for our text can be imported all the same."""
    from opbench.measure import probe_code

    probe_code.address()


def optional() -> Iterator[DoctorLine]:
    """What one part of opbench lacks, each with the command that brings it."""
    for one in EXTRAS:
        yield looked_up(one.package, one.module, one.wanted_for, f"pip install 'opbench[{one.extra}]'")
    yield from _runtimes()
    yield _told("C++ compiler", "implementation `compiled`, runtime torch-compile", _compiler)
    yield _told("triton", "the kernels `triton` on a GPU", _triton)
    yield from _peers()


def looked_up(package: str, module: str, wanted_for: str, cure: str) -> DoctorLine:
    """Whether it is installed, without importing it: some take seconds."""
    if importlib.util.find_spec(module.partition(".")[0]) is None:
        return DoctorLine("optional", package, "missing", "not installed", wanted_for, cure)
    return DoctorLine("optional", package, "fine", _version(package) or "installed", wanted_for)


def _told(
    name: str, wanted_for: str, missing: Callable[[], str | None], cure: str = "", *, installed: bool = False
) -> DoctorLine:
    """What the code that needs it says itself. Its sentence may hold the cure already."""
    try:
        reason = missing()
    except Exception as error:
        return DoctorLine("optional", name, "broken", said(error), wanted_for, cure)
    if reason is None:
        return DoctorLine("optional", name, "fine", _version(name) or "found", wanted_for)
    return DoctorLine("optional", name, "broken" if installed else "missing", reason, wanted_for, cure)


def _runtimes() -> Iterator[DoctorLine]:
    try:
        from opbench.runtimes import RUNTIMES
    except Exception as error:
        yield DoctorLine("optional", "runtimes", "broken", said(error), "`opbench run --runtime`")
        return
    yield looked_up("onnx", "onnx", "`opbench check FILE.onnx`", "pip install 'opbench[deploy]'")
    yield looked_up("onnxscript", "onnxscript", "`opbench deploy --opset 21`", "pip install 'opbench[deploy]'")
    for name, runtime in RUNTIMES.items():
        # What torch brings itself stands there with torch.
        if not name.startswith("torch"):
            yield _told(name, f"`--runtime {name}`", runtime.missing)


def _compiler() -> str | None:
    from opbench.operators.common.compiling import missing

    return missing()


def _triton() -> str | None:
    from opbench.kernels.triton.launch import missing

    return missing()


def _peers() -> Iterator[DoctorLine]:
    """Others' compiled operators: an adapter's own check imports what is installed."""
    try:
        from opbench.operators.external.peers import ADAPTERS, INSTALLING
    except Exception as error:
        yield DoctorLine("optional", "peers", "broken", said(error), "others' compiled operators")
        return
    named: dict[str, list[str]] = {}
    for operator, adapters in ADAPTERS.items():
        for name in adapters:
            named.setdefault(name, []).append(operator)
    for name, operators in named.items():
        contenders = " and ".join(f"`{operator}[{name}]`" for operator in operators)
        if importlib.util.find_spec(name) is None:
            yield DoctorLine("optional", name, "missing", "not installed", contenders, INSTALLING[name])
        else:
            missing, cure = ADAPTERS[operators[0]][name].missing, f"install a {name} that fits this torch"
            yield _told(name, contenders, missing, cure, installed=True)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
