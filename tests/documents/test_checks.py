"""A document may come from anybody: what it says of its numbers and of itself is checked when it is read."""

import json
import shutil
from pathlib import Path

import msgspec
import pytest
from factory import make_case, make_environment, make_failure, make_record, make_run, make_selfcheck, make_verdict

from opbench import documents
from opbench.analyse.history.digest import digest
from opbench.documents.checks.numbers import EXCEPTIONS
from opbench.documents.kinds import KINDS
from opbench.schema import OpbenchError, Run

HERE = Path(__file__).parent
RESULTS = HERE.parent.parent / "results"


def raw_run():
    records = [make_record(make_case(name)) for name in ("nearest[torch]", "carafe[cpu]")]
    return json.loads(documents.render(make_run(records)))


def raw_digest():
    run = documents.parse(json.dumps(raw_run()).encode(), Run)
    return json.loads(documents.render(digest(run, b"")))


def raw_study():
    training = {"contender": "a", "purpose": "scored", "rate": 0.1, "seed": 1, "losses": [1.0], "scores": {"iou": 1.0}}
    study = {
        "name": "conv", "title": "t", "question": "q", "task": "conv3x3", "baseline": "a", "data": "d", "network": "n",
        "slots": 1, "steps": 1, "batch": 1, "schedule": "s", "rates": [0.1], "search_seed": 0, "seeds": [1],
        "metrics": [{"name": "iou", "title": "IoU", "unit": "%", "places": 1}], "loss_title": "loss",
        "contenders": [{
            "name": "a", "operator": "o", "implementation": "i", "dims": {}, "params": 1, "slot_params": 1, "macs": 1,
            "slot_macs": 1,
        }],
        "planned": 2, "trainings": [training, {**training, "purpose": "search"}],
    }  # fmt: skip
    return {
        "kind": "study", "schema_version": 1, "environment": msgspec.to_builtins(make_environment()), "command": "c",
        "started": "2026-01-01", "wall_seconds": 1.0, "quick": False, "studies": [study],
    }  # fmt: skip


def raw_selfcheck():
    return json.loads(documents.render(make_selfcheck()))


def changed(raw, path, value):
    """The document with the value at `path`, as in `records.0.outcome`."""
    *inside, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    held = raw
    for part in inside:
        held = held[part]
    held[last] = value
    return json.dumps(raw).encode()


VALID = {"run": raw_run, "digest": raw_digest, "study": raw_study, "selfcheck": raw_selfcheck}
HUGE = 10**80


@pytest.mark.parametrize("kind", VALID)
def test_what_the_cases_change_is_valid_before(kind):
    documents.parse(json.dumps(VALID[kind]()).encode())


