"""Every command: options are declared once, its command line repeats it, its exit code means what all codes mean."""

import importlib
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Literal, get_args, get_origin

import msgspec
import pytest
from factory import make_case, make_run
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import opbench
from opbench.commands import run as run_command
from opbench.exit_codes import OF_OUTCOME, Exit, of_outcomes
from opbench.main import application, commands
from opbench.options import command_line, fields, parse, words
from opbench.run_request import RunRequest, carried, row_command
from opbench.schema import OpbenchError, Outcome

PACKAGE = Path(opbench.__file__).parent
EVERY = pytest.mark.parametrize("command", commands(), ids=lambda command: command.name)


def opbench_(*arguments):
    return CliRunner().invoke(application(), [str(argument) for argument in arguments])


# --- a request and its command line ------------------------------------------------------------------------------

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)


def values(field):
    """Values of a field, as wild as its declaration allows."""
    if field.many:
        return st.lists(of_type(get_args(field.type)[0], field), min_size=field.required, max_size=3).map(tuple)
    return of_type(field.type, field)


def of_type(type_, field):
    if get_origin(type_) is Literal:
        return st.sampled_from(get_args(type_))
    if type(None) in get_args(type_):
        (held,) = set(get_args(type_)) - {type(None)}
        return st.none() | of_type(held, field)
    limits = {"min_value": getattr(field.declared, "least", None), "max_value": getattr(field.declared, "most", None)}
    if getattr(field.declared, "auto", False):
        return st.integers(1, 999).map(str) | st.just("auto")
    if getattr(field.declared, "share", False):
        return st.floats(0, 1, exclude_min=True, exclude_max=True)
    return {
        str: TEXT,
        bool: st.booleans(),
        Path: TEXT.map(Path),
        int: st.integers(**limits),
        float: st.floats(**limits, allow_nan=False, allow_infinity=False),
    }[type_]


@EVERY
@settings(max_examples=40)
@given(data=st.data())
def test_the_command_line_of_a_request_makes_the_same_request(command, data):
    declared = fields(command.request)
    request = command.request(**{field.name: data.draw(values(field), field.name) for field in declared})
    arguments = [getattr(request, field.name) for field in declared if not field.flag]
    assume(None not in arguments or not any(arguments[arguments.index(None) :]))
    line = shlex.split(command_line(command.name, request))
    assert line[:2] == ["opbench", command.name]
    silent = {field.name: field.default for field in declared if not field.declared.repeats}
    assert parse(command.request, line[2:]) == msgspec.structs.replace(request, **silent)


def test_a_default_is_left_out_and_everything_else_is_said():
    assert command_line("run", RunRequest()) == "opbench run --suite default"
    asked = RunRequest(suite="my suite.toml", replicas=3, timeout=2.5, memory=4.0, dtype=("float32", "float64"))
    assert command_line("run", asked) == (
        "opbench run --suite 'my suite.toml' --dtype float32 --dtype float64 --replicas 3 --timeout 2.5 --memory 4"
    )


def test_where_output_goes_is_no_part_of_what_repeats_a_run():
    assert words(RunRequest(output=Path("out"), resume=True, dry_run=True)) == ["--suite", "default"]


def test_a_row_is_measured_under_all_that_its_run_was_but_the_limit_of_the_whole():
    options = "--precision 0.02 --budget 3 --threads 2 --replicas 3 --timeout 9 --memory 2 --seed 4 --set carafe.g=2"
    whole = f"opbench run --suite mine.toml --operator carafe --within 60 {options} --with my.py"
    case = make_case("carafe[cpu]", workload="w")
    assert row_command(make_run(command=whole), case) == (
        "opbench run --suite mine.toml --task upsample2x --workload w --operator carafe --implementation cpu "
        f"--dtype float32 --device cpu --mode inference {options} --with my.py"
    )
    assert shlex.join(carried(whole)) == f"{options} --with my.py"


@pytest.mark.parametrize(
    "command",
    [
        "opbench compare --paired main --suite smoke --threads 2",
        "opbench run --suite smoke --an-option-of-the-past 3 --threads 2",
    ],
)
def test_of_another_command_line_a_row_takes_the_options_that_it_knows(command):
    assert carried(command) == ["--threads", "2"]


@pytest.mark.parametrize(
    "command", ["", "pytest --threads 2", "opbench run --threads many", "opbench 'run", "x" * 30_000]
)
def test_of_what_is_no_command_line_a_row_takes_nothing(command):
    assert carried(command) == []
    assert row_command(make_run(command=command), make_case()).startswith("opbench run --suite smoke --task ")


def test_wrong_usage_is_an_error_of_ours_and_an_older_option_is_not_where_it_is_allowed():
    with pytest.raises(OpbenchError, match="No such option"):
        parse(RunRequest, ["--speed", "7"])
    assert parse(RunRequest, ["--speed", "7", "--seed", "1"], lenient=True) == RunRequest(seed=1)


# --- a new command -----------------------------------------------------------------------------------------------

GREET = '''
from typing import Annotated

import msgspec

from opbench import registry
from opbench.commands import Command
from opbench.exit_codes import Exit, of_outcomes
from opbench.options import Argument, Option, With, command_line


class GreetRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Whom, and how often."""

    name: Annotated[str, Argument("Whom to greet.")]
    times: Annotated[int, Option("How often.", least=1)] = 1
    outcome: Annotated[str, Option("What becomes of it.")] = "ok"
    with_: With = ()


def greet(request: GreetRequest) -> Exit:
    """Say hello."""
    known = registry.tasks() if request.with_ else ()
    print(f"hello {request.name}, toy={'toy' in known}")
    print(command_line("greet", request))
    return of_outcomes([request.outcome])


COMMAND = Command("greet", GreetRequest, greet)
'''


