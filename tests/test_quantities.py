"""What is measured is one row: a quantity that is added in one place is found in every table, export and page."""

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from opbench.quantities import MEDIA, QUANTITIES, exact
from opbench.schema import Counts, Memory

# Adds a row before anything reads the table, and prints what each reader makes of it.
ADDED = """
import itertools, json, sys
from pathlib import Path

import msgspec

from opbench import quantities

NEW = quantities.Quantity(
    key="spilled_bytes", title="spilled memory", label="memory spilled to disk", unit="bytes", style="size",
    channel="deterministic", help="Written to disk.", figure=lambda record: 3 * record.counts.params + 7,
    less_is_better=True,
)
quantities.QUANTITIES += (NEW,)

from factory import make_case, make_counts, make_record, make_run

from opbench import documents
from opbench.analyse.compare.nouns import QUANTITIES as ALLOWED
from opbench.analyse.compare.runs import compare
from opbench.analyse.history.digest import Digest, digest
from opbench.analyse.history.series import series
from opbench.analyse.history.store import read
from opbench.analyse.standings import contests, standings
from opbench.report import tables, terminal
from opbench.report.dashboard.payload import payload
from opbench.report.exports import FORMATS, export

folder = Path(sys.argv[1])


def run(params, started):
    names = itertools.product(("inference", "training"), ("nearest[torch]", "carafe[cpu]"))
    cases = [make_case(name, mode=mode) for mode, name in names]
    return make_run([make_record(case, counts=make_counts(params=params)) for case in cases], started=started)


older, newer = run(1000, "2026-01-01T00:00:00+00:00"), run(2000, "2026-02-01T00:00:00+00:00")
for name, one in (("older", older), ("newer", newer)):
    documents.save(one, folder / "store" / f"{name}.json")
for name in FORMATS:
    export([newer], name, folder / "exports" / name)
written = [path for path in (folder / "exports").rglob("*") if path.is_file()]
(standing, *_), (contest, *_) = standings(newer), contests(standings(newer))
panel, block = tables.panel(standing), next(iter(terminal.contents(newer, standings(newer))))
data = documents.encode(digest(newer, b""))
page = payload(read(folder / "store"))
rows, strings = page["rows"], page["strings"]
print(json.dumps({
    "panel": [panel.rows[0][panel.header.index("spilled memory")], *tables.contest(contest).header],
    "terminal": block.rows[0][block.header.index("spilled memory")],
    "exports": {str(path.relative_to(folder / "exports")): path.read_bytes().hex() for path in written},
    "compared": [[one.name, one.base, one.head, one.change] for one in compare(older, newer).rows[0].quantities],
    "allowed": list(ALLOWED),
    "digest": [entry.figure("spilled_bytes") for entry in documents.parse(data, Digest).entries],
    "keys": list(json.loads(data)["entries"][0]),
    "series": [[one.quantity, [point.value for point in one.points]] for one in series(read(folder / "store").digests)],
    "rows": [rows["others"]["spilled_bytes"], [strings[place] for place in rows["texts"]["spilled_bytesText"]]],
    "described": page["quantities"][-2],
    "trends": [strings[one["quantity"]] for one in page["trends"]["series"]],
}))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What a process with one more row says; in a process of its own, since readers take the table as they load."""
    tests = Path(__file__).parent
    paths = os.pathsep.join([str(tests), str(tests.parent), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-c", ADDED, str(tmp_path_factory.mktemp("added"))]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": paths})
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_an_added_quantity_is_a_column_of_the_tables(found):
    cell, *header = found["panel"]
    assert cell == found["terminal"] == "5.87 KiB"  # 6,007 bytes
    assert "spilled memory (inference)" in header


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("csv", b"spilled_bytes"),
        ("parquet", b"spilled_bytes"),
        ("bencher", b'"spilled-memory-bytes"'),
        ("pytest-benchmark", b'"spilled_bytes": 6007'),
        ("openmetrics", b"# TYPE opbench_spilled_memory_bytes gauge"),
        ("github-action-benchmark", b"nearest[torch] spilled memory"),
        ("asv/results/benchmarks.json", b"inference.spilled_memory"),
    ],
)
def test_an_added_quantity_is_in_every_export(found, name, published):
    assert published in bytes.fromhex(found["exports"][name])


def test_an_added_quantity_is_compared_and_can_be_allowed(found):
    assert ["spilled", "3,007", "6,007", "regressed"] in found["compared"]
    assert "spilled" in found["allowed"]


def test_an_added_quantity_is_kept_in_digests_and_has_a_history(found):
    assert found["digest"] == [6007] * 4
    assert "spilled_bytes" in found["keys"]
    assert found["series"].count(["spilled_bytes", [3007, 6007]]) == 4
    assert found["trends"].count("spilled_bytes") == 4


def test_an_added_quantity_is_a_column_and_a_menu_entry_of_the_dashboard(found):
    values, texts = found["rows"]
    assert sorted(values) == [3007] * 4 + [6007] * 4
    assert set(texts) == {"2.94 KiB", "5.87 KiB"}
    described = found["described"]
    assert (described["key"], described["trend"], described["title"]) == (*["spilled_bytes"] * 2, "spilled memory")
    assert described["offered"]
    assert described["exact"]


@pytest.mark.parametrize("medium", MEDIA)
def test_no_two_quantities_go_by_one_name(medium):
    if medium == "asv type":
        return
    names = [name for one in QUANTITIES if (name := one.name(medium)) is not None]
    assert len(set(names)) == len(names)


# What other programs read: a name here may be added and none may change.
CONTRACT = {
    "digest": ["params", "macs", "peak_bytes", "saved_bytes", "held_bytes"],
    "compare": ["params", "macs", "min-bytes", "peak", "saved", "held"],
    "csv": ["params", "macs", "min_bytes", "peak_bytes", "saved_bytes", "held_bytes"],
    "pytest-benchmark": ["params", "macs", "peak_bytes", "saved_bytes", "held_bytes"],
    "bencher": ["params", "macs", "peak-memory-bytes", "saved-for-backward-bytes", "held-memory-bytes"],
    "asv": ["params", "macs", "peak_memory", "saved_for_backward", "held_memory"],
    "openmetrics": [
        "opbench_parameters", "opbench_macs", "opbench_peak_memory_bytes", "opbench_saved_for_backward_bytes",
        "opbench_held_memory_bytes",
    ],
    "github-action": ["peak memory", "saved for backward", "held memory"],
}  # fmt: skip


@pytest.mark.parametrize("medium", CONTRACT)
def test_published_names_stay(medium):
    assert [name for _, name in exact(medium)][: len(CONTRACT[medium])] == CONTRACT[medium]


def test_names_are_those_of_media_that_exist():
    assert set(itertools.chain.from_iterable(one.names for one in QUANTITIES)) <= set(MEDIA)


def test_a_row_finds_its_figure_in_the_record():
    """Each row without a computation of its own names a field that a record has."""
    fields = {"counts": Counts, "memory": Memory}
    for one in QUANTITIES:
        if one.part:
            assert one.key in {field.name for field in msgspec.structs.fields(fields[one.part])}
        else:
            assert one.figure or one.timed
