"""Automation: `nox` runs lint and tests; `nox -s bench` measures; every session passes its arguments on."""

import difflib
import re
import tomllib
from pathlib import Path
from typing import NamedTuple

import nox
from nox.command import CommandFailed

nox.options.sessions = ["lint", "tests"]
nox.options.reuse_existing_virtualenvs = True
nox.options.stop_on_first_error = True


def install(session, extras="all"):
    """Everything is pinned: without constraints a fresh machine would pull the newest torch, gigabytes of it."""
    session.install("-e", f".[{extras}]", "-c", "constraints.txt")


@nox.session
def lint(session):
    """Style, formatting and types."""
    install(session, "all,dev")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")


# One process a core and one thread a process: tests are many and small.
APART = ("-n", "auto", "--dist", "worksteal")
ONE_THREAD = {"OMP_NUM_THREADS": "1"}


@nox.session
def tests(session):
    """The tests, and the mutation score; timed cases are left out (see bench)."""
    install(session, "all,dev,ultralytics,ray")
    session.run("pytest", *APART, *session.posargs, env=ONE_THREAD)


class Part(NamedTuple):
    """What is proven, and where: pytest's folders and files, and the options that choose among their tests."""

    about: str
    paths: tuple[str, ...]
    options: tuple[str, ...] = ()


# Every test is in exactly one part, and each part takes at most 40 minutes on two cores.
COMMAND_LINE = ("tests/mutants/test_command_line.py",)
INTERPRETED = tuple(f"tests/kernels/test_triton_{name}.py" for name in ("carafe", "dcnv3", "dcnv4", "dysample"))
NIGHTLY = {
    "operators": Part("definitions, modules and closed forms", ("tests/operators",)),
    "kernels": Part(
        "the CPU's kernels, and Triton's compiled for GPUs that aren't here; tests/gpu where there is one",
        ("tests/kernels", "tests/gpu"),
        tuple(f"--ignore={path}" for path in INTERPRETED),
    ),
    "triton-carafe": Part("CARAFE's Triton kernels, interpreted", INTERPRETED[:1]),
    "triton-dcnv3": Part("the Triton kernels of DCNv3, DCNv4 and DySample, interpreted", INTERPRETED[1:]),
    "relations-carafe": Part("every relation on every CARAFE", ("tests/conformance/test_carafe_properties.py",)),
    "relations-dcnv3": Part("every relation on every DCNv3", ("tests/conformance/test_dcnv3_properties.py",)),
    "verify": Part(
        "the gate, the search and `opbench check`",
        ("tests/verify", "tests/conformance"),
        ("--ignore=tests/conformance/test_carafe_properties.py", "--ignore=tests/conformance/test_dcnv3_properties.py"),
    ),
    "bounds": Part("the error bounds on right operators and over seeds", ("tests/bounds",), ("-k", "not networks")),
    "bounds-networks-64": Part("the error bounds on whole networks at 64 px", ("tests/bounds",), ("-k", "networks-64")),
    "bounds-networks-160": Part(
        "the error bounds on whole networks at 160 px", ("tests/bounds",), ("-k", "networks-160")
    ),
    "mutants-carafe": Part("which relation convicts which CARAFE mutant", ("tests/mutants/test_carafe_mutants.py",)),
    "mutants-dcnv3": Part("which relation convicts which DCNv3 mutant", ("tests/mutants/test_dcnv3_mutants.py",)),
    "mutants-dysample": Part(
        "`opbench check` convicts every DySample mutant", ("tests/mutants/test_dysample_mutants.py",)
    ),
    "mutants-dcnv4": Part("`opbench check` convicts every DCNv4 mutant", ("tests/mutants/test_dcnv4_mutants.py",)),
    "mutants-state-carafe": Part(
        "bugs of state and of calls of CARAFE, in process and by `opbench check --first`",
        ("tests/mutants/test_state_mutants.py",),
        ("-k", "not dcnv3"),
    ),
    "mutants-state-dcnv3": Part(
        "bugs of state and of calls of DCNv3, by `opbench check --first`",
        ("tests/mutants/test_state_mutants.py",),
        ("-k", "dcnv3"),
    ),
    "mutants-size-carafe": Part(
        "each bug of size in CARAFE, in process and from the command line",
        ("tests/mutants/test_size_mutants.py",),
        ("-k", "not dcnv3"),
    ),
    "mutants-size-dcnv3": Part(
        "each bug of size in DCNv3, in process and from the command line",
        ("tests/mutants/test_size_mutants.py",),
        ("-k", "dcnv3"),
    ),
    "check-mutants-carafe": Part(
        "`opbench check` convicts every CARAFE mutant", COMMAND_LINE, ("-k", "convicted and carafe")
    ),
    "check-mutants-dcnv3": Part(
        "`opbench check` convicts every DCNv3 mutant", COMMAND_LINE, ("-k", "convicted and not carafe")
    ),
    "check-shipped": Part("`opbench check` acquits everything shipped", COMMAND_LINE, ("-k", "not convicted")),
    "fleet": Part("runs over a local Ray cluster: speed, kills, interrupts", ("tests/fleet",)),
    "faults": Part(
        "child processes, and runs that are killed, interrupted, resumed", ("tests/engine", "tests/process")
    ),
    "measure": Part("clocks, memory and counters; the benchmark cases", ("tests/measure", "tests/bench")),
    "runtimes": Part("contenders in ONNX Runtime, OpenVINO and what else executes them", ("tests/runtimes",)),
    "models": Part("whole networks, swaps and the study", ("tests/models", "tests/study")),
    "reports": Part(
        "statistics, analysis, reports, floors, dashboard, contributed runs",
        ("tests/statistics", "tests/analyse", "tests/report", "tests/browser", "tests/floor", "tests/contributed"),
    ),
    "documents": Part(
        "documents of every kind, and 2,000 changed ones through the commands that read them",
        ("tests/documents", "tests/fuzz"),
    ),
    "kills": Part(
        "keep, dashboard, export and study killed at every step and 100 times at random; 20 that keep at once",
        ("tests/kills",),
    ),
    "docs": Part("every block of the pages, those that take minutes too", ("tests/docs",)),
    "plugin": Part("the pytest plugin, beside those that people have", ("tests/testing",)),
    "command-line": Part(
        "commands, suites, plans, the CI recipe: the files of tests/ itself", ("tests",), ("--ignore-glob=tests/*/*",)
    ),
}
# Parts that are sessions of their own.
SESSIONS = ("lowest", "other_plugins")