@pytest.fixture
def greet(tmp_path):
    """Calls opbench where one more file lies among those of opbench/commands."""
    (tmp_path / "greet.py").write_text(GREET)
    beside = f"import opbench.commands as package; package.__path__.append({str(tmp_path)!r})"
    script = f"{beside}; from opbench.main import main; main()"

    def call(*arguments):
        command = [sys.executable, "-c", script, *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    return call


def test_a_command_is_one_file(greet):
    assert re.search(r"^  greet +Say hello\.$", greet("--help").stdout, re.MULTILINE)
    assert "How often." in greet("greet", "--help").stdout
    toys = Path(__file__).parent / "toys.py"
    done = greet("greet", "Ann Lee", "--times", 2, "--outcome", "throttled", "--with", toys)
    assert done.stdout.splitlines() == [
        "hello Ann Lee, toy=True",
        f"opbench greet 'Ann Lee' --times 2 --outcome throttled --with {toys}",
    ]
    assert done.returncode == 2
    done = greet("greet", "Ann", "--outcome", "crashed")
    assert done.stdout.splitlines() == ["hello Ann, toy=False", "opbench greet Ann --outcome crashed"]
    assert done.returncode == 1
    assert greet("greet", "Ann", "--times", 0).returncode == 2


@EVERY
def test_every_option_has_a_help_and_every_command_a_sentence(command):
    assert command.body.__doc__
    assert all(field.declared.help for field in fields(command.request))


# --- exit codes --------------------------------------------------------------------------------------------------


def test_every_outcome_has_a_code():
    assert set(get_args(Outcome)) <= set(OF_OUTCOME)


@pytest.mark.parametrize(
    ("outcomes", "code"),
    [
        (["ok", "ok"], 0),
        (["ok", "unsupported", "throttled", "disturbed"], 0),
        *((["ok", bad, "throttled"], 1) for bad in OF_OUTCOME if OF_OUTCOME[bad] == Exit.BAD_NEWS),
        (["unsupported", "throttled", "disturbed"], 2),
        ([], 2),
    ],
)
def test_a_run_ends_with_what_its_worst_case_means(outcomes, code):
    assert of_outcomes(outcomes) == code


def test_a_busy_machine_is_no_bad_news():
    assert {name for name, code in OF_OUTCOME.items() if code == Exit.NO_ANSWER} == {
        "disturbed", "throttled", "unsupported",
    }  # fmt: skip


def fail(error):
    def failing(*arguments, **options):
        raise error

    return failing


@pytest.mark.parametrize(
    ("place", "arguments"),
    [("opbench.engine.environment.environment", ["env"]), ("opbench.registry.load", ["list", "tasks"])],
)
@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (
            ZeroDivisionError("by nothing"),
            70,
            "ZeroDivisionError: this is a fault of opbench, not of what it was given",
        ),
        (OpbenchError("this can't be"), 2, "opbench: this can't be"),
        (KeyboardInterrupt(), 130, "opbench: interrupted"),
    ],
)
def test_each_way_to_end_has_its_code_and_its_sentence(monkeypatch, place, arguments, error, code, said):
    monkeypatch.setattr(place, fail(error))
    done = opbench_(*arguments)
    assert done.exit_code == code
    assert said in done.stderr
    assert ("Traceback" in done.stderr) == (code == 70)
    assert ("by nothing" in done.stderr) == (code == 70)
    assert ("please open an issue" in done.stderr) == (code == 70)


def test_an_out_of_date_readme_and_a_refused_option_end_with_their_codes(tmp_path):
    (tmp_path / "a.md").write_text("nothing to write")
    assert opbench_("readme", tmp_path / "a.md", "--check").exit_code == 0
    assert opbench_("readme", tmp_path / "a.md", "--chek").exit_code == 2
    assert opbench_("readme", tmp_path / "b.md").exit_code == 2


# --- what stands where -------------------------------------------------------------------------------------------


STAGES = ["declare", "plan", "build", "verify", "count", "measure", "verify again", "record", "report"]


def test_the_way_a_case_travels_is_one_short_file_and_every_place_it_names_exists():
    assert len(Path(run_command.__file__).read_text().splitlines()) <= 150
    places = re.findall(r"(opbench(?:\.\w+)+):(\w+)", run_command.__doc__)
    assert re.findall(r"^    (\w[\w ]*?)  ", run_command.__doc__, re.MULTILINE) == STAGES
    assert len(places) == len(STAGES) + 2  # memory and latency are both measured; from build to record is one call
    for module, name in places:
        assert callable(getattr(importlib.import_module(module), name)), f"{module}:{name}"


def test_there_is_one_console():
    found = [path for path in PACKAGE.rglob("*.py") if re.search(r"\bConsole\(", path.read_text())]
    assert [path.relative_to(PACKAGE) for path in found] == [Path("report/screen.py")]


MEASURES = ("opbench.engine", "opbench.measure", "opbench.study.run", "opbench.study.training")


def test_a_report_measures_nothing():
    for path in (PACKAGE / "report").rglob("*.py"):
        text = path.read_text()
        for name in (*MEASURES, "opbench.models.side_by_side", "opbench.conformance.check", "opbench.commands"):
            assert not re.search(rf"^\s*(from|import) {re.escape(name)}\b", text, re.MULTILINE), (path, name)
