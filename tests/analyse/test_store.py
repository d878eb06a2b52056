"""A results folder as a store: what is read, what is told instead, and how runs are added and let go."""

import gzip
import json
import os
import random
import shutil

import msgspec
import pytest
from factory import make_case, make_environment, make_record, make_run, make_selfcheck

from opbench.analyse.history import store as module
from opbench.analyse.history.digest import Digest, digest, machine_key
from opbench.analyse.history.retention import keep, let_go
from opbench.analyse.history.series import series
from opbench.analyse.history.store import read
from opbench.analyse.standings import standings
from opbench.documents import encode, files, parse, render, save
from opbench.schema import CoreShare, OpbenchError
from opbench.slug import slug


def at(day, ratio=1.5, commit=None, noise=None, **changes):
    """A run of two cases on a day of January."""
    records = [make_record(make_case()), make_record(make_case("carafe[cpu]"), ratio=ratio)]
    if noise is not None:
        records[1] = make_record(make_case("carafe[cpu]"), ratio=ratio * random.Random(noise).uniform(0.998, 1.002))
    environment = make_environment(commit=commit or f"{day:040x}", **changes)
    return make_run(records, started=f"2026-01-{day:02}T00:00:00+00:00", environment=environment)


def filled(folder, days):
    """A store with a run a day, each kept by the command's own function."""
    for day in days:
        save(at(day, noise=day), folder / "new.json")
        keep(folder / "new.json", folder / "results")
    (folder / "new.json").unlink()
    return folder / "results"


def test_runs_are_found_anywhere_in_the_folder_oldest_first(tmp_path):
    for place, day in (("run.json", 3), ("a/run.json", 1), ("a/b/head.json", 2)):
        save(at(day), tmp_path / place)
    store = read(tmp_path)
    assert [one.path for one in store.runs] == ["a/run.json", "a/b/head.json", "run.json"]
    assert [one.started for one in store.digests] == [one.run.started for one in store.runs]
    assert not store.problems


def test_the_run_is_the_document(tmp_path):
    save(at(1), tmp_path / "run.json")
    assert read(tmp_path).runs[0].run == at(1)


def test_an_empty_folder_is_an_empty_store(tmp_path):
    assert (read(tmp_path).runs, read(tmp_path).problems) == ((), ())


BAD = {
    "truncated.json": (render(at(1))[:-300], "the file was cut short"),
    "empty.json": (b"", "the file is empty"),
    "foreign.json": (b'{"hello": 1}', "not a run document"),
    "list.json": (b"[1, 2]", "not a run document"),
    "newer.json": (
        render(at(1)).replace(b'"schema_version":2', b'"schema_version":99'),
        "newer than this opbench reads",
    ),
    "deep.json": (b'{"schema_version":1,"command":' + b"[" * 100_000, "nested too deeply"),
    "binary.json": (bytes(range(256)), "not JSON"),
    "newer.digest.json": (b'{"digest_version": 99}', "digest_version 99 is newer"),
    "broken.digest.json": (b'{"digest_version": 1}', "not a valid digest document"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_read_is_told_and_the_rest_is_shown(name, tmp_path):
    content, sentence = BAD[name]
    (tmp_path / name).write_bytes(content)
    save(at(1), tmp_path / "good" / "run.json")
    store = read(tmp_path)
    assert [one.path for one in store.runs] == ["good/run.json"]
    (problem,) = store.problems
    assert problem.path == name
    assert problem.sentence.startswith("not shown: ")
    assert sentence in problem.sentence


def test_a_pipe_and_a_dangling_link_are_told_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "gone.json").symlink_to(tmp_path / "nowhere")
    problems = {one.path: one.sentence for one in read(tmp_path).problems}
    assert "neither a file nor a folder" in problems["pipe.json"]
    assert "No such file" in problems["gone.json"]


def test_a_link_to_a_folder_above_is_not_followed_in_circles(tmp_path):
    save(at(1), tmp_path / "run.json")
    (tmp_path / "loop").symlink_to(tmp_path)
    assert len(read(tmp_path).runs) == 1


def test_a_document_too_large_for_memory_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "LARGEST_BYTES", 1000)
    save(at(1), tmp_path / "run.json")
    assert "more than the 0 MiB" in read(tmp_path).problems[0].sentence


def test_a_selfcheck_beside_the_runs_is_no_problem(tmp_path):
    (tmp_path / "selfcheck.json").write_bytes(encode(make_selfcheck()))
    assert not read(tmp_path).problems


def test_a_study_beside_the_runs_is_no_problem(tmp_path):
    (tmp_path / "study.json").write_text('{"schema_version": 1, "quick": false, "studies": [{"name": "upsample"}]}')
    assert not read(tmp_path).problems


