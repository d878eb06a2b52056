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


@nox.session
def tests(session):
    """The tests; timed cases are left out (see bench)."""
    install(session, "all,dev")
    session.run("pytest", *session.posargs)


@nox.session
def proof(session):
    """The mutation score and DCNv3's relations on every core; takes minutes."""
    install(session, "all,dev")
    session.run("pytest", "tests/mutants", *session.posargs)


@nox.session
def bench(session):
    """Measures the default suite and leaves a report; `nox -s bench -- --suite yolov8 -o DIR` for another."""
    install(session)
    session.run("opbench", "run", *session.posargs)


@nox.session
def report(session):
    """Writes the report of a run: `nox -s report -- RUN.json -o DIR`."""
    install(session)
    session.run("opbench", "report", *session.posargs)