@pytest.mark.parametrize(
    ("kind", "path", "value", "expected"),
    [
        ("run", "records.0.memory.peak_bytes", HUGE, "an integer of more than 64 bits - at `$.records[0].memory.peak"),
        ("run", "records.0.case.dims", {"N": HUGE}, "an integer of more than 64 bits"),
        ("run", "records.1.counts.params", -1, "-1, expected finite, and 0 or more - at `$.records[1].counts.params`"),
        ("run", "wall_seconds", "Infinity", "inf, expected finite, and 0 or more - at `$.wall_seconds`"),
        ("run", "wall_seconds", "12.5", "expected `float`, got `str` - at `$.wall_seconds`"),
        ("run", "records.0.latencies.0.samples_seconds.0.3", "0.001", "expected `float`, got `str` - at `$.records[0]"),
        ("run", "records.0.latencies.0.samples_seconds.0.3", 0.0, "0.0, expected a time, or NaN where one was"),
        ("run", "records.0.latencies.0.samples_seconds.0.3", -0.001, "-0.001, expected a time"),
        ("run", "records.0.latencies.0.samples_seconds.0.3", "Infinity", "inf, expected a time"),
        ("run", "records.0.latencies.0.calls_per_sample", 0, "0, expected 1 or more"),
        ("run", "records.0.latencies.0.left_out", [[99]], "a round that the samples don't have"),
        ("run", "records.0.latencies.0.left_out", [[], []], "of 2 processes, expected 1"),
        ("run", "records.0.latencies.0.waited", [[1]], "not laid out as the samples are"),
        ("run", "records.0.verdict.correct", False, "not correct, beside the outcome ok - at `$.records[0].verdict`"),
        ("run", "records.0.final_verdict.correct", False, "not correct, beside the outcome ok"),
        ("run", "records.0.verdict.worst_ratio", 100.0, "correct, beside an error beyond its bound"),
        ("run", "records.0.verdict.sampled", 1, "expected `bool`, got `int` - at `$.records[0].verdict.sampled`"),
        ("run", "records.0.verdict.judged", "5", "expected `int`, got `str` - at `$.records[0].verdict.judged`"),
        ("run", "records.0.verdict.worst_ratio", -1.0, "-1.0, expected 0 or more"),
        ("run", "records.1.case", msgspec.to_builtins(make_case()), "a case that has a record already"),
        ("run", "records.1.case.dims.C", 1, "not the case that was planned under this id"),
        ("run", "panels.0.cases.1.dims.C", 1, "other dimensions than the panel's first case has"),
        ("run", "panels.0.cases.1.workload", "small", "a case of another panel"),
        ("run", "panels.0.id", "another", "a case of another panel"),
        ("run", "yardsticks.0.samples", [-1.0], "-1.0, expected more than 0"),
        ("run", "environment.cores", -2, "-2, expected finite, and 0 or more"),
        ("digest", "entries.0.timings.0.latency.median_seconds", "NaN", "nan, expected more than 0"),
        ("digest", "entries.0.timings.0.latency.median_seconds", 1e9, "quartiles out of order"),
        ("digest", "entries.0.timings.0.ratio.value", 1e-9, "outside its own interval"),
        ("digest", "entries.0.timings.0.ratio.value", 0, "0.0, expected more than 0"),
        ("digest", "entries.0.outcome", "crashed", "figures beside the outcome crashed"),
        ("digest", "entries.0.worst_ratio", 2.0, "an error beyond its bound, beside the outcome ok"),
        ("digest", "entries.0.macs", HUGE, "an integer of more than 64 bits"),
        ("digest", "sha256", "../../etc", "not a SHA-256"),
        ("study", "studies.0.metrics.0.places", HUGE, "an integer of more than 64 bits"),
        ("study", "studies.0.metrics.0.places", 4096, "4096, expected 0 to 12"),
        ("study", "studies.0.metrics.0.name", "{0}", "no score of '{0}' - at `$.studies[0].trainings[0].scores`"),
        ("study", "studies.0.metrics", [], "none at all - at `$.studies[0].metrics`"),
        ("study", "studies.0.rates", [], "none at all - at `$.studies[0].rates`"),
        ("study", "studies.0.baseline", "b", "none of the contenders"),
        ("study", "studies.0.trainings.0.contender", "b", "none of the contenders"),
        ("study", "studies.0.trainings.0.purpose", "search", "a training that stood before"),
        ("study", "studies.0.planned", 1, "2 of them, 1 were planned"),
        ("selfcheck", "trials.0.first_nanoseconds.0", 0, "0, expected more than 0 - at `$.trials[0].first_nanoseconds"),
        ("selfcheck", "trials.0.first_nanoseconds", [], "no round at all"),
        ("selfcheck", "trials.0.second_nanoseconds", [5], "1 rounds, expected"),
        ("selfcheck", "trials.0.interrupted", [10**6], "a round that the samples don't have"),
        ("selfcheck", "trials.0.effect", -1.0, "-1.0, expected more than -1"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_with_its_place(kind, path, value, expected):
    with pytest.raises(OpbenchError) as caught:
        documents.parse(changed(VALID[kind](), path, value))
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["records", "kind", "wall_seconds"])
def test_a_key_that_stands_twice_is_refused(name):
    data = json.dumps(raw_run())
    for again in (f'"{name}": 1', f'"{name}" : 1', f'"\\u{ord(name[0]):04x}{name[1:]}": 1'):
        with pytest.raises(OpbenchError, match=f"the key '{name}' stands twice"):
            documents.parse(f"{{{again}, {data[1:]}".encode(), Run)


@pytest.mark.parametrize("inside", ['"outcome": "ok"', '"case": ', '"macs": 1000'])
def test_a_key_that_stands_twice_within_a_record_is_refused(inside):
    data = json.dumps(raw_run())
    name = inside.partition(":")[0]
    assert inside in data
    with pytest.raises(OpbenchError, match=f"the key .{name[1:-1]}. stands twice"):
        documents.parse(data.replace(inside, f"{name}: 1, {inside}", 1).encode(), Run)


def test_a_key_in_a_text_is_no_key():
    noun = make_run([make_failure(message='{"a":1,"a":2} "b" : "c":')])
    assert documents.parse(documents.render(noun)) == noun


def test_a_byte_order_mark_is_passed_over_and_utf_16_is_named():
    data = json.dumps(raw_run())
    assert documents.parse(b"\xef\xbb\xbf" + data.encode()) == documents.parse(data.encode())
    with pytest.raises(OpbenchError, match="UTF-16 text, by its byte order mark"):
        documents.parse(data.encode("utf-16"), Run)


@pytest.mark.parametrize("holds", sorted({rule for rule, _ in EXCEPTIONS.values()}, key=lambda rule: rule.__qualname__))
def test_a_rule_that_takes_two_numbers_takes_all_between_them(holds):
    ends = (-(2.0**70), -3.0, -1.0, -0.5, 0.0, 1e-9, 0.5, 1.0, 12.0, 13.0, 1e30)
    for place, low in enumerate(ends):
        for high in ends[place:]:
            if holds(low) and holds(high):
                assert all(holds(value) for value in ends if low <= value <= high)


@pytest.mark.parametrize("bad", [0.0, -1.0, float("inf")])
def test_one_number_among_many_is_found(bad):
    samples = [1e-3] * 60
    samples[17] = bad
    path = "records.0.latencies.0.samples_seconds"
    documents.parse(changed(raw_run(), path, [[1e-3] * 60]))
    documents.parse(changed(raw_run(), path, [[*[1e-3] * 59, "NaN"]]))
    said = "Infinity" if bad == float("inf") else bad
    samples[17] = said
    with pytest.raises(OpbenchError, match=r"samples_seconds\[0\]\[17\]"):
        documents.parse(changed(raw_run(), path, [samples]))


def test_each_exception_names_a_field_of_a_document():
    nouns, seen = [kind.type() for kind in KINDS.values()], set()
    while nouns:
        noun = nouns.pop()
        if noun in seen:
            continue
        seen.add(noun)
        for field in msgspec.structs.fields(noun):
            nouns += [part for part in parts(field.type) if isinstance(part, type) and issubclass(part, msgspec.Struct)]
    known = {f"{noun.__name__}.{name}" for noun in seen for name in noun.__struct_fields__}
    assert set(EXCEPTIONS) <= known


def parts(type_):
    """A type and those in it."""
    yield type_
    for inside in getattr(type_, "__args__", ()):
        yield from parts(inside)


def test_infinity_where_a_figure_may_be_that_is_read():
    case = make_case("carafe[cpu]")
    wrong = make_failure(case, "incorrect", verdict=make_verdict(correct=False, worst_ratio=float("inf")))
    run = make_run([make_record(), wrong])
    assert documents.parse(documents.render(run)) == run


def test_one_bad_document_of_a_folder_is_listed_and_the_rest_shown(tmp_path):
    from opbench.analyse.history.store import read

    shutil.copy(RESULTS / "xeon-2core" / "models" / "run.json", tmp_path / "good.json")
    (tmp_path / "bad.json").write_bytes(changed(raw_run(), "records.0.memory.peak_bytes", HUGE))
    (tmp_path / "bad.digest.json").write_bytes(changed(raw_digest(), "entries.0.macs", -1))
    store = read(tmp_path)
    assert [one.path for one in store.runs] == ["good.json"]
    assert [problem.path for problem in store.problems] == ["bad.digest.json", "bad.json"]
    assert "an integer of more than 64 bits" in store.problems[1].sentence