@pytest.mark.parametrize(("place", "sentence"), [("none", "no such folder"), ("file", "is a file")])
def test_a_folder_that_is_none_is_an_error(place, sentence, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OpbenchError, match=sentence):
        read(tmp_path / place)


def test_a_run_of_which_copies_lie_about_counts_once(tmp_path):
    results = filled(tmp_path, [1])
    save(at(1, noise=1), results / "default" / "run.json")
    store = read(results)
    assert (len(store.runs), len(store.digests)) == (1, 1)


def test_documents_beyond_those_held_in_memory_are_read_when_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "HELD", 1)
    for day in (1, 2):
        save(at(day), tmp_path / f"{day}.json")
    store = read(tmp_path)
    assert ["run" in vars(one) for one in store.runs] == [True, False]
    assert [one.run for one in store.runs] == [at(1), at(2)]


def test_a_document_changed_under_its_digest_is_refused_when_opened(tmp_path):
    results = filled(tmp_path, [1])
    (document,) = results.rglob("*.run.json")
    document.write_bytes(document.read_bytes().replace(b"Example CPU", b"Other---CPU"))
    with pytest.raises(OpbenchError, match="is not the document that its digest was made from"):
        _ = read(results).runs[0].run


def test_a_kept_document_is_not_opened_to_be_listed(tmp_path, monkeypatch):
    results = filled(tmp_path, [1, 2, 3])
    opened = []
    monkeypatch.setattr(module, "parse", lambda data, noun: opened.append(noun) or parse(data, noun))
    assert len(read(results).runs) == 3
    assert opened == [Digest] * 3


def test_gzipped_documents_are_found_and_are_the_runs_they_hold(tmp_path):
    results = filled(tmp_path, [1])
    for day in (1, 2):
        (results / f"{day}.json.gz").write_bytes(gzip.compress(render(at(day, noise=day))))
    (results / "cut.json.gz").write_bytes(gzip.compress(render(at(3)))[:-20])
    store = read(results)
    assert [one.started[8:10] for one in store.digests] == ["01", "02"], "a copy counts once"
    assert store.runs[1].run == at(2, noise=2)
    assert [(one.path, one.sentence) for one in store.problems] == [
        ("cut.json.gz", "not shown: the gzipped data end too early: the file was cut short")
    ]


def test_a_gzipped_document_is_kept_as_the_plain_one(tmp_path):
    (tmp_path / "run.json.gz").write_bytes(gzip.compress(render(at(1))))
    kept = keep(tmp_path / "run.json.gz", tmp_path / "results")
    assert (tmp_path / "results" / kept.path).read_bytes() == render(at(1))


def test_the_digest_holds_what_standings_say(tmp_path):
    run = make_run()
    made = digest(run, render(run))
    rows = {row.case.id: row for standing in standings(run) for row in standing.rows}
    assert {entry.case.id for entry in made.entries} == set(rows)
    for entry in made.entries:
        row = rows[entry.case.id]
        assert (entry.outcome, entry.message, entry.timings) == (row.outcome, row.message, row.timings)
    assert parse(encode(made), Digest) == made


def test_a_digest_from_before_a_quantity_was_recorded_still_opens():
    run = at(1)
    older = json.loads(encode(digest(run, render(run))))
    for entry in older["entries"]:
        assert entry.pop("held_bytes") == 1 << 18
    opened = parse(json.dumps(older).encode(), Digest)
    assert {entry.figure("held_bytes") for entry in opened.entries} == {None}
    assert {entry.figure("peak_bytes") for entry in opened.entries} == {1 << 20}
    assert "held_bytes" not in {one.quantity for one in series([opened])}


def test_a_digest_of_an_interval_without_ends_survives_its_file():
    run = make_run([make_record(make_case(name), rounds=1) for name in ("nearest[torch]", "carafe[cpu]")])
    made = digest(run, render(run))
    assert parse(encode(made), Digest) == made
    assert made.entries[1].timings[0].ratio.high == float("inf")


def test_keeping_is_idempotent_and_the_copy_is_byte_for_byte(tmp_path):
    save(at(1), tmp_path / "run.json")
    first, second = (keep(tmp_path / "run.json", tmp_path / "results") for _ in range(2))
    assert (first.new, second.new) == (True, False)
    assert first.path == second.path
    assert (tmp_path / "results" / first.path).read_bytes() == (tmp_path / "run.json").read_bytes()
    assert len(list((tmp_path / "results").rglob("*.json"))) == 2


def test_adding_a_run_leaves_every_other_file_as_it_was(tmp_path):
    results = filled(tmp_path, [1, 2])
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in results.rglob("*.json")}
    filled(tmp_path, [3])
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in before} == before


