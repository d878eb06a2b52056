"""The pytest plugin: fixtures and `--opbench SUITE`. Without one of them it changes nothing and imports nothing heavy.

    opbench_case    one case after the other (`ProvenCase`): those of `opbench.testing.cases(...)` above the test, else
                    those of the suite that `--opbench` names, else of `smoke`
    opbench_check   `opbench check` as a call that fails the test with the counterexample

`--opbench SUITE` collects the cases of a suite beside the repository's own tests.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from opbench.testing.planning import CollectedCase
    from opbench.testing.proven import ProvenCase

FIXTURE = "opbench_case"
MARKER = "opbench_cases"
# Who brings a fixture `benchmark`, by the names of the plugins.
_CLOCKS = ("benchmark", "codspeed")


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options, in a group of their own."""
    group = parser.getgroup("opbench", "operators, each proven before it is timed")
    group.addoption(
        "--opbench",
        metavar="SUITE",
        default="",
        help="collect the cases of this suite, too: a built-in one's name or FILE.toml. With pytest-benchmark or "
        "pytest-codspeed they are timed, each after its proof; without, or beside pytest-xdist, they are proven alone",
    )
    group.addoption(
        "--opbench-with",
        metavar="FILE.py",
        action="append",
        default=[],
        help="a file whose declarations count, as `--with` of the commands (repeatable)",
    )


def pytest_configure(config: pytest.Config) -> None:
    """The marker is known, so that --strict-markers lets it pass."""
    config.addinivalue_line(
        "markers", f"{MARKER}(operator, ...): the cases that {FIXTURE} goes through; made by opbench.testing.cases"
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that asks for `opbench_case` is run once for each case."""
    if FIXTURE not in metafunc.fixturenames:
        return
    from opbench.errors import OpbenchError
    from opbench.testing.planning import of_marker, of_suite
    from opbench.testing.proven import deprecations_ignored

    marks = list(metafunc.definition.iter_markers(MARKER))
    try:
        with deprecations_ignored():
            _declare(metafunc.config)
            found: list[CollectedCase] = [
                one for each in reversed(marks) for one in of_marker(*each.args, **each.kwargs)
            ]
            if not marks:
                found = of_suite(metafunc.config.getoption("--opbench") or "smoke")
    except OpbenchError as error:
        raise pytest.Collector.CollectError(f"{metafunc.function.__name__}: {error}") from error
    metafunc.parametrize(FIXTURE, parameters(found), indirect=True)


def parameters(found: Iterable[CollectedCase]) -> list[Any]:
    """What a test is run with: each case under its id; one that can't run is skipped with its reason."""
    return [
        pytest.param(one.case, id=one.id, marks=[pytest.mark.skip(reason=one.skipped)] if one.skipped else [])
        for one in found
    ]


@pytest.hookimpl(tryfirst=True)  # so that what others deselect, skip or shuffle holds these, too
def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    """Adds the cases of the suite."""
    if config.getoption("--opbench"):
        items.extend(_items(session))


@pytest.fixture
def opbench_case(request: pytest.FixtureRequest) -> ProvenCase:
    """One case: `prove()` holds it against its definition, `time(benchmark)` times it after that."""
    from opbench.testing.proven import ProvenCase

    return ProvenCase(request.param)


@pytest.fixture
def opbench_check(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """`opbench check` as a call: a function or class, or "FILE.py:NAME", and its operator (`testing.assert_right`)."""
    from opbench.testing.checking import assert_right

    _declare(request.config)
    return assert_right


def _declare(config: pytest.Config) -> None:
    """What `--opbench-with` names, once, here and in child processes."""
    from opbench import registry

    files = config.getoption("--opbench-with")
    if files:
        registry.add_files(files)
        for file in files:
            registry.load_file(file)


class SuiteCases(pytest.Module):
    """The module `suite_items`, whatever the repository calls its tests, and without a place on sys.path."""

    def _getobj(self) -> ModuleType:
        return importlib.import_module("opbench.testing.suite_items")

    def funcnamefilter(self, name: str) -> bool:
        """The test that times where somebody brings a clock, else the one that only proves."""
        timed = any(self.config.pluginmanager.hasplugin(clock) for clock in _CLOCKS)
        return name == ("test_timed" if timed else "test_proven")


def _items(session: pytest.Session) -> Iterator[pytest.Item]:
    path = Path(__file__).with_name("suite_items.py")
    yield from session.genitems(SuiteCases.from_parent(session, path=path, nodeid="opbench"))
