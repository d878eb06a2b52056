"""The command line in this process: what `opbench WORDS` says, and its exit code.

A process of its own imports torch and every operator, two to three seconds of each. What such a process is there for
is tested with real ones: a file that brings down whoever imports it (engine/test_trial_import.py, test_planner.py), a
closed pipe (test_exit_codes.py), a run that is killed (engine/test_interrupt.py). Here a file of `--with` is imported
at once, and forgotten after the command.
"""

import contextlib
import io
import os
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import pytest
import torch
from typer.testing import CliRunner

from opbench import registry
from opbench.conformance import check, worker
from opbench.conformance.messages import Finished
from opbench.documents import decode, encode
from opbench.engine import planner, trial_import
from opbench.main import app


class Ended(NamedTuple):
    """As of a process that has ended."""

    returncode: int
    stdout: str
    stderr: str


def opbench(*words, cwd=None):
    """The command, from the folder `cwd`. What it declares and what it changes of the environment is undone.

    What `opbench check` tries, it tries in this process, too.
    """
    words = list(map(str, words))
    # Tests run side by side: a case that waited for a core is none the worse here.
    words += ["--share-cpu"] if words[:1] == ["run"] else []
    with _undone(), pytest.MonkeyPatch.context() as patch, contextlib.chdir(cwd or Path.cwd()):
        patch.setattr(trial_import, "try_files", _imported)
        patch.setattr(planner, "planned", _planned)
        patch.setattr(check, "Child", CheckingHere)
        with warnings.catch_warnings():
            warnings.simplefilter("default")  # as a command does
            done = CliRunner().invoke(app, words, catch_exceptions=False, env=None)
    return Ended(done.exit_code, done.stdout, done.stderr)


def _imported(paths):
    for path in paths:
        registry.load_file(path)


def _planned(request):
    _imported(request.extensions)
    return planner.lay_out(request)


@contextlib.contextmanager
def _undone():
    registry.load()
    tables = (registry._tasks, registry._operators, registry._extensions, registry._broken, registry._files)
    before, environment, modules = [table.copy() for table in tables], dict(os.environ), set(sys.modules)
    try:
        yield
    finally:
        for table, was in zip(tables, before, strict=True):
            table.clear()
            table.update(was)
        for name in set(os.environ) - set(environment):
            del os.environ[name]
        os.environ.update(environment)
        for name in set(sys.modules) - modules:
            if name.startswith("opbench_with_"):
                del sys.modules[name]


class CheckingHere:
    """In the place of the child that `opbench check` starts: the target is tried by this process, and may not end it.

    monkeypatch.setattr(opbench.conformance.check, "Child", CheckingHere)
    """

    def __class_getitem__(cls, messages):
        return cls

    def __init__(self, arguments, answers, **limits):
        self.answers, self.said = answers, []

    def __enter__(self):
        return self

    def __exit__(self, *raised):
        pass

    def send(self, job):
        """Does all of the job. Raises OpbenchError as `receive` of a child would."""
        wire = worker.Wire(SimpleNamespace(send=self.said.append))
        path, threads = list(sys.path), torch.get_num_threads()
        try:
            # A child's standard output leads nowhere, and its warnings to its standard error.
            with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                worker.work(job, wire)
        finally:
            sys.path[:] = path
            torch.set_num_threads(threads)
        wire.send(Finished())

    def receive(self, seconds):
        """The next message, by way of the text that a child writes."""
        return decode(encode(self.said.pop(0)), self.answers)
