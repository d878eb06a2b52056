"""`opbench doctor`: a line for each thing with its cure, and an exit code that speaks of what is needed alone."""

import importlib
import importlib.metadata
import json
import os
import re
import tomllib
from pathlib import Path

import in_process
import pytest

from opbench.doctor import diagnosis, extensions, machine, packages
from opbench.doctor.nouns import Diagnosis, DoctorLine
from opbench.measure.cores import CoreCount
from opbench.report.doctor import lines

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_here_nothing_that_is_needed_is_missing():
    done = in_process.opbench("doctor")
    assert done.returncode == 0, done.stdout + done.stderr
    said = done.stdout
    for name in ("torch", "llvmlite", "triton", "torchvision", "onnxruntime", "load", "governor", "cgroup", "cache"):
        assert re.search(rf"^  (ok|note|missing|BROKEN) +.*\b{name}\b", said, re.MULTILINE), name
    assert said.splitlines()[-1].startswith("nothing that is needed is missing")


def test_every_package_that_is_declared_is_looked_for():
    required = {re.match(r"[\w-]+", text)[0] for text in PROJECT["dependencies"]}
    assert {package for package, _, _ in packages.NEEDED} == required
    extras = PROJECT["optional-dependencies"]
    for one in packages.EXTRAS:
        assert any(text.startswith(one.package) for text in extras[one.extra]), one
    covered = {one.extra for one in packages.EXTRAS} | {"gpu", "deploy"}  # these two say themselves what they lack
    assert covered >= set(extras) - {"all", "docs", "dev"}


def diagnosed(*found):
    return Diagnosis("0.1", "3.11", "Linux", found)


BROKEN = DoctorLine(
    "needed", "llvmlite", "broken", "0.44 is installed, but it fails", "the CPU kernels", "pip install X"
)
ABSENT = DoctorLine("optional", "mmcv", "missing", "not installed", "`carafe[mmcv]`", "pip install mmcv")
BUSY = DoctorLine("machine", "load", "note", "7.00 over the last minute", cure="wait")


@pytest.mark.parametrize(("found", "code"), [((BROKEN, ABSENT), 1), ((ABSENT, BUSY), 0), ((), 0)])
def test_only_what_is_needed_decides_the_exit_code(monkeypatch, found, code):
    monkeypatch.setattr(diagnosis, "diagnose", lambda tell: diagnosed(*found))
    done = in_process.opbench("doctor", "--json")
    assert done.returncode == code
    said = json.loads(done.stdout)
    assert (said["kind"], said["schema_version"], said["needed_is_there"]) == ("doctor", 1, code == 0)
    assert [line["name"] for line in said["lines"]] == [line.name for line in found]


def test_a_line_says_what_for_and_what_to_do():
    said = list(lines(diagnosed(BROKEN, ABSENT, BUSY)))
    assert "  BROKEN  llvmlite  0.44 is installed, but it fails; for the CPU kernels -> pip install X" in said
    assert "  missing  mmcv  not installed; for `carafe[mmcv]` -> pip install mmcv" in said
    assert "  note  load  7.00 over the last minute -> wait" in said
    assert said[-1] == "opbench can't run as it should: llvmlite. pip install X"
    assert list(lines(diagnosed(BUSY)))[-1].endswith("before you trust a time, see to: load")


def test_nothing_that_a_package_says_is_obeyed_by_the_terminal():
    evil = DoctorLine("extensions", "\x1b[2J", "broken", "\x1b[31mred\nline", cure="\x07")
    assert not any("\x1b" in line or "\n" in line for line in lines(diagnosed(evil)))


@pytest.mark.parametrize(
    ("error", "state", "said"),
    [
        (ImportError("undefined symbol"), "broken", "is installed, but ImportError: undefined symbol"),
        (ModuleNotFoundError("No module named 'llvmlite'", name="llvmlite"), "missing", "not installed"),
        (OSError("libffi.so: no such file"), "broken", "libffi"),
    ],
)
def test_what_is_broken_is_told_from_what_is_not_there(monkeypatch, error, state, said):
    def refused(name):
        raise error

    monkeypatch.setattr(importlib, "import_module", refused)
    line = packages._needed("llvmlite", "llvmlite.binding", "the CPU kernels")
    assert (line.state, line.wanted_for) == (state, "the CPU kernels")
    assert said in line.said
    assert line.cure == "pip install " + ("--force-reinstall " if state == "broken" else "") + "llvmlite"