def test_the_merge_of_two_stores_is_the_union_of_their_files(tmp_path):
    one, two = filled(tmp_path / "a", [1, 2, 3]), filled(tmp_path / "b", [3, 4])
    shutil.copytree(two, one, dirs_exist_ok=True)
    assert [found.started[8:10] for found in read(one).digests] == ["01", "02", "03", "04"]


def test_what_is_no_run_document_is_not_kept(tmp_path):
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(OpbenchError, match=r"run\.json: not a run document"):
        keep(tmp_path / "run.json", tmp_path / "results")
    with pytest.raises(OpbenchError, match="no such file"):
        keep(tmp_path / "none.json", tmp_path / "results")
    assert not (tmp_path / "results").exists()


def test_a_hostile_environment_cannot_leave_the_folder(tmp_path):
    save(at(1, commit="../../../evil", cpu="../../etc", machine="/", gpu="..\x00/"), tmp_path / "run.json")
    kept = keep(tmp_path / "run.json", tmp_path / "results")
    assert (tmp_path / "results" / kept.path).resolve().is_relative_to(tmp_path / "results")
    assert ".." not in kept.path


@pytest.mark.parametrize("field", ["cpu", "cores", "threads", "gpu", "machine"])
def test_what_times_depend_on_is_in_the_machines_key(field):
    here = make_environment()
    changed = {"cpu": "Other", "cores": 4, "threads": 1, "gpu": "Some GPU", "machine": "aarch64"}[field]
    assert machine_key(here) != machine_key(msgspec.structs.replace(here, **{field: changed}))
    assert machine_key(here) == machine_key(make_environment(commit="other", versions={"torch": "3"}))


@pytest.mark.parametrize("share", [CoreShare(1), CoreShare(2, quota=0.5)])
def test_less_than_the_whole_machine_is_another_machine(share):
    whole = make_environment(share=CoreShare(2, physical=2, quota=2.0, governor="powersave", hyperthreads="off"))
    assert machine_key(whole) == machine_key(make_environment()) != machine_key(make_environment(share=share))


@pytest.mark.parametrize("text", ["", "...", "/", "\x00", "ü" * 50, "a" * 500, "CON"])
def test_a_slug_is_a_name(text):
    assert 0 < len(slug(text)) <= 40
    assert set(slug(text)) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")


def test_old_raw_samples_are_let_go_and_the_history_stays(tmp_path):
    results = filled(tmp_path, range(1, 11))
    before = series(read(results).digests, quantities=("ratio",))
    gone = let_go(results, newest=4)
    assert len(gone) == 6
    store = read(results)
    assert [one.digest.started[8:10] for one in store.runs] == ["07", "08", "09", "10"]
    assert series(store.digests, quantities=("ratio",)) == before
    assert not let_go(results, newest=4)


def test_the_runs_beside_a_step_keep_their_raw_samples(tmp_path):
    for day in range(1, 21):
        save(at(day, ratio=1.5 if day < 8 else 1.8, noise=day), tmp_path / "run.json")
        keep(tmp_path / "run.json", tmp_path / "results")
    let_go(tmp_path / "results", newest=2)
    days = [int(one.digest.started[8:10]) for one in read(tmp_path / "results").runs]
    assert days == [5, 6, 7, 8, 9, 10, 19, 20]


def test_documents_outside_of_the_history_are_never_let_go(tmp_path):
    results = filled(tmp_path, [1])
    save(at(2), results / "default" / "run.json")
    let_go(results, newest=0)
    assert [one.path for one in read(results).runs] == ["default/run.json"]


def test_a_run_whose_samples_were_let_go_is_not_put_back_by_adding_it_again(tmp_path):
    results = filled(tmp_path, [1])
    let_go(results, newest=0)
    assert not read(results).runs
    filled(tmp_path, [1])
    assert not read(results).runs
    assert json.loads(next(results.rglob("*.digest.json")).read_bytes())["started"].startswith("2026-01-01")


@pytest.mark.parametrize("damage", [b"", b"{", b'{"digest_version": 99}'])
def test_samples_are_not_let_go_where_their_digest_can_t_be_read(tmp_path, damage):
    results = filled(tmp_path, [1])
    next(results.rglob("*.digest.json")).write_bytes(damage)
    assert not let_go(results, newest=0)
    assert len(read(results).runs) == 1


def test_adding_a_run_again_mends_its_damaged_digest(tmp_path):
    results = filled(tmp_path, [1])
    told = next(results.rglob("*.digest.json"))
    whole = told.read_bytes()
    told.write_bytes(whole[:100])
    filled(tmp_path, [1])
    assert told.read_bytes() == whole
