"""What a script or a notebook calls: the same stages as the commands, with values instead of files and exit codes.

Everything here raises `opbench.OpbenchError`, one sentence, for wrong usage and unreadable input.

Longer than 300 lines because signatures are spelled out here, for `help` and for type checkers.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from opbench.errors import OpbenchError
from opbench.schema import Device, DType, Mode, Operator, Run, Setting, Task

if TYPE_CHECKING:
    from opbench.analyse.compare.nouns import Comparison
    from opbench.conformance.findings import Conformance
    from opbench.conformance.promises.findings import Promises

PathLike = str | os.PathLike[str]
# What `check` is given: FILE.py:NAME or package.module:NAME, or the function or module class itself.
Checked = str | Callable[..., Any]


def declare(*declarations: Task | Operator | PathLike) -> None:
    """Adds tasks, operators and files of declarations: from here on they compete, are checked, swapped and drawn.

    A task comes before its operators. A file's declarations reach the processes that measure, too; what was declared
    by value is known to this process alone, so that `run` and `check` need the file.

    Raises OpbenchError for a declaration that is incomplete or taken, and for a file that can't be imported.

    >>> from opbench import declare
    >>> declare("my_operators.py")  # doctest: +SKIP
    """
    from opbench import registry

    registry.load()
    for one in declarations:
        if isinstance(one, Task):
            registry.register_task(one)
        elif isinstance(one, Operator):
            registry.register_operator(one)
        else:
            registry.add_files([os.fspath(one)])
            registry.load_file(os.fspath(one))


@overload
def check(
    target: Checked,
    operator: str,
    *,
    device: Device = "cpu",
    dtypes: Iterable[DType] = (),
    fix: Mapping[str, Setting] | None = None,
    arguments: Mapping[str, Setting] | None = None,
    shape: Mapping[str, int] | None = None,
    only: Iterable[str] = (),
    skip: Iterable[str] = (),
    forward_only: bool = False,
    quick: bool = False,
    seed: int = 0,
    path: Iterable[PathLike] = (),
) -> Conformance: ...
@overload
def check(
    target: Checked,
    operator: None = None,
    *,
    shape: Mapping[str, int] | None = None,
    device: Device = "cpu",
    arguments: Mapping[str, Setting] | None = None,
    only: Iterable[str] = (),
    skip: Iterable[str] = (),
    forward_only: bool = False,
    seed: int = 0,
    path: Iterable[PathLike] = (),
) -> Promises: ...
def check(
    target: Checked,
    operator: str | None = None,
    *,
    shape: Mapping[str, int] | None = None,
    device: Device = "cpu",
    dtypes: Iterable[DType] = (),
    fix: Mapping[str, Setting] | None = None,
    arguments: Mapping[str, Setting] | None = None,
    only: Iterable[str] = (),
    skip: Iterable[str] = (),
    forward_only: bool = False,
    quick: bool = False,
    seed: int = 0,
    path: Iterable[PathLike] = (),
) -> Conformance | Promises:
    """Whether a function or module computes what `operator` is defined to compute: `opbench check` as a call.

    target: "FILE.py:NAME" or "package.module:NAME", or a function or class at the top of a file. It is imported and
    tried in a process of its own, never here. A core has its operator's signature, as CARAFE's x (N, C, H, W),
    mask (N, g*k*k, s*H, s*W) -> (N, C, s*H, s*W); a module takes and gives (N, C, H, W). `fix` holds options of a
    core or settings of the operator, `arguments` a class's own constructor arguments, `shape` sizes of a call that is
    tried first. `path` are folders that the target imports from.

    Without an operator, a module is held to what every module promises, on images of `shape` {"N": 2, "C": 64, "H": 32,
    "W": 32} or some of it: `wrong` and `fragile` are the promises that it breaks.

    The result's `verdict` is the answer, "right", "fragile", "wrong" or "not judged", and `conformant` whether it is
    one of the first two; of an operator, `results` holds every relation tried, with a shrunk counterexample where it
    fails, and `worst_ratio` the largest |error| / bound.

    >>> from opbench import check
    >>> check("opbench.operators.carafe:carafe", "carafe", quick=True).conformant  # doctest: +SKIP
    True
    """
    folders = tuple(os.fspath(folder) for folder in path)
    if operator is None:
        return _promises(
            target,
            shape,
            device,
            arguments,
            only,
            skip,
            forward_only,
            seed,
            folders,
            asked={"dtypes": dtypes, "fix": fix},
        )
    from opbench.conformance.check import check as judge
    from opbench.conformance.findings import Request

    return judge(
        Request(
            target=_spelled(target),
            operator=operator,
            device=device,
            dtypes=tuple(dtypes),
            fix=_assigned(fix),
            arguments=_assigned(arguments),
            shape=",".join(_assigned(shape)),
            only=tuple(only),
            skip=tuple(skip),
            forward_only=forward_only,
            quick=quick,
            seed=seed,
            path=folders,
        )
    )


def run(
    suite: PathLike = "default",
    *,
    output: PathLike | None = None,
    task: Sequence[str] = (),
    workload: Sequence[str] = (),
    operator: Sequence[str] = (),
    implementation: Sequence[str] = (),
    dtype: Sequence[DType] = (),
    device: Sequence[Device] = (),
    mode: Sequence[Mode] = (),
    precision: float | None = None,
    budget_seconds: float | None = None,
    threads: int | Literal["auto"] | None = None,
    replicas: int | None = None,
    seed: int = 0,
    settings: Mapping[str, Mapping[str, Setting]] | None = None,
    share_cpu: bool = False,
    with_: Sequence[PathLike] = (),
) -> Run:
    """Measures a suite, proven before it is timed: `opbench run` as a call, without a word on standard output.

    suite: a built-in suite's name or a TOML file. The filters narrow it as the command's options do. precision: half
    of a ratio's 95 % interval, as a share. budget_seconds: of timing, per panel over its visits. replicas: visits of
    each panel in fresh processes; None leaves it to the suite, or to how many panels there are. `settings` are
    operators' own, {"carafe": {"k_up": 3}}; with `share_cpu` rounds in which a core was waited for count; `with_` are
    files of declarations. output: a folder for run.json, report.md and the journal; left out, only what is returned
    is kept.

    Returns the run document: `records` in seconds, bytes and MACs (1 MAC = 2 FLOPs), each with its outcome.

    >>> from opbench import run
    >>> found = run("smoke", task=["carafe_core"], budget_seconds=0.1)  # doctest: +SKIP
    """
    from opbench.commands.run import measured
    from opbench.report.saving import save_reported
    from opbench.run_request import RunRequest

    asked = {name: dict(values) for name, values in (settings or {}).items()}
    request = RunRequest(
        suite=os.fspath(suite),
        task=tuple(task),
        workload=tuple(workload),
        operator=tuple(operator),
        implementation=tuple(implementation),
        dtype=tuple(dtype),
        device=tuple(device),
        mode=tuple(mode),
        precision=precision,
        budget=budget_seconds,
        threads=None if threads is None else str(threads),
        replicas=replicas,
        seed=seed,
        set_=tuple(f"{name}.{key}={value}" for name, values in asked.items() for key, value in values.items()),
        share_cpu=share_cpu,
        extensions=tuple(os.fspath(path) for path in with_),
    )
    if output is not None:
        return measured(request, Path(output), _silent, save_reported, _unsaid)[0]
    with tempfile.TemporaryDirectory(prefix="opbench-") as folder:
        return measured(request, Path(folder), _silent, lambda done, folder: None, _unsaid)[0]


def compare_runs(
    base: Run | PathLike,
    head: Run | PathLike,
    *,
    minimum_effect: float | None = None,
    across: Collection[str] = (),
    allow: Collection[str] = (),
) -> Comparison:
    """What changed from one run to another: `opbench compare` as a call.

    minimum_effect: changes in time within this share are the same (0.02). `across` names differences ("machine",
    "threads", "versions") to compare across all the same, `allow` deterministic quantities whose change is meant.
    The result's `regressed` is the gate's answer; `rows` say what changed, and what was left out and why.

    >>> from opbench import compare_runs
    >>> run = "results/xeon-2core/default/run.json"
    >>> compare_runs(run, run).regressed  # doctest: +SKIP
    False
    """
    from opbench.analyse.compare import runs

    both = [one if isinstance(one, Run) else load_run(one) for one in (base, head)]
    effect = runs.MINIMUM_EFFECT if minimum_effect is None else minimum_effect
    return runs.compare(*both, minimum_effect=effect, across=across, allow=allow)


def load_run(path: PathLike) -> Run:
    """A run document, plain or gzipped, of this version or an earlier one; a folder stands for its run.json.

    >>> from opbench import load_run
    >>> load_run("results/xeon-2core/default").settings.suite  # doctest: +SKIP
    'default'
    """
    from opbench.documents import read

    return read(Path(path), Run)


def _promises(
    target: Checked,
    shape: Mapping[str, int] | None,
    device: Device,
    arguments: Mapping[str, Setting] | None,
    only: Iterable[str],
    skip: Iterable[str],
    forward_only: bool,
    seed: int,
    path: tuple[str, ...],
    *,
    asked: Mapping[str, object],
) -> Promises:
    """What every module promises; `asked` are arguments that belong to an operator."""
    from opbench.conformance.promises.check import check_promises, parsed_shape
    from opbench.conformance.promises.findings import PromiseRequest

    for name, value in asked.items():
        if value:
            raise OpbenchError(f"{name}: belongs to an operator: name it, or leave {name} out")
    request = PromiseRequest(
        target=_spelled(target),
        arguments=_assigned(arguments),
        shape=parsed_shape(",".join(_assigned(shape))),
        device=device,
        only=tuple(only),
        skip=tuple(skip),
        forward_only=forward_only,
        seed=seed,
        path=path,
    )
    return check_promises(request)


@contextlib.contextmanager
def _silent(total: int, unit: str, first: str) -> Iterator[Callable[[int, str], None]]:
    yield lambda done, text: None


def _unsaid(text: str) -> None:
    """What a terminal would be told stands in the run's environment, too."""


def _spelled(target: Checked) -> str:
    """A function or class as "FILE.py:NAME": what another process can import."""
    if isinstance(target, str):
        return target
    name = getattr(target, "__qualname__", "")
    try:
        file = inspect.getsourcefile(target)
    except TypeError:
        file = None
    if not file or not Path(file).is_file() or not name or "<" in name or "." in name:
        raise OpbenchError(
            f"{target!r} can't be checked: another process has to import it, so it must be a function or class at the "
            "top of a file; or give its place, as 'FILE.py:NAME'"
        )
    return f"{file}:{name}"


def _assigned(values: Mapping[str, Setting] | None) -> tuple[str, ...]:
    return tuple(f"{name}={value}" for name, value in (values or {}).items())
