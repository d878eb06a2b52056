"""Automation: `nox` runs lint and tests; `nox -s bench` measures; every session passes its arguments on."""

import nox

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
    install(session, "all,dev,ultralytics")
    session.run("pytest", *APART, *session.posargs, env=ONE_THREAD)


@nox.session
def nightly(session):
    """All tests with 20 times the examples, every mutant by `opbench check`, which relation convicts what; hours."""
    install(session, "all,dev,ultralytics")
    session.run("pytest", *APART, "--nightly", "--hypothesis-profile=nightly", *session.posargs, env=ONE_THREAD)


@nox.session
def coverage(session):
    """Line coverage of operators/ and verify/ by the plain tests; below 95 % it fails."""
    install(session, "all,dev,ultralytics")
    packages = ("--cov=opbench.operators", "--cov=opbench.verify")
    report = ("--cov-report=term-missing:skip-covered", "--cov-fail-under=95")
    session.run("pytest", *APART, *packages, *report, *session.posargs, env=ONE_THREAD)


@nox.session
def bench(session):
    """Measures the default suite, leaves its report and the dashboard of all results; `-- --suite NAME` for another."""
    install(session)
    session.run("opbench", "run", *session.posargs)
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
def report(session):
    """Writes the report of a run: `nox -s report -- RUN.json -o DIR`."""
    install(session)
    session.run("opbench", "report", *session.posargs)
