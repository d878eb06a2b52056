"""A contributed run that was changed is found, by the sign of that change; one that wasn't is not."""

import re

import pytest
from forging import (
    DOCUMENT,
    bundle_of,
    edited,
    edited_digest,
    files_of,
    honest_bundle,
    on_a_gpu,
    packed,
    record_of,
    scaled,
    seeds_of,
    submission,
    with_counts,
    with_latency,
    with_record,
    with_verdict,
    with_worst,
    without_rounds,
)
from msgspec.structs import replace

from opbench import documents
from opbench.contributed.bundle import open_bundle, opened
from opbench.contributed.checks import clocks, counts, devices, proofs
from opbench.contributed.checks.log import log
from opbench.contributed.nouns import CheckedPart, Sign, UncheckedPart
from opbench.contributed.verifying import CHECKS, NEVER, verify
from opbench.schema import Counted, OpbenchError

FAST, SLOW = "dysample[cpu]/spread=2px", "dysample[grid-sample]/spread=2px"
BASE, CONV = "nearest[torch]", "conv3x3[torch]"


@pytest.fixture(scope="module")
def honest():
    return opened(honest_bundle())


@pytest.fixture(scope="module")
def on_gpu(honest):
    run = on_a_gpu(honest.run)
    return bundle_of(run, "", seeds_of(run)), run


def kinds(found):
    return {sign.kind for sign in found.signs}


def told(found):
    return "\n".join(f"{sign.kind}: {sign.where}: {sign.sentence}" for sign in found.signs)


def test_an_honest_run_is_checked_through_and_says_what_was_not(honest):
    found = verify(honest)
    assert found.signs == (), told(found)
    assert found.status == "checked"
    done = {one.what: one.count for one in found.checked}
    cases = len(honest.run.records)
    assert done["counts by their closed forms"] == done["definition and bound at the worst element"] == cases
    assert done["samples that their clock can show"] > 100
    assert done["traffic by shapes"] >= cases - 4
    left = {one.what for one in found.unchecked}
    assert "what the device computed there (`got`)" in left
    assert NEVER.what in left


def test_the_log_of_a_fleet_names_the_node_of_each_panel_and_is_read_as_any_other(honest):
    logged = re.sub(r"(\(process \d+\)):", r"\1 on host-ab12cd:", honest.log)
    assert logged != honest.log
    (visits,) = {one.count for one in log(submission(honest, log=logged)) if isinstance(one, CheckedPart)}
    assert [one for one in log(submission(honest, log=logged)) if isinstance(one, Sign)] == []
    assert visits == len(re.findall(r"\(process \d+\)", honest.log)) > 0


def test_the_same_run_as_if_on_a_gpu_has_no_sign_but_the_log_s(on_gpu):
    found = verify(opened(on_gpu[0]), within_seconds=0)
    assert kinds(found) == {"log"}, told(found)
    assert found.status == "refused"
    without = verify(replace(opened(on_gpu[0]), log=None), within_seconds=0)
    assert without.signs == (), told(without)
    assert without.status == "partly checked"


# --- forgeries ------------------------------------------------------------------------------------------------------


def median(given):
    """DySample's median in the figures beside the samples, 20 % lower."""

    def change(entries):
        (timing,) = next(one for one in entries if one["case"]["operator"] == "dysample")["timings"]
        timing["latency"]["median_seconds"] = 0.8 * timing["latency"]["median_seconds"]
        timing["latency"]["lower_seconds"] *= 0.7

    return submission(given, figures=edited_digest(given, change))


def interval(given):
    """A ratio's interval, narrowed to its middle."""

    def change(entries):
        timing = next(one for one in entries if one["case"]["operator"] == "dcnv2")["timings"][0]
        timing["ratio"]["low"] = timing["ratio"]["high"] = timing["ratio"]["value"]

    return submission(given, figures=edited_digest(given, change))


