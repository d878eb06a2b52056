"""`opbench list`: kept until something that it follows from changes, and never taken from somebody else."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import in_process
import pytest

import opbench
from opbench import registry, user_cache
from opbench.listing import kept
from opbench.listing.tables import Listing

NOW = time.time()
ANSWER = Listing(("task", "operator"), (("a", "b"),), names=(0, 1))


@pytest.fixture
def made(tmp_path, monkeypatch):
    """A process that has loaded nothing, with an empty cache folder; the list grows each time a listing is made."""
    made = []

    def make(what, suite):
        made.append((what, suite))
        return ANSWER

    (tmp_path / "site").mkdir()
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.setattr(registry, "begun", lambda: False)
    monkeypatch.setattr(registry, "_broken", {})
    monkeypatch.setattr(kept, "listing", make)
    monkeypatch.setattr(user_cache, "folder", lambda name: tmp_path / "cache" / name)
    return made


def kept_files(tmp_path):
    return list((tmp_path / "cache" / "listings").iterdir())


def test_it_is_made_once(made):
    assert [kept.listed("operators", "default") for _ in range(3)] == [ANSWER] * 3
    assert len(made) == 1
    kept.listed("tasks", "default")
    kept.listed("operators", "smoke")
    assert len(made) == 3


@pytest.mark.parametrize(
    "change",
    [
        lambda folder, patch: patch.setattr(opbench, "__version__", "99"),
        lambda folder, patch: (folder / "site" / "torch-99.0.dist-info").mkdir(),
        lambda folder, patch: patch.setenv("CUDA_VISIBLE_DEVICES", "7"),
        lambda folder, patch: patch.setattr(time, "time", lambda later=NOW + 2 * kept.MOST_SECONDS: later),
        lambda folder, patch: patch.setattr(time, "time", lambda before=NOW - 60: before),
    ],
    ids=["opbench", "torch", "setting", "a day", "a clock that was set"],
)
def test_it_is_made_again_after_a_change(made, tmp_path, monkeypatch, change):
    kept.listed("operators", "default")
    change(tmp_path, monkeypatch)
    kept.listed("operators", "default")
    assert len(made) == 2


def test_a_file_of_opbench_that_was_edited_is_noticed(made, tmp_path, monkeypatch):
    (tmp_path / "opbench").mkdir()
    source = tmp_path / "opbench" / "operators.py"
    source.write_text("ONE = 1")
    monkeypatch.setattr(opbench, "__file__", str(tmp_path / "opbench" / "__init__.py"))
    for _ in range(2):
        kept.listed("operators", "default")
    assert len(made) == 1
    source.write_text("TWO = 22")
    kept.listed("operators", "default")
    assert len(made) == 2


def test_a_package_that_declares_operators_is_looked_through(made, tmp_path):
    declares = tmp_path / "site" / "theirs-1.0.dist-info"
    declares.mkdir()
    (declares / "METADATA").write_text("Name: theirs\nVersion: 1.0\n")
    (declares / "entry_points.txt").write_text("[opbench]\ntheirs = their_operators\n")
    (tmp_path / "site" / "their_operators.py").write_text("OPERATORS = ()")
    for _ in range(2):
        kept.listed("operators", "default")
    assert len(made) == 1
    (tmp_path / "site" / "their_operators.py").write_text("OPERATORS = ()  # edited")
    kept.listed("operators", "default")
    assert len(made) == 2


@pytest.mark.parametrize(
    "spoil",
    [
        lambda file: file.write_bytes(b""),
        lambda file: file.write_bytes(file.read_bytes()[:-1]),
        lambda file: file.write_bytes(b"x" * 200),
        lambda file: file.write_bytes(file.read_bytes().replace(b'"a"', b'"z"')),
        lambda file: file.chmod(0o666),
        lambda file: file.parent.chmod(0o777),
        lambda file: (file.unlink(), user_cache.write(file, b'{"no": "listing"}')),
        lambda file: (file.unlink(), file.mkdir()),
    ],
    ids=[
        "empty",
        "cut short",
        "noise",
        "another letter",
        "anybody's file",
        "anybody's folder",
        "another document",
        "a folder",
    ],
)
def test_one_that_is_damaged_or_foreign_is_as_good_as_none(made, tmp_path, spoil):
    kept.listed("operators", "default")
    (file,) = kept_files(tmp_path)
    spoil(file)
    assert kept.listed("operators", "default") == ANSWER
    assert len(made) == 2


def test_without_a_folder_to_write_to_it_is_made_each_time(made, monkeypatch):
    monkeypatch.setattr(user_cache, "folder", lambda name: Path("/dev/null") / name)
    for _ in range(2):
        assert kept.listed("operators", "default") == ANSWER
    assert len(made) == 2


def test_what_could_not_be_loaded_is_said_again_each_time(made, monkeypatch):
    monkeypatch.setattr(registry, "_broken", {"operators/x": "operators/x can't be loaded"})
    for _ in range(2):
        kept.listed("operators", "default")
    assert len(made) == 2


def test_a_suite_of_one_s_own_that_changed_is_read_again(made, tmp_path):
    suite = tmp_path / "mine.toml"
    for text in ("one", "one", "other"):
        suite.write_text(text)
        kept.listed("workloads", str(suite))
    assert len(made) == 2
    kept.listed("workloads", str(tmp_path / "nowhere.toml"))  # its error is the listing's own


LIST = """
import sys
from opbench.main import main
try:
    main()
finally:
    print("with torch" if "torch" in sys.modules else "without torch", file=sys.stderr)
"""


def test_a_second_list_imports_no_torch_and_says_the_same(tmp_path):
    command = [sys.executable, "-c", LIST, "list", "operators", "--json"]
    env = os.environ | {"XDG_CACHE_HOME": str(tmp_path)}
    first, second = (
        subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=True) for _ in range(2)
    )
    assert first.stderr.splitlines()[-1] == "with torch"
    assert second.stderr.splitlines()[-1] == "without torch"
    assert first.stdout == second.stdout
    assert json.loads(second.stdout)["operators"][0]["task"]


@pytest.mark.parametrize("what", ["tasks", "operators", "implementations", "suites", "workloads"])
def test_a_listing_is_json_with_its_headings_as_keys(what):
    found = json.loads(in_process.opbench("list", what, "--json").stdout)
    assert (found["kind"], found["schema_version"], found["what"]) == ("listing", 1, what)
    assert all(set(row) == set(found[what][0]) for row in found[what])


def test_the_environment_is_json():
    found = json.loads(in_process.opbench("env", "--json").stdout)
    assert found["kind"] == "environment"
    assert found["versions"]["torch"]
    assert found["share"]["allowed"] >= 1