@nox.session
def nightly(session):
    """All tests with 20 times the examples, and every mutant by `opbench check`; `-- PART...` for some (see NIGHTLY).

    A part that fails does not stop the next one. Further arguments are pytest's: `-- operators kernels -x`; a `-k`
    among them takes the place of a part's own.
    """
    names, arguments = chosen(session)
    install(session, "all,dev,ultralytics,ray")
    failed = []
    for name in names or (*NIGHTLY, *SESSIONS):
        if name in SESSIONS:
            session.notify(name)  # in an environment of its own, after this session
            continue
        about, paths, options = NIGHTLY[name]
        if not any(map(Path.exists, map(Path, paths))):
            # Asked for by name it is no success.
            (session.error if names else session.log)(f"nightly, part {name}: there is no {' or '.join(paths)}")
            continue
        session.log(f"nightly, part {name}: {about}")
        command = ("pytest", *APART, "--nightly", "--hypothesis-profile=nightly", *paths, *options, *arguments)
        # 5: arguments of one's own may leave a part without tests.
        codes = [0, 5] if arguments else [0]
        try:
            session.run(*command, env=ONE_THREAD, success_codes=codes)
        except CommandFailed:
            failed.append(name)
    if failed:
        session.error(f"failed: {', '.join(failed)}; again: nox -s nightly -- {' '.join(failed)}")


def chosen(session):
    """The names of parts that the arguments begin with, and the arguments after them."""
    given, known = list(session.posargs), (*NIGHTLY, *SESSIONS)
    names = []
    while given and not given[0].startswith("-"):
        names.append(given.pop(0))
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            session.error(f"nightly: unknown part {name!r}{hint} (known: {', '.join(known)})")
    return names, given


def hold(session):
    """Smoke, and the tests of operators, kernels and the command line; 2: no figure, the machine was too busy."""
    session.run("opbench", "run", "--suite", "smoke", "--budget", "0.05", "-o", "build/smoke", success_codes=[0, 2])
    for _, paths, options in map(NIGHTLY.get, ("operators", "kernels", "command-line")):
        # Other releases warn of what those in constraints.txt don't.
        session.run("pytest", *APART, *paths, *options, "-W", "default", *session.posargs, env=ONE_THREAD)


def declared(*extras):
    """(name, least version) of what pyproject.toml requires: the base, and these extras."""
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    texts = [*project["dependencies"], *(text for extra in extras for text in project["optional-dependencies"][extra])]
    return [re.match(r"([\w-]+) *>= *([\w.]+)", text).groups() for text in texts]


def constrained(session, lines, *others):
    """Constraints: these lines, and constraints.txt but for the packages that they or `others` name."""
    pins = Path("constraints.txt").read_text(encoding="utf-8").splitlines()
    named = {line.partition("==")[0].lower() for line in (*lines, *others)}
    path = Path(session.create_tmp(), "constraints.txt")
    path.write_text("\n".join([*lines, *(pin for pin in pins if pin.partition("==")[0].lower() not in named)]) + "\n")
    return str(path)


@nox.session
def lowest(session):
    """The declared minima of all packages but torch: one that is too low fails here."""
    extras = ("report", "pytest", "parquet", "deploy")
    pins = [f"{name}=={version}" for name, version in declared(*extras) if name != "torch"]
    session.install("-e", f".[{','.join(extras)}]", "pytest-xdist", "pyyaml", "-c", constrained(session, pins))
    hold(session)