def params(given):
    at = record_of(given.run, FAST)
    return submission(given, with_counts(given.run, at, params=given.run.records[at].counts.params // 2))


def macs(given):
    """Both counters say the same as the closed form that was changed."""
    at = record_of(given.run, CONV)
    half = given.run.records[at].counts.macs // 2
    return submission(
        given,
        with_counts(given.run, at, macs=half, torch=Counted(half), fvcore=Counted(half), stock_torch=Counted(half)),
    )


def least_bytes(given):
    at = record_of(given.run, FAST)
    return submission(given, with_counts(given.run, at, min_bytes=10 * given.run.records[at].counts.min_bytes))


def counter(given):
    at = record_of(given.run, CONV)
    return submission(given, with_counts(given.run, at, torch=Counted(given.run.records[at].counts.macs // 2)))


def moved_bytes(given):
    at = record_of(given.run, SLOW)
    return submission(given, with_counts(given.run, at, traffic_bytes=given.run.records[at].counts.traffic_bytes // 4))


def peak(given):
    at = record_of(given.run, SLOW)
    memory = given.run.records[at].memory
    return submission(given, with_record(given.run, at, memory=replace(memory, peak_bytes=memory.peak_bytes // 2)))


def device_of_cases(given):
    """The CPU's samples under a GPU's name."""
    run = on_a_gpu(given.run)
    records = tuple(
        replace(ours, latencies=theirs.latencies) for ours, theirs in zip(run.records, given.run.records, strict=True)
    )
    run = replace(run, settings=given.run.settings, records=records)
    return submission(given, run, seeds=seeds_of(run))


def cpu_by_name(given):
    """A slower machine's run under the name of a faster one; the log still names the first."""
    return submission(given, replace(given.run, environment=replace(given.run.environment, cpu="AMD EPYC 9754")))


def log_of_another(given):
    lines = given.log.splitlines()
    return submission(given, log="\n".join(line for line in lines if "yardstick" not in line))


def row_of_another(given):
    """A fast contender's samples in the row of a slow one."""
    slow, fast = record_of(given.run, SLOW), record_of(given.run, FAST)
    latency = given.run.records[fast].latencies[0]
    return submission(given, with_record(given.run, slow, latencies=(latency,)))


def most_of_a_row(given):
    """The same, its first rounds kept: two thirds of the samples are another row's."""
    slow, fast = record_of(given.run, SLOW), record_of(given.run, FAST)
    latency, other = given.run.records[slow].latencies[0], given.run.records[fast].latencies[0]
    mixed = tuple(
        ours[: len(ours) // 3] + theirs[len(ours) // 3 : len(ours)]
        for ours, theirs in zip(latency.samples_seconds, other.samples_seconds, strict=True)
    )
    return submission(
        given, with_latency(given.run, slow, samples_seconds=mixed, calls_per_sample=other.calls_per_sample)
    )


def second_visit(given):
    """The first visit's samples once more as the second's."""
    at = record_of(given.run, FAST)
    latency = given.run.records[at].latencies[0]
    rows = [latency.samples_seconds[0], *latency.samples_seconds[1:]]
    waited = [latency.waited[0], *latency.waited[1:]] if latency.waited else []
    out = [latency.left_out[0], *latency.left_out[1:]] if latency.left_out else []
    for held in (rows, waited, out):
        if held:
            held[1] = held[0]
    return submission(
        given,
        with_latency(given.run, at, samples_seconds=tuple(rows), waited=tuple(waited), left_out=tuple(out)),
    )


def verdict_of_another(given):
    """The proof of one implementation's operator in the record of another operator."""
    wrong, right = record_of(given.run, FAST), record_of(given.run, CONV)
    other = given.run.records[right]
    return submission(given, with_record(given.run, wrong, verdict=other.verdict, final_verdict=other.final_verdict))


def faster_by_a_tenth(given):
    at = record_of(given.run, FAST)
    return submission(
        given, with_latency(given.run, at, samples_seconds=scaled(given.run.records[at].latencies[0], 0.9, whole=False))
    )


def longer_than_the_run(given):
    """Samples on their clock that come to more than the run was calling."""
    at = record_of(given.run, BASE)
    latency = given.run.records[at].latencies[0]
    return submission(given, with_latency(given.run, at, calls_per_sample=1000 * latency.calls_per_sample))


def longer_than_its_panel(given):
    """A slowed-down row that still fits into the run, and not into what the log says of its panel."""
    at = record_of(given.run, BASE)
    slow = scaled(given.run.records[at].latencies[0], 40)
    longer = replace(given.run, called_seconds=1e4, wall_seconds=1e4)
    return submission(given, with_latency(longer, at, samples_seconds=slow))


def slow_rounds_dropped(given):
    """Every second round of the panel, from all its rows; the probes still tell how many there were."""
    run = given.run
    panel = run.panels[0]
    for at, record in enumerate(run.records):
        if record.case.panel_id == panel.id and record.latencies:
            latency = record.latencies[0]
            gone = set(range(0, 1000, 2))
            run = with_latency(
                run,
                at,
                samples_seconds=without_rounds(latency.samples_seconds, gone),
                waited=without_rounds(latency.waited, gone),
                left_out=(),
            )
    return submission(given, run)


def baseline_s_rounds(given):
    """The baseline's slowest rounds alone, which makes it faster and its rivals slower."""
    at = record_of(given.run, BASE)
    latency = given.run.records[at].latencies[0]
    return submission(
        given,
        with_latency(
            given.run,
            at,
            samples_seconds=without_rounds(latency.samples_seconds, {0, 1, 2}),
            waited=without_rounds(latency.waited, {0, 1, 2}),
            left_out=(),
        ),
    )


def disturbed_kept(given):
    """A row waited for a core in half of its rounds, and all of them are in its figures."""
    at = record_of(given.run, FAST)
    latency = given.run.records[at].latencies[0]
    waited = tuple(tuple(300 if place % 2 else 0 for place in range(len(row))) for row in latency.samples_seconds)
    return submission(given, with_latency(given.run, at, waited=waited, left_out=()))


def bound(given):
    """A bound a thousand times as wide, around an answer that is off by as much."""
    at = record_of(given.run, FAST)
    worst = given.run.records[at].verdict.worst
    return submission(
        given, with_worst(given.run, at, bound=1000 * worst.bound, got=worst.expected + 500 * worst.bound)
    )


def expected(given):
    at = record_of(given.run, CONV)
    return submission(given, with_worst(given.run, at, expected=0.25, got=0.25))


def ratio_of_the_worst(given):
    at = record_of(given.run, FAST)
    return submission(given, with_verdict(given.run, at, worst_ratio=0.001))


def judged(given):
    """A verdict on a few elements that says it was on more."""
    at = record_of(given.run, FAST)
    return submission(given, with_verdict(given.run, at, judged=10 * given.run.records[at].verdict.judged))


def impossible(given):
    """A hundred thousand times as fast, in whole nanoseconds."""
    at = record_of(given.run, CONV)
    latency = given.run.records[at].latencies[0]
    calls = 100_000 * latency.calls_per_sample
    samples = tuple(tuple(one / 100_000 for one in row) for row in latency.samples_seconds)
    return submission(given, with_latency(given.run, at, samples_seconds=samples, calls_per_sample=calls))


def row_left_out(given):
    """The row that lost is no longer there."""
    at = record_of(given.run, SLOW)
    return submission(given, replace(given.run, records=given.run.records[:at] + given.run.records[at + 1 :]))


def older_by_name(given):
    """A document of schema 2 that says it is of schema 1, which has fewer rules."""
    document = edited(given.document, lambda raw: raw.update(schema_version=1))
    return submission(given, documents.parse(document), document=document)


def field_of_its_own(given):
    document = edited(given.document, lambda raw: raw["records"][0].update(speed="fast"))
    return submission(given, document=document)


def from_tomorrow(given):
    return submission(given, replace(given.run, started="2099-01-01T00:00:00+00:00"))


def seeds(given):
    """Inputs drawn by another seed than the manifest says."""
    return submission(given, seeds={**given.manifest.seeds, given.run.panels[0].id: "7/upsample2x/yolo11n-p5-p4"})


FORGERIES = {
    median: "statistics",
    interval: "statistics",
    params: "counts",
    macs: "counts",
    least_bytes: "counts",
    counter: "counts",
    moved_bytes: "traffic",
    peak: "memory",
    device_of_cases: "device",
    cpu_by_name: "log",
    log_of_another: "log",
    row_of_another: "copied",
    most_of_a_row: "copied",
    second_visit: "copied",
    verdict_of_another: "definition",
    faster_by_a_tenth: "clock",
    longer_than_the_run: "clock",
    longer_than_its_panel: "log",
    slow_rounds_dropped: "rounds",
    baseline_s_rounds: "rounds",
    disturbed_kept: "disturbed",
    bound: "bound",
    expected: "definition",
    ratio_of_the_worst: "verdict",
    judged: "definition",
    impossible: "speed",
    row_left_out: "records",
    older_by_name: "schema",
    field_of_its_own: "schema",
    from_tomorrow: "schema",
    seeds: "seeds",
}


@pytest.mark.parametrize("forge", FORGERIES, ids=lambda forge: forge.__name__)
def test_a_forgery_is_found_by_its_sign(honest, forge):
    sign, forged = FORGERIES[forge], forge(honest)
    if sign in ("definition", "bound"):  # of what was changed alone: the others' definitions are evaluated once, above
        changed = tuple(one for one in forged.run.records if one not in honest.run.records)
        forged = replace(forged, run=replace(forged.run, records=changed))
        assert sign in {one.kind for one in proofs.definitions(forged) if isinstance(one, Sign)}
        return
    # A second for all cases, so only where they are asked.
    by_shapes = {counts.traffic: "traffic", counts.memory: "memory"}
    checks = [check for check in CHECKS if by_shapes.get(check, sign) == sign]
    signs = {one.kind for check in checks for one in check(forged) if isinstance(one, Sign)}
    assert sign in signs


def test_what_another_revision_s_operations_moved_and_held_is_left_unchecked(honest):
    def at_revision(forged):
        return submission(forged, replace(forged.run, environment=replace(forged.run.environment, commit="f" * 40)))

    for forge, check in ((peak, counts.memory), (moved_bytes, counts.traffic)):
        found = list(check(at_revision(forge(honest))))
        assert [one for one in found if isinstance(one, Sign)] == []
        assert f"opbench at {'f' * 40} made it" in " ".join(one.why for one in found if isinstance(one, UncheckedPart))


def test_one_sign_is_enough_to_refuse_a_run(honest):
    found = verify(params(honest), within_seconds=0)
    assert (found.status, kinds(found)) == ("refused", {"counts"})
    (sign,) = found.signs
    assert sign.where.endswith(FAST)
    assert sign.sentence.startswith("params is ")


# --- a GPU's ---------------------------------------------------------------------------------------------------------


def another_gpu(run):
    """An A100's run under the name of an H100: its multiprocessors still say which it was."""
    details = {**run.environment.details, "multiprocessors": "108", "compute capability": "8.0"}
    return replace(run, environment=replace(run.environment, details=details))


def renamed_gpu(run):
    """An H100's run as an A100's, its details edited, too; its clock is higher than any A100's."""
    details = {**run.environment.details, "multiprocessors": "108", "compute capability": "8.0"}
    return replace(run, environment=replace(run.environment, gpu="NVIDIA A100-SXM4-80GB", details=details))


def below_the_data_sheet(run):
    """Cold calls faster than the memory can be, beside yardsticks that were scaled with them."""
    fast = on_a_gpu_again(run, 1 / 4096)
    yardsticks = tuple(replace(one, samples=tuple(4096 * rate for rate in one.samples)) for one in run.yardsticks)
    return replace(fast, yardsticks=yardsticks)


def on_a_gpu_again(run, by):
    """All samples times a power of two, which stays a float32."""
    records = tuple(
        replace(
            record,
            latencies=tuple(
                replace(one, samples_seconds=tuple(tuple(by * sample for sample in row) for row in one.samples_seconds))
                for one in record.latencies
            ),
        )
        for record in run.records
    )
    return replace(run, records=records)


def only_the_rows(run):
    """The same with the yardsticks taken away: only the data sheet is left to hold the rows to."""
    return replace(on_a_gpu_again(run, 1 / 4096), yardsticks=run.yardsticks[:1])


def scaled_on_a_gpu(run):
    return on_a_gpu_again(run, 0.9)


def a_cpu_s_memory(run):
    memory = replace(run.records[0].memory, method="cpu-dispatch")
    return with_record(run, 0, memory=memory)


@pytest.mark.parametrize(
    ("forge", "sign"),
    [
        (another_gpu, "device"),
        (renamed_gpu, "device"),
        (below_the_data_sheet, "data sheet"),
        (only_the_rows, "data sheet"),
        (scaled_on_a_gpu, "clock"),
        (a_cpu_s_memory, "device"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_a_forgery_of_a_gpu_s_run_is_found_by_its_sign(on_gpu, forge, sign):
    run = forge(on_gpu[1])
    given = opened(bundle_of(run, "", seeds_of(run)))
    checks = (devices.device, devices.speed, clocks.ticks)
    assert sign in {one.kind for check in checks for one in check(given) if isinstance(one, Sign)}


# --- what can't be checked -------------------------------------------------------------------------------------------


def test_contenders_of_a_contributor_s_own_file_are_listed_and_never_imported(honest):
    def renamed(case):
        return replace(case, implementation="mine") if case.contender == FAST else case

    run = replace(
        honest.run,
        panels=tuple(replace(panel, cases=tuple(map(renamed, panel.cases))) for panel in honest.run.panels),
        records=tuple(replace(record, case=renamed(record.case)) for record in honest.run.records),
    )
    found = verify(submission(honest, run), within_seconds=0)
    assert not {"counts", "traffic", "memory"} & kinds(found), told(found)
    assert "declared by a file of the contributor's" in {one.why for one in found.unchecked}


def test_without_time_definitions_are_left_and_it_is_said(honest):
    found = verify(honest, within_seconds=0)
    assert found.status == "partly checked"
    assert "--within 0 s had passed" in {one.why for one in found.unchecked}


def test_a_run_document_alone_has_neither_figures_nor_seeds_beside_it(honest, tmp_path):
    (tmp_path / "run.json").write_bytes(honest.document)
    found = verify(open_bundle(tmp_path / "run.json"), within_seconds=0)
    assert found.signs == ()
    assert {"statistics beside the document", "proof seeds", "log"} <= {one.what for one in found.unchecked}


def test_a_document_with_impossible_dimensions_is_no_fault_of_opbench(honest):
    def huge(case):
        return replace(case, dims={**case.dims, "C": 2**40, "H": 2**40, "W": 2**40})

    run = replace(
        honest.run,
        panels=tuple(replace(panel, cases=tuple(map(huge, panel.cases))) for panel in honest.run.panels),
        records=tuple(replace(record, case=huge(record.case)) for record in honest.run.records),
    )
    found = verify(submission(honest, run))
    assert "counts" in kinds(found)
    assert any("GiB" in one.why or "evaluated" in one.why for one in found.unchecked)


def test_a_bundle_of_another_document_than_its_manifest_names_is_refused(honest):
    files = files_of(honest_bundle())
    files[DOCUMENT] = documents.render(replace(honest.run, command="another"))
    with pytest.raises(OpbenchError, match="SHA-256"):
        opened(packed(files))