def test_an_llvmlite_that_compiles_nothing_is_broken(monkeypatch):
    def refused():
        raise RuntimeError("LLVM IR parsing error: expected type")

    monkeypatch.setattr(packages, "_compile", refused)
    assert packages._needed("llvmlite", "llvmlite.binding", "the CPU kernels").state == "broken"


CORES = CoreCount(allowed=4, quota=None, busy=0.0)


@pytest.mark.parametrize(
    ("read", "cores", "state", "said"),
    [
        (machine._governor, CORES._replace(governor="performance"), "fine", "'performance'"),
        (machine._governor, CORES._replace(governor="powersave"), "note", "'powersave'"),
        (machine._governor, CORES, "note", "not shown here"),
        (machine._turbo, CORES._replace(turbo="on"), "note", "on: the clock falls"),
        (machine._turbo, CORES._replace(turbo="off"), "fine", "off"),
        (machine._cgroup, CORES._replace(quota=1.5), "note", "a quota of 1.5 cores"),
        (machine._cgroup, CORES, "fine", "no CPU quota"),
        (machine._free_cores, CORES._replace(busy=1.2), "note", "2 of 4 free now (1.2 busy"),
        (machine._free_cores, CORES, "fine", "4 of 4 free now"),
        (machine._affinity, CORES._replace(allowed=100_000), "fine", "all"),
        (machine._affinity, CORES._replace(allowed=0), "note", "0 of"),
    ],
)
def test_each_sign_of_the_machine_is_read(read, cores, state, said):
    line = read(cores)
    assert line.state == state
    assert said in line.said
    told = line.state == "note" and "not shown" not in line.said
    assert bool(line.cure) == told


def test_what_can_not_be_looked_at_is_a_line_that_says_so():
    def refused():
        raise OSError("no such file")

    assert machine._guarded("governor", refused).said == "can't be told: OSError: no such file"


def test_a_cache_that_can_not_be_written_is_noticed(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert machine._cache().state == "fine"
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    line = machine._cache()
    assert line.state == "note"
    assert "XDG_CACHE_HOME" in line.cure


THEIRS = """
from opbench.registry import register_implementation

@register_implementation("carafe_core", "carafe", "theirs")
def theirs(x, mask, *, kernel_size, group_size, scale_factor): ...
"""
ENTRIES = {"aborts": "import os\nos.abort()\n", "theirs": THEIRS, "raises": "import nowhere\n", "empty": ""}


def test_each_entry_point_is_tried_whatever_the_others_do(monkeypatch, tmp_path):
    """One that takes its process down costs itself alone."""
    declares = tmp_path / "somebody-1.2.dist-info"
    declares.mkdir()
    (declares / "METADATA").write_text("Metadata-Version: 2.1\nName: somebody\nVersion: 1.2\n")
    named = "\n".join(f"{name} = doctor_{name}" for name in ENTRIES)
    (declares / "entry_points.txt").write_text(f"[opbench]\n{named}\n")
    for name, text in ENTRIES.items():
        (tmp_path / f"doctor_{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    found = {line.name: line for line in extensions.extensions()}
    assert {name: line.state for name, line in found.items() if name in ENTRIES} == {
        "aborts": "broken", "theirs": "fine", "raises": "broken", "empty": "note",
    }  # fmt: skip
    assert "somebody 1.2: its process died with SIGABRT" in found["aborts"].said
    assert found["theirs"].said == "package somebody 1.2: declares carafe_core/carafe[theirs]"
    assert "No module named 'nowhere'" in found["raises"].said
    assert "pip uninstall somebody" in found["raises"].cure


def test_without_entry_points_no_process_is_started(monkeypatch):
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: ())
    monkeypatch.setattr(extensions, "Child", None)
    assert [line.said for line in extensions.extensions()] == ["no other package declares operators"]


def test_a_peer_that_is_installed_and_does_not_work_is_broken_and_one_that_is_not_there_is_missing():
    told = {
        installed: packages._told("x", "`a[x]`", lambda: "no symbol", "mend it", installed=installed)
        for installed in (True, False)
    }
    assert [told[installed].state for installed in (True, False)] == ["broken", "missing"]

    def refused():
        raise RuntimeError("no")

    assert packages._told("x", "`a[x]`", refused).said == "RuntimeError: no"