@nox.session
def other_plugins(session):
    """opbench's pytest plugin beside those that people have; they are loaded where a test asks for them."""
    install(session, "all,dev")
    session.install("pytest-codspeed", "pytest-randomly", "pytest-timeout", "-c", "constraints.txt")
    session.run("pytest", "tests/testing", "--nightly", "-p", "no:randomly", "-p", "no:codspeed", env=ONE_THREAD)


@nox.parametrize("torch", ["newest", "least"])
@nox.session
def newest(session, torch):
    """The newest torch that can be had, and the least that is declared: gigabytes, so by hand before a release."""
    asked = f"torch=={dict(declared())['torch']}" if torch == "least" else "torch"
    free = constrained(session, (), "torch", "torchvision", "triton", "sympy")  # torch pins its sympy
    session.install("--upgrade", asked, "-e", ".[all,dev]", "-c", free)
    hold(session)


@nox.session
def coverage(session):
    """Line coverage of operators/ and verify/ by the plain tests; below 95 % it fails."""
    install(session, "all,dev,ultralytics,ray")
    packages = ("--cov=opbench.operators", "--cov=opbench.verify", "--cov=opbench.conformance")
    report = ("--cov-report=term-missing:skip-covered", "--cov-fail-under=95")
    session.run("pytest", *APART, *packages, *report, *session.posargs, env=ONE_THREAD)


# Of the default suite, whose visits end then; the network before it takes about two minutes.
BENCH_SECONDS = "200"


@nox.session
def bench(session):
    """Measures one network, then the default suite, and leaves their reports and the dashboard of all results.

    In 6 minutes on two cores. With arguments, as in `-- --suite NAME`, `opbench run` with these instead of both.
    """
    install(session)
    if session.posargs:
        session.run("opbench", "run", *session.posargs)
    else:
        # 2: nothing could be said, as on a busy machine; the suite is measured all the same.
        session.run("opbench", "run", "--suite", "network", success_codes=[0, 2])
        session.run("opbench", "run", "--within", BENCH_SECONDS)
    session.run("opbench", "dashboard", "results", "-o", "site")


# Another torch than ours may warn of what ours doesn't.
ON_A_GPU = ("tests/gpu", "-W", "default")


@nox.session
def gpu(session):
    """On a machine with a GPU: measures the suite `gpu` for at most 5 minutes, then its tests; `-- -o DIR --resume`.

    Without nox, with torch, triton, numpy, scipy, typer, msgspec, pytest, hypothesis (and fvcore, nvidia-ml-py,
    pytest-xdist where they can be had):
        python -m opbench run --suite gpu --within 270 -o DIR
        python -m pytest tests/gpu -W default -m "not alone" -n 8
        python -m pytest tests/gpu -W default -m alone
    """
    install(session, "all,dev")
    arguments = session.posargs or ("-o", "results/local/gpu")
    # 1: a case failed; it stands in the report, and the tests are run all the same.
    session.run("opbench", "run", "--suite", "gpu", "--within", "270", *arguments, success_codes=[0, 1])
    session.run("pytest", *ON_A_GPU, "-m", "not alone", "-n", "8", "--dist", "worksteal")
    session.run("pytest", *ON_A_GPU, "-m", "alone")


# What runs and tests need beside torch, triton, numpy, scipy, typer, pytest and hypothesis. fvcore and iopath come as
# sources alone, which are Python.
BARE = (
    "msgspec", "psutil", "rich", "markdown-it-py", "mdurl", "pygments", "nvidia-ml-py", "pytest-xdist", "execnet",
    "tabulate", "termcolor", "yacs", "portalocker",
)  # fmt: skip


@nox.session
def gpu_site(session):
    """Gathers in build/gpu-site (21 MB) what a GPU machine without a network lacks: `-- 3.12` is that machine's Python.

    There: PYTHONPATH=build/gpu-site:. python -m opbench run --suite gpu --within 420 -o DIR
    """
    python = session.posargs[0] if session.posargs else "3.12"
    into = ("python", "-m", "pip", "install", "--target", "build/gpu-site", "--no-deps", "-c", "constraints.txt")
    wheels = ("--only-binary=:all:", "--python-version", python, "--platform", "manylinux2014_x86_64")
    session.run(*into, *wheels, "--platform", "manylinux_2_28_x86_64", *BARE)
    session.run(*into, "fvcore", "iopath")


@nox.session
def docs(session):
    """Builds the pages into build/docs, strictly and without a network, and runs the commands and code in them."""
    install(session, "all,dev")
    session.run("mkdocs", "build", "--strict", env={"NO_MKDOCS_2_WARNING": "1"})
    session.run("pytest", "tests/docs", "--pages", *session.posargs, env=ONE_THREAD)


@nox.session
def report(session):
    """Writes the report of a run: `nox -s report -- RUN.json -o DIR`."""
    install(session)
    session.run("opbench", "report", *session.posargs)
