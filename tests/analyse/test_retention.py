"""Nothing of a history is lost or believed unchecked: not to a forged digest, nor to a link, nor to twenty at once."""

import json
import os

import pytest
from factory import make_case, make_environment, make_record, make_run

from opbench.analyse.history import retention
from opbench.analyse.history.digest import Digest
from opbench.analyse.history.retention import keep, let_go
from opbench.analyse.history.sound import agree
from opbench.analyse.history.store import checked, read
from opbench.documents import parse, save
from opbench.report.dashboard.payload import payload
from opbench.schema import OpbenchError


def kept(tmp_path, days=(1, 2, 3)):
    """A results folder with a run of each day, and the paths of their documents."""
    results = tmp_path / "results"
    for day in days:
        records = [make_record(make_case()), make_record(make_case("carafe[cpu]"), ratio=1.5)]
        environment = make_environment(commit=f"{day:040x}")
        save(make_run(records, started=f"2026-01-{day:02}", environment=environment), tmp_path / "run.json")
        keep(tmp_path / "run.json", results)
    return results, sorted(results.rglob("*.run.json"))


def beside(path):
    return path.with_name(path.name.replace(".run.json", ".digest.json"))


def forge(path, change):
    """Changes a digest so that it is valid and names its document, and says something else than that."""
    raw = json.loads(beside(path).read_bytes())
    change(raw)
    beside(path).write_text(json.dumps(raw))


def emptied(raw):
    raw["entries"] = []


def faster(raw):
    for entry in raw["entries"]:
        for timing in entry["timings"]:
            timing["ratio"] = {**timing["ratio"], "value": 0.01, "low": 0.01, "high": 0.01}


FORGED = pytest.mark.parametrize("change", [emptied, faster])


@FORGED
def test_nothing_is_deleted_before_its_digest_is_made_anew(tmp_path, change):
    results, paths = kept(tmp_path)
    right = {path: parse(beside(path).read_bytes(), Digest) for path in paths}
    forge(paths[0], change)
    assert len(let_go(results, 0)) == 3
    assert not any(path.exists() for path in paths)
    assert all(agree(parse(beside(path).read_bytes(), Digest), right[path]) for path in paths)


@FORGED
def test_a_forged_digest_is_told_and_not_shown(tmp_path, change):
    results, paths = kept(tmp_path)
    forge(paths[0], change)
    store = read(results)
    found = checked(store, store.runs)
    assert [(one.path, "says something else than the document" in one.sentence) for one in found.problems] == [
        (str(paths[0].relative_to(results)), True)
    ]
    values = [timing.ratio.value for entry in found.digests[0].entries for timing in entry.timings]
    assert len(values) == 2
    assert min(values) > 0.9
    page = payload(store)
    assert any("says something else" in page["strings"][sentence] for _, sentence in page["problems"])


@FORGED
def test_keeping_a_run_again_mends_its_digest(tmp_path, change):
    results, paths = kept(tmp_path)
    right = parse(beside(paths[2]).read_bytes(), Digest)
    forge(paths[2], change)
    assert keep(tmp_path / "run.json", results).new
    assert agree(parse(beside(paths[2]).read_bytes(), Digest), right)
    assert not keep(tmp_path / "run.json", results).new


def test_a_document_that_is_not_the_digest_s_is_not_let_go(tmp_path):
    results, paths = kept(tmp_path)
    data = paths[0].read_bytes()
    paths[0].write_bytes(data.replace(b"2026-01-01", b"2026-01-09"))
    assert len(let_go(results, 0)) == 2
    assert paths[0].exists()


@pytest.mark.parametrize("depth", [0, 1])
def test_a_history_is_not_kept_through_a_link(tmp_path, depth):
    results, paths = kept(tmp_path, [1])
    inside = paths[0].parent if depth else results / "history"
    inside.rename(tmp_path / "elsewhere")
    inside.symlink_to(tmp_path / "elsewhere")
    before = sorted((tmp_path / "elsewhere").rglob("*"))
    save(make_run(started="2026-02-01"), tmp_path / "run.json")
    with pytest.raises(OpbenchError, match="is a link"):
        keep(tmp_path / "run.json", results)
    assert sorted((tmp_path / "elsewhere").rglob("*")) == before


def test_twenty_that_keep_at_once_lose_nothing(tmp_path):
    for number in range(20):
        environment = make_environment(commit=f"{number:040x}")
        save(make_run(started=f"2026-01-{number + 1:02}", environment=environment), tmp_path / f"{number}.json")
    children = []
    for number in range(20):
        if (child := os.fork()) == 0:
            status = 1
            try:
                for shift in range(3):  # and others keep the same runs meanwhile
                    keep(tmp_path / f"{(number + shift) % 20}.json", tmp_path / "results")
                status = 0
            finally:
                os._exit(status)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 20
    store = read(tmp_path / "results")
    assert not store.problems
    assert len(store.runs) == len(store.digests) == 20
    left = [path.name for path in (tmp_path / "results").rglob("*") if path.is_file()]
    assert len(left) == 40
    assert {one.run.started for one in store.runs} == {f"2026-01-{number + 1:02}" for number in range(20)}


def test_a_document_that_another_command_lets_go_meanwhile_is_let_go(tmp_path, monkeypatch):
    results, paths = kept(tmp_path)

    def digested(root, one):
        (root / one.path).unlink()
        return True

    monkeypatch.setattr(retention, "_digested", digested)
    assert len(let_go(results, 0)) == len(paths)
