"""The parts of `nox -s nightly`: together they are every test, each once; and how the session picks among them."""

import importlib.util
import json
import subprocess
import sys
import tomllib
import types
from collections import Counter
from pathlib import Path

import pytest
from by_day import first_by_day, in_turns, one_in

nox = pytest.importorskip("nox", reason="nox is not installed")

ROOT = Path(__file__).parents[1]

# One process for all collections, as most of the time goes into importing torch. A part without `-k` is chosen from
# everything by its paths, as pytest would.
COLLECT = """
import contextlib, fnmatch, io, json, sys
import pytest
from by_day import first_by_day, in_turns, one_in

class Seen:
    def pytest_collection_finish(self, session):
        self.items = [(item.nodeid, item.get_closest_marker("nightly") is not None) for item in session.items]

def collected(name, arguments):
    seen = Seen()
    with contextlib.redirect_stdout(io.StringIO()) as said:
        code = pytest.main(["--collect-only", "-q", "--nightly", "-p", "no:cacheprovider", *arguments], plugins=[seen])
    assert code in (0, 5), f"{name}: {code}\\n{said.getvalue()}"
    return seen.items

def under(path, folders):
    return any(path == folder or path.startswith(folder + "/") for folder in folders)

def chosen(arguments):
    paths = [word for word in arguments if not word.startswith("-")]
    ignored = [word.removeprefix("--ignore=") for word in arguments if word.startswith("--ignore=")]
    globs = [word.removeprefix("--ignore-glob=") for word in arguments if word.startswith("--ignore-glob=")]
    assert len(arguments) == len(paths) + len(ignored) + len(globs), arguments
    for item in found["everything"]:
        path = item[0].partition("::")[0]
        if under(path, paths) and not under(path, ignored) and not any(fnmatch.fnmatch(path, one) for one in globs):
            yield item

found = {"everything": collected("everything", ["tests"])}
for name, arguments in json.loads(sys.argv[1]).items():
    found[name] = collected(name, arguments) if "-k" in arguments else list(chosen(arguments))
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def noxfile():
    if not (ROOT / "noxfile.py").exists():
        pytest.skip("not a checkout")
    spec = importlib.util.spec_from_file_location("noxfile", ROOT / "noxfile.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def collected(noxfile):
    """The tests of each part, and of "everything", as (name, whether it is marked nightly)."""
    wanted = {
        name: [*part.paths, *part.options]
        for name, part in noxfile.NIGHTLY.items()
        if all((ROOT / path).exists() for path in part.paths)
    }
    command = [sys.executable, "-c", COLLECT, json.dumps(wanted)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return {name: list(map(tuple, items)) for name, items in json.loads(done.stdout.splitlines()[-1]).items()}


# All tests are collected for these two, which takes half a minute.
@pytest.mark.nightly
def test_every_test_is_in_exactly_one_part(collected):
    everything = set(collected["everything"])
    assert sum(nightly for _, nightly in everything) >= 500
    times = Counter(item for name, items in collected.items() if name != "everything" for item in items)
    assert not everything - set(times), "in no part"
    assert not set(times) - everything, "unknown outside its part"
    assert not [item for item, count in times.items() if count > 1], "in several parts"


@pytest.mark.nightly
def test_no_part_is_empty_and_only_that_of_the_bounds_may_lack_its_folder(noxfile, collected):
    assert set(noxfile.NIGHTLY) - set(collected) <= {"bounds"}
    assert not [name for name, items in collected.items() if not items]
    assert noxfile.NIGHTLY["bounds"].paths == ("tests/bounds",)


class Session:
    """What the session does, noted instead of done."""

    def __init__(self, *posargs, failing=()):
        self.posargs, self.failing, self.ran, self.notified = posargs, failing, [], []

    def install(self, *arguments):
        pass

    def log(self, text):
        pass

    def run(self, *command, env, success_codes):
        self.ran.append((command, success_codes))
        if any(path in command for path in self.failing):
            raise nox.command.CommandFailed

    def notify(self, name):
        self.notified.append(name)

    def error(self, text):
        raise RuntimeError(text)

    @property
    def paths(self):
        return [word for command, _ in self.ran for word in command if word.startswith("tests")]


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def test_the_parts_that_are_named_run_with_the_arguments_after_them(noxfile):
    session = Session("operators", "faults", "-x", "-k", "operators")
    noxfile.nightly(session)
    assert session.paths == ["tests/operators", "tests/engine", "tests/process"]
    for command, success_codes in session.ran:
        assert {"--nightly", "--hypothesis-profile=nightly"} <= set(command)
        assert command[-3:] == ("-x", "-k", "operators")
        assert success_codes == [0, 5]


@pytest.mark.parametrize("arguments", [(), ("-x",)])
def test_without_a_name_all_parts_run_in_order(noxfile, arguments):
    session = Session(*arguments)
    noxfile.nightly(session)
    expected = [path for part in noxfile.NIGHTLY.values() for path in part.paths if Path(path).exists()]
    assert session.paths == expected
    assert session.notified == list(noxfile.SESSIONS)


def test_a_part_that_is_asked_for_and_has_no_folder_is_an_error(noxfile, monkeypatch):
    monkeypatch.setitem(noxfile.NIGHTLY, "future", noxfile.Part("what nobody wrote", ("tests/future",)))
    with pytest.raises(RuntimeError, match=r"^nightly, part future: there is no tests/future$"):
        noxfile.nightly(Session("future"))
    noxfile.nightly(Session())


def test_an_unknown_part_is_an_error_that_lists_the_known_ones(noxfile):
    session = Session("operator")
    with pytest.raises(RuntimeError) as caught:
        noxfile.nightly(session)
    known = ", ".join((*noxfile.NIGHTLY, *noxfile.SESSIONS))
    assert str(caught.value) == f"nightly: unknown part 'operator'; did you mean 'operators'? (known: {known})"
    assert not session.ran


def test_a_part_that_fails_is_named_after_the_others_have_run(noxfile):
    session = Session("operators", "faults", "models", failing=("tests/engine", "tests/operators"))
    with pytest.raises(RuntimeError, match=r"^failed: operators, faults; again: nox -s nightly -- operators faults$"):
        noxfile.nightly(session)
    assert len(session.ran) == 3
    assert session.ran[0][1] == [0], "without arguments a part without tests is a failure"


def test_a_part_that_is_a_session_of_its_own_is_left_to_nox(noxfile):
    session = Session("lowest", "operators")
    noxfile.nightly(session)
    assert session.notified == ["lowest"]
    assert session.paths == ["tests/operators"]
    assert all(callable(getattr(noxfile, name)) for name in noxfile.SESSIONS)


def test_every_requirement_says_its_least_version_and_is_pinned_to_it(noxfile, tmp_path):
    least = dict(noxfile.declared("report", "pytest", "parquet", "deploy"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert len(least) == len(project["dependencies"]) + 10
    made = types.SimpleNamespace(create_tmp=lambda: str(tmp_path))
    pins = [f"{name}=={version}" for name, version in least.items() if name != "torch"]
    lines = Path(noxfile.constrained(made, pins)).read_text().splitlines()
    assert set(pins) <= set(lines)
    assert [line for line in lines if line.startswith("torch==")] == ["torch==2.13.0"]
    names = [line.partition("==")[0].lower() for line in lines if "==" in line]
    assert len(names) == len(set(names))


def by_day(cases):
    return [case.id or case.values[0] for case in cases if not case.marks]


def test_of_a_table_some_cases_are_tried_by_day():
    assert by_day(one_in(3, "abcdefg")) == ["a", "d", "g"]
    assert by_day(first_by_day("abc")) == ["a"]
    assert len(one_in(3, "abcdefg")) == 7


def test_each_relation_takes_one_of_the_names_in_turn_and_some_take_all():
    relations = [types.SimpleNamespace(name=name) for name in ("definition", "shift", "layouts", "threads")]
    turns = in_turns(["gather", "cpu"], relations, always=("definition",))
    assert by_day(turns) == ["gather-definition", "cpu-definition", "cpu-shift", "gather-layouts", "cpu-threads"]
    assert len(turns) == 8
