"""CSV by the csv module, Parquet by pyarrow and by duckdb: the same table, with its types."""

import csv
import io
import math

import msgspec
import pytest
from exported import PANEL, evil_run, one_round_run, small_run, two_methods_run
from factory import make_case, make_failure, make_record, make_run
from hostile import make_hostile_run

from opbench.report.exports import export
from opbench.report.exports.columns import COLUMNS
from opbench.report.exports.comma_separated import comma_separated, harmless
from opbench.report.exports.rows import exported
from opbench.schema import OpbenchError

NAMES = [column.name for column in COLUMNS]


def rows_of(*runs):
    return list(
        csv.DictReader(io.StringIO(comma_separated([exported(run) for run in runs]).decode(), newline=""), strict=True)
    )


def test_csv_has_a_row_a_record_with_numbers_in_the_units_of_their_names():
    rows = {row["contender"]: row for row in rows_of(small_run())}
    assert list(rows) == ["nearest[torch]", "carafe[cpu]", "carafe[mine]"]
    assert float(rows["carafe[cpu]"]["latency_median_seconds"]) == pytest.approx(3e-3, rel=0.1)
    assert float(rows["carafe[cpu]"]["latency_ratio"]) == pytest.approx(3.0, rel=0.02)
    assert rows["carafe[cpu]"]["peak_bytes"] == str(1 << 20)
    assert rows["nearest[torch]"]["is_baseline"] == "true"


def test_a_failure_is_a_row_with_its_outcome_and_empty_figures():
    row = rows_of(small_run())[2]
    assert (row["outcome"], row["message"]) == ("incorrect", "output differs")
    assert {row[name] for name in ("latency_median_seconds", "latency_ratio", "peak_bytes")} == {""}
    assert row["params"] == "0", "counted before it failed"


def test_rows_of_several_runs_stand_below_each_other():
    later = small_run(started="2026-05-06T00:00:00+00:00")
    assert [row["started"][:4] for row in rows_of(small_run(), later)] == ["2025"] * 3 + ["2026"] * 3


def test_cases_that_differ_in_memory_format_or_runtime_alone_are_told_apart():
    cases = (
        make_case("nearest[torch]"),
        make_case("nearest[torch]", memory_format="channels_last"),
        make_case("nearest[torch]", runtime="onnxruntime"),
    )
    rows = rows_of(make_run([make_record(case) for case in cases]))
    assert [(row["runtime"], row["memory_format"]) for row in rows] == [
        ("torch", "contiguous"),
        ("torch", "channels_last"),
        ("onnxruntime", "contiguous"),
    ]


def test_a_record_of_two_timing_methods_has_two_rows():
    rows = rows_of(two_methods_run())
    assert [row["timing_method"] for row in rows] == ["cuda-cold", "cuda-hot"] * 2


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "＝", " =", "\t=", "\r\n@"])
def test_text_never_starts_a_formula(start):
    shown = harmless(f"{start}cmd|' /C calc'!A0")
    assert shown.startswith("'")
    assert not {"\n", "\r", "\t"} & set(shown)


@pytest.mark.parametrize("text", ["a;=1+1", "a; -1", "a;b;@SUM(A1)", "=1;=1"])
def test_no_formula_stands_behind_a_semicolon(text):
    """Where a comma is the decimal point, a spreadsheet begins a cell there."""
    assert not any(part.lstrip().startswith(("=", "+", "-", "@")) for part in harmless(text).split(";"))


@pytest.mark.parametrize("text", ["carafe[cpu]", "", "a=b", "'=quoted by its author", "\u200b=SUM(A1)"])
def test_other_text_is_left_as_it_is_but_for_hidden_characters(text):
    assert harmless(text) == text.replace("\u200b", "\\u200b")


def test_no_cell_of_a_hostile_run_is_a_formula_and_no_number_is_quoted():
    table = list(
        csv.reader(
            io.StringIO(comma_separated([exported(evil_run()), exported(make_hostile_run())]).decode(), newline="")
        )
    )
    for row in table:
        assert len(row) == len(COLUMNS)
        for column, cell in zip(COLUMNS, row, strict=True):
            if column.kind == "text":
                assert not cell.lstrip().startswith(("=", "+", "-", "@"))
    contenders = {row[NAMES.index("operator")] for row in table}
    assert {"'=1+1", "'@SUM(A1)"} <= contenders


def test_a_negative_number_stays_a_number():
    run = small_run()
    verdict = msgspec.structs.replace(run.records[0].verdict, max_error=-0.5)
    records = (msgspec.structs.replace(run.records[0], verdict=verdict), *run.records[1:])
    assert rows_of(msgspec.structs.replace(run, records=records))[0]["max_error_eps"] == "-0.5"


@pytest.fixture(scope="module")
def parquet_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("parquet") / "runs.parquet"
    export([small_run(), evil_run()], "parquet", path)
    return path


def test_pyarrow_reads_the_columns_with_their_types(parquet_file):
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    table = parquet.read_table(parquet_file)
    assert table.column_names == NAMES
    types = {"text": "string", "whole": "int64", "real": "double", "truth": "bool"}
    assert [str(field.type) for field in table.schema] == [types[column.kind] for column in COLUMNS]
    rows = table.to_pylist()
    assert rows[1]["case"] == f"{PANEL}/carafe[cpu]"
    assert rows[1]["latency_ratio"] == pytest.approx(3.0, rel=0.02)
    assert rows[2]["latency_ratio"] is None
    assert rows[3]["operator"] == "=1+1", "a string of Parquet is run by nobody"


def test_duckdb_answers_a_question_from_it(parquet_file):
    duckdb = pytest.importorskip("duckdb", reason="duckdb is not installed")
    found = duckdb.sql(
        f"SELECT contender, latency_ratio FROM '{parquet_file}' "
        "WHERE outcome = 'ok' AND NOT is_baseline AND task = 'upsample2x' AND operator = 'carafe'"
    ).fetchall()
    assert [(name, round(ratio, 1)) for name, ratio in found] == [("carafe[cpu]", 3.0)]


def test_duckdb_reads_the_csv_as_pyarrow_the_parquet(tmp_path):
    duckdb = pytest.importorskip("duckdb", reason="duckdb is not installed")
    for name in ("csv", "parquet"):
        export([small_run()], name, tmp_path / f"out.{name}")
    question = "SELECT sum(latency_median_seconds), count(*), count(latency_ratio), max(peak_bytes) FROM"
    (as_csv,), (as_parquet,) = (
        duckdb.sql(f"{question} '{tmp_path / name}'").fetchall() for name in ("out.csv", "out.parquet")
    )
    assert as_csv == pytest.approx(as_parquet)


def test_infinity_is_a_float_in_both(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    assert math.isinf(float(rows_of(one_round_run())[1]["latency_ratio_high"]))
    export([one_round_run()], "parquet", tmp_path / "out")
    assert math.isinf(parquet.read_table(tmp_path / "out").to_pylist()[1]["latency_ratio_high"])


def test_a_count_that_no_column_holds_is_refused(tmp_path):
    record = make_record(make_case())
    counts = msgspec.structs.replace(record.counts, params=2**70)
    run = make_run([msgspec.structs.replace(record, counts=counts), make_failure(make_case("carafe[mine]"))])
    for name in ("csv", "parquet"):
        with pytest.raises(OpbenchError, match=r"params: .* does not fit into 64 bits"):
            export([run], name, tmp_path / "out")
