"""A run's parts at an address: put there once however often, merged alike by whoever reads them, over any failure."""

import random
import subprocess
import sys
import threading

import pytest
from factory import make_case, make_environment, make_failure, make_panels, make_record
from msgspec.structs import replace
from stores import FlakyFiles, MemoryFiles, store_of

from opbench.documents import render
from opbench.engine.delivery import Delivery
from opbench.engine.entries import NAME, Given, Header, Lost, PanelFinished, Session, Surroundings, read, written
from opbench.engine.merging import merged
from opbench.engine.parts import collected, kind_and_key, parsed, part_name, reindexed
from opbench.schema import OpbenchError, Plan, Settings, Yardstick

SETTINGS = Settings(suite="tiny", precision=0.01, budget_seconds=1.0, replicas=2)
PLACE = Surroundings(make_environment(), (Yardstick("copy", "cpu", "float32", "bytes/second", (14e9, 14e9)),), 1.0, 2.0)


def records_of(panel, visit):
    return [
        make_record(make_case(name, workload=panel), ratio=ratio, rounds=4, seconds=1e-3 * (1 + visit))
        for name, ratio in (("nearest[torch]", 1.0), ("carafe[cpu]", 6.0))
    ]


def journal(count=3):
    """(plan, entries) of a finished run of so many panels, twice visited."""
    names = [f"size-{at}" for at in range(count)]
    panels = make_panels([record for name in names for record in records_of(name, 0)])
    header = Header(SETTINGS, {panel.id: "0" for panel in panels}, {}, None, "2026-01-02T03:04:05+00:00")
    entries = [header, Session(1, "here", "now", "opbench run"), PLACE]
    for visit in range(2):
        for name, panel in zip(names, panels, strict=True):
            entries.append(Given(visit, panel.id, tuple(case.id for case in panel.cases)))
            entries.append(PanelFinished(visit, panel.id, tuple(records_of(name, visit)), 0.5, 0.6))
    return Plan("tiny", panels, ()), entries


def working_folder(folder, entries):
    folder.mkdir(exist_ok=True)
    (folder / NAME).write_bytes(b"".join(map(written, entries)))
    return folder


def delivered(store, folder, plan):
    delivery = Delivery("mock://bucket/run", folder, store)
    delivery.begin(resume=False)
    delivery.plan(plan)
    delivery.deliver(patient=False)
    delivery.index()
    return delivery


def test_what_is_finished_is_there_once_and_what_one_machine_alone_needs_is_not(tmp_path):
    plan, entries = journal()
    store = store_of(MemoryFiles())
    delivery = delivered(store, working_folder(tmp_path / "run", entries), plan)
    before = store.names()
    delivery.deliver(patient=False)
    again = Delivery("mock://bucket/run", working_folder(tmp_path / "other", entries), store)
    again.begin(resume=True)
    again.deliver(patient=False)
    kinds = [parsed(name).kind for name in store.names("parts")]
    assert sorted(kinds) == ["header", *["panel"] * 6, "plan", "where"]
    assert [name for name in store.names() if name not in before] == [f"index/{again._writer}.json"]


def test_whoever_merges_the_same_parts_makes_the_same_document(tmp_path):
    plan, entries = journal()
    files = MemoryFiles()
    delivered(store_of(files), working_folder(tmp_path / "run", entries), plan)
    (one,) = merged(collected(store_of(files)))
    shuffled = list(files.held.items())
    random.Random(1).shuffle(shuffled)
    (other,) = merged(collected(store_of(MemoryFiles(dict(shuffled)))))
    assert render(one.run) == render(other.run)
    assert one.missing == 0
    assert [len(latency.samples_seconds) for record in one.run.records for latency in record.latencies] == [2] * 6
    assert one.run.panels == plan.panels


