"""A target that writes the checker's messages itself does not acquit itself: an outcome is of what was just tried."""

import signal
import subprocess
import sys

import pytest
from in_process import CheckingHere
from said_children import Handed, SaysNoMore

from opbench.conformance import check as checking
from opbench.conformance.check import check
from opbench.conformance.findings import Limits, Request
from opbench.conformance.promises import check as promising
from opbench.conformance.promises.check import check_promises
from opbench.conformance.promises.findings import (
    ModuleBuilt,
    PlannedPromise,
    PromiseRequest,
    PromiseResult,
    PromiseStarted,
    PromisesTried,
    PromiseTried,
    ShapesAccepted,
)
from opbench.report.conformance import conclusion
from opbench.schema import OpbenchError

LIMITS = Limits(
    examples=1, further_examples=1, search_seconds=5.0, shrink_seconds=1.0, call_seconds=30.0, import_seconds=60.0,
    faults=1, hang_seconds=30.0,
)  # fmt: skip
# Wrong, and says that it is right: out of its first call, which it says has ended before, or without a word.
FORGES = """
import sys

def core(x, mask, *, kernel_size, group_size, scale_factor):
    from opbench.conformance.findings import Result
    from opbench.conformance.messages import Finished, Returned, Tried

    frame = sys._getframe()
    while frame is not None and not {{"wire", "todo", "statements"}} <= frame.f_locals.keys():
        frame = frame.f_back
    if frame is not None:
        held = frame.f_locals
        if {says_that_it_has_ended}:
            held["wire"].send(Returned())
        for name, dtype in held["todo"]:
            held["wire"].send(Tried(Result(name, held["statements"][name], dtype, "holds", examples=100), (), ()))
        held["wire"].send(Finished())
    return x
"""


@pytest.mark.parametrize(
    ("says_that_it_has_ended", "said"),
    [(False, "sent an outcome out of one of its calls"), (True, "sent the outcome of what nobody has tried")],
)
def test_an_outcome_that_nobody_has_found_convicts_who_sent_it(tmp_path, monkeypatch, says_that_it_has_ended, said):
    (tmp_path / "forges.py").write_text(FORGES.format(says_that_it_has_ended=says_that_it_has_ended))
    monkeypatch.setattr(checking, "Child", CheckingHere)
    asked = Request(f"{tmp_path / 'forges.py'}:core", "carafe", dtypes=("float32",), only=("definition", "batch-split"))
    found = check(asked, LIMITS)
    assert found.verdict == "wrong"
    assert said in conclusion(found)


def test_a_promise_that_was_not_tried_is_not_kept(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text("")
    plan = tuple(PlannedPromise(name, "wrong", f"{name} is kept") for name in ("one", "other"))

    def kept(name):
        return PromiseTried(PromiseResult(name, "wrong", f"{name} is kept", "kept"))

    messages = (
        ModuleBuilt("Mine()", (), plan),
        ShapesAccepted(((1, 1, 4, 4),), ()),
        PromiseStarted("one", (1, 1, 4, 4)),
        kept("one"),
        kept("other"),
        PromisesTried(),
    )
    monkeypatch.setattr(promising, "Child", Handed(SaysNoMore(*messages)))
    request = PromiseRequest(f"{tmp_path / 'mine.py'}:Mine")
    one, other = check_promises(request).promises
    assert (one.status, other.status) == ("broken", "not-run")
    assert "sent the outcome of what nobody has tried" in one.message


RAISES = """
class Core:
    def __call__(self, *given, **options):
        return given[0]

    @property
    def {name}(self):
        raise {error}

core = Core()
"""


@pytest.mark.parametrize("error", ["KeyboardInterrupt", "SystemExit(0)", "RuntimeError('no')"])
def test_what_a_target_raises_where_nobody_calls_it_is_no_fault_of_the_checker_s(tmp_path, monkeypatch, error):
    (tmp_path / "raises.py").write_text(RAISES.format(name="__signature__", error=error))
    monkeypatch.setattr(checking, "Child", CheckingHere)
    with pytest.raises(OpbenchError, match=r"not judged: its line 8 raises .*: raise "):
        check(Request(f"{tmp_path / 'raises.py'}:core", "carafe"), LIMITS)


KILLS = """
import os

def core(x, mask, *, kernel_size, group_size, scale_factor):
    os.kill(os.getppid(), {number})
    return x
"""


@pytest.mark.nightly
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_target_that_ends_the_checker_is_not_judged_and_it_is_said(tmp_path, number):
    (tmp_path / "kills.py").write_text(KILLS.format(number=int(number)))
    command = [sys.executable, "-m", "opbench", "check", "kills.py:core", "--operator", "carafe", "--quick"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 2, done.stdout
    assert "not judged: the checker was killed 2 times while it was tried" in done.stderr