def test_of_a_visit_that_was_measured_twice_every_reader_takes_the_same(tmp_path):
    plan, entries = journal(1)
    files = MemoryFiles()
    delivered(store_of(files), working_folder(tmp_path / "run", entries), plan)
    finished = entries[-1]
    twice = replace(finished, records=tuple(records_of("size-0", 7)), wall_seconds=9.0)
    line = written(twice)
    files.held[f"bucket/run/{part_name('', *kind_and_key(twice), line)}"] = line
    (one,) = merged(collected(store_of(files)))
    (other,) = merged(collected(store_of(MemoryFiles(dict(reversed(files.held.items()))))))
    assert one == other
    assert len(one.run.records) == 2
    assert one.missing == 0


@pytest.mark.parametrize("seed", range(4))
def test_a_flaky_store_loses_nothing_and_doubles_nothing(tmp_path, seed):
    """Two writers at once, each with half of the visits, over lost answers, cut writes and late listings."""
    plan, entries = journal(8)
    held = {}
    work = [entry for entry in entries if isinstance(entry, PanelFinished)]
    shared = [entry for entry in entries if isinstance(entry, Header | Surroundings)]
    files = [FlakyFiles(held, seed=10 * seed + number) for number in range(2)]

    def write(number):
        # The two overlap: what both have measured is there twice, and counts once.
        mine = [*shared, *(work[:11] if number else work[6:])]
        delivery = Delivery("x", working_folder(tmp_path / str(number), mine), store_of(files[number]))
        delivery.begin(resume=True)
        delivery.plan(plan)
        delivery.deliver(patient=False)
        delivery.index()

    writers = [threading.Thread(target=write, args=(number,)) for number in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert sum(one.faults for one in files) > 10
    quiet = collected(store_of(MemoryFiles(held)))
    (one,) = merged(quiet)
    whole = collected_of(tmp_path, plan, entries)
    assert one.missing == 0
    assert render(one.run) == render(whole.run)
    # A listing that is late costs nothing where an index names what it lacks.
    late = merged(collected(store_of(FlakyFiles(held, seed=99, unseen=0))))[0]
    assert render(late.run) == render(whole.run)


def collected_of(folder, plan, entries):
    store = store_of(MemoryFiles())
    delivered(store, working_folder(folder / "whole", entries), plan)
    return merged(collected(store))[0]


def test_parts_that_no_listing_shows_are_found_by_the_index_which_can_be_made_anew(tmp_path):
    plan, entries = journal()
    files = FlakyFiles(seed=3, unseen=0)
    delivered(store_of(files), working_folder(tmp_path / "run", entries), plan)
    late = FlakyFiles(files.held, seed=4, unseen=4)
    late.order = [name for name in files.held if "/parts/" in name]
    assert len(late.find("bucket/run")) == len(files.held) - 4
    assert merged(collected(store_of(late)))[0].missing == 0
    for name in [name for name in files.held if "/index/" in name]:
        del files.held[name]
    assert merged(collected(store_of(MemoryFiles(files.held))))[0].missing == 0
    assert reindexed(store_of(files)) == len(files.held) - 1
    late.held = files.held
    assert merged(collected(store_of(late)))[0].missing == 0


def test_a_part_that_was_cut_short_is_passed_over_and_written_again(tmp_path):
    plan, entries = journal()
    files = MemoryFiles()
    folder = working_folder(tmp_path / "run", entries)
    delivered(store_of(files), folder, plan)
    name = next(name for name in files.held if "/panel-" in name)
    files.held[name] = files.held[name][:100]
    files.held["bucket/run/parts/notes.txt"] = b"?"
    files.held["bucket/run/parts/panel-0.1-abc.part9"] = b"of another version"
    parts = collected(store_of(files))
    assert any("cut short" in sentence for sentence in parts.problems)
    assert sum("no part that this opbench reads" in sentence for sentence in parts.problems) == 2
    assert merged(parts)[0].missing == 1
    again = Delivery("x", folder, store_of(files))
    again.begin(resume=True)
    again.deliver(patient=False)
    assert merged(collected(store_of(files)))[0].missing == 0


def test_a_resumed_run_begins_with_what_is_there_and_keeps_its_own_journal(tmp_path):
    plan, entries = journal()
    store = store_of(MemoryFiles())
    delivered(store, working_folder(tmp_path / "run", entries), plan)
    elsewhere = Delivery("x", tmp_path / "elsewhere", store)
    with pytest.raises(OpbenchError, match="holds 6 parts of a run; resume it with --resume"):
        elsewhere.begin(resume=False)
    elsewhere.begin(resume=True)
    back, _ = read(tmp_path / "elsewhere" / NAME)
    assert isinstance(back[0], Header)
    assert {(one.replica, one.panel) for one in back if isinstance(one, PanelFinished)} == {
        (visit, panel.id) for visit in range(2) for panel in plan.panels
    }
    own = [*entries[:3], entries[3], entries[4]]
    here = Delivery("x", working_folder(tmp_path / "here", own), store)
    here.begin(resume=True)
    back, _ = read(tmp_path / "here" / NAME)
    assert back[: len(own)] == own  # who was given what, too
    assert sum(isinstance(one, PanelFinished) for one in back) == 6


def test_a_run_goes_on_while_its_store_is_away_and_delivers_later(tmp_path):
    plan, entries = journal()
    files = MemoryFiles()
    delivery = Delivery("x", tmp_path / "run", store_of(files))
    delivery.begin(resume=False)
    delivery.plan(plan)
    working_folder(tmp_path / "run", entries)
    put, files.pipe_file = files.pipe_file, lambda path, data: 1 / 0
    delivery.deliver()
    with pytest.raises(OpbenchError, match="can't be written, in 6 tries"):
        delivery.deliver(patient=False)
    files.pipe_file = put
    delivery.deliver()
    assert merged(collected(store_of(files)))[0].missing == 0


def test_a_store_that_can_t_be_written_is_said_before_anything_is_measured(tmp_path):
    files = MemoryFiles()

    def refuse(path, data):
        raise PermissionError(13, "Access Denied")

    files.pipe_file = refuse
    with pytest.raises(OpbenchError, match=r"index/.*can't be written: PermissionError"):
        Delivery("x", tmp_path, store_of(files)).begin(resume=False)


def test_machines_that_make_no_one_run_are_kept_apart_by_name(tmp_path):
    plan, entries = journal()
    files = MemoryFiles()
    delivered(store_of(files), working_folder(tmp_path / "run", entries), plan)
    other = replace(PLACE, environment=make_environment(cpu="Another CPU", versions={"torch": "2.7.0"}))
    line = written(other)
    files.held[f"bucket/run/{part_name('', *kind_and_key(other), line)}"] = line
    with pytest.raises(OpbenchError, match=r"cpu: .* there, .* here.*give each an address of its own"):
        merged(collected(store_of(files)))
    files.held[f"bucket/run/{part_name('gpu-node', *kind_and_key(entries[0]), written(entries[0]))}"] = written(
        entries[0]
    )
    assert set(collected(store_of(files)).types) == {"", "gpu-node"}


def test_the_yardsticks_of_every_node_survive_with_what_it_measured(tmp_path):
    """Two nodes that are alike in everything but their rates; one of them was surveyed twice."""
    plan, entries = journal(2)
    copies = {"one": (14e9, 15e9), "two": (7e9,)}
    places = [
        replace(PLACE, yardsticks=(replace(PLACE.yardsticks[0], samples=samples),), node=node)
        for node, samples in copies.items()
    ]
    again = replace(places[1], environment=make_environment(details={"load before": "3"}))
    work = [
        replace(entry, node="two" if entry.panel == plan.panels[0].id else "one")
        for entry in entries
        if isinstance(entry, PanelFinished)
    ]
    store = store_of(MemoryFiles())
    folder = working_folder(tmp_path / "run", [entries[0], *places, again, *work])
    delivered(store, folder, plan)
    (one,) = merged(collected(store))
    assert [(node.name, node.yardsticks[0].samples) for node in one.run.nodes] == [
        ("one", (14e9, 15e9)),
        ("two", (7e9, 7e9)),
    ]
    assert [[visit.panel for visit in node.visits] for node in one.run.nodes] == [
        [plan.panels[1].id] * 2,
        [plan.panels[0].id] * 2,
    ]
    assert one.run.yardsticks[0].samples == (14e9, 15e9, 7e9, 7e9)
    assert one.run.environment.details["fleet"] == "2 nodes"


def test_machines_without_a_name_at_one_address_keep_all_their_samples(tmp_path):
    plan, entries = journal(1)
    other = replace(PLACE, environment=make_environment(details={"load before": "3"}))
    store = store_of(MemoryFiles())
    delivered(store, working_folder(tmp_path / "run", [*entries, other]), plan)
    (one,) = merged(collected(store))
    assert one.run.yardsticks[0].samples == (14e9,) * 4
    assert one.run.nodes == ()
    assert one.run.wall_seconds == pytest.approx(2 * 2.0 + 2 * 0.6)


def test_what_is_taken_out_of_the_parts_is_read_once(tmp_path):
    plan, entries = journal(2)
    store = store_of(MemoryFiles())
    delivered(store, working_folder(tmp_path / "run", entries), plan)
    parts = collected(store)
    assert merged(parts)[0].missing == 0
    assert {part.kind for part in parts.lines} == {"header", "plan", "where"}


def test_a_journal_is_read_line_by_line_whatever_its_length(tmp_path):
    plan, entries = journal(40)
    store = store_of(MemoryFiles())
    folder = working_folder(tmp_path / "run", entries)
    torn = (folder / NAME).read_bytes() + b"0badc0de {"
    (folder / NAME).write_bytes(torn)
    delivered(store, folder, plan)
    assert merged(collected(store))[0].missing == 0
    elsewhere = Delivery("x", tmp_path / "elsewhere", store)
    elsewhere.begin(resume=True)
    assert sum(isinstance(one, PanelFinished) for one in read(tmp_path / "elsewhere" / NAME)[0]) == 80


def test_a_damaged_journal_is_left_as_it_is_for_the_run_that_opens_it_to_refuse(tmp_path):
    plan, entries = journal()
    store = store_of(MemoryFiles())
    delivered(store, working_folder(tmp_path / "run", entries), plan)
    folder = working_folder(tmp_path / "other", entries[:3])
    damaged = (folder / NAME).read_bytes() + b"0badc0de {}\n"
    (folder / NAME).write_bytes(damaged)
    Delivery("x", folder, store).begin(resume=True)
    assert (folder / NAME).read_bytes() == damaged
    with pytest.raises(OpbenchError, match="line 4 is damaged"):
        read(folder / NAME)


def test_without_a_plan_nothing_is_merged(tmp_path):
    _, entries = journal()
    store = store_of(MemoryFiles())
    delivery = Delivery("x", working_folder(tmp_path / "run", entries), store)
    delivery.begin(resume=False)
    delivery.deliver(patient=False)
    with pytest.raises(OpbenchError, match="hold no plan"):
        merged(collected(store))
    with pytest.raises(OpbenchError, match="holds no part"):
        merged(collected(store_of(MemoryFiles())))


def test_a_lost_case_has_a_part_of_its_own():
    entry = Lost(1, "panel", make_failure(make_case("carafe[mine]"), "crashed", "signal 11"))
    name = part_name("", *kind_and_key(entry), written(entry))
    assert parsed(name).kind == "lost"
    assert parsed("parts/../../etc/passwd") is None
    assert parsed("elsewhere/panel-0.1-0123456789abcdef.part") is None


def test_an_index_is_written_so_seldom_that_all_together_are_short(tmp_path):
    plan, entries = journal(24)
    files = MemoryFiles()
    lengths = []
    put = files.pipe_file
    files.pipe_file = lambda path, data: (lengths.append(len(data)) if "/index/" in path else None, put(path, data))
    delivery = Delivery("x", tmp_path / "run", store_of(files))
    delivery.begin(resume=False)
    delivery.plan(plan)
    for end in range(3, len(entries) + 1, 2):
        working_folder(tmp_path / "run", entries[:end])
        delivery.deliver(patient=False)
    delivery.index()
    assert sum(lengths) < 4 * max(lengths)


def test_nothing_of_it_is_imported_where_nobody_names_an_address():
    code = "import sys, opbench.commands.run, opbench.documents; sys.exit('fsspec' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
