"""A table in a terminal of any width: what folds, what is shortened, what never is."""

import io
import re

import pytest
from rich.console import Console

from opbench.report.fitted import TableColumn, fitting, folded, shortened
from opbench.report.table import Table

REASON = "the dtype bfloat16 is computed by no instruction of this processor, so that it would be emulated in float32"
TABLE = Table(
    ("contender", "latency vs baseline", "parameters", "peak memory", "saved for backward", "outcome"),
    (
        ("upsample2x/nearest[torch]", "baseline", "0", "1.56 MiB", "0 B", "correct"),
        ("yolo-carafe[shift-add]/k_enc=5/spread=0.5px", "7.07x [6.56, 7.38]", "74,148", "34.0 MiB", "12.1 MiB", REASON),
    ),
    title="upsample2x/a-workload-with-a-long-name-of-its-own-that-says-everything/float32/cpu/inference",
    numbers=(1, 2, 3, 4),
)


def printed(table, width):
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    console.print(table.rich())
    return console.file.getvalue()


@pytest.mark.parametrize("width", [60, 80, 100, 160])
def test_a_table_is_no_wider_than_the_terminal(width):
    assert max(map(len, printed(TABLE, width).splitlines())) <= width


@pytest.mark.parametrize("width", [40, 60, 80, 160])
def test_an_interval_and_a_unit_stay_on_their_line(width):
    lines = printed(TABLE, width).splitlines()
    for whole in ("7.07x [6.56, 7.38]", "34.0 MiB", "12.1 MiB", "74,148"):
        assert any(whole in line for line in lines), whole


@pytest.mark.parametrize("width", [40, 60, 80, 160])
def test_a_reason_is_never_cut(width):
    shown = printed(TABLE, width)
    for word in REASON.split():
        assert word in shown, word


def test_a_terminal_of_a_few_columns_loses_no_digit():
    shown = re.sub(r"\s", "", printed(TABLE, 20))
    assert "7.07x[6.56,7.38]" in shown
    assert "74,148" in shown


def test_an_id_is_shortened_in_its_middle():
    shown = printed(TABLE, 80)
    assert "upsample2x/a-wor" in shown
    assert "float32/cpu/inference" in shown
    assert "yolo-carafe" in shown
    assert "…" in shown
    assert "…" not in printed(TABLE, 200)


def test_what_does_not_fit_beside_is_shown_below_with_the_first_column():
    shown = printed(TABLE, 60)
    assert shown.count("contender") > 1
    assert shown.index("7.07x") < shown.index("12.1 MiB")


def test_a_sentence_in_a_column_of_names_is_folded_and_not_shortened():
    shown = printed(Table(("place", "why"), ((REASON, REASON),)), 60)
    assert "…" not in shown


@pytest.mark.parametrize(
    ("text", "room", "lines"),
    [
        ("", 5, [""]),
        ("one two three", 7, ["one two", "three"]),
        ("1.02x [1.00, 1.04] of it", 8, ["1.02x [1.00, 1.04]", "of it"]),
        ("it keeps 34.0 MiB alive", 10, ["it keeps", "34.0 MiB", "alive"]),
        ("-1.2 % [-2.0, 0.1] less", 6, ["-1.2 % [-2.0, 0.1]", "less"]),
        ("abcdefgh", 3, ["abc", "def", "gh"]),
        ("两个处理器", 4, ["两个", "处理", "器"]),
    ],
)
def test_a_line_is_folded_between_words(text, room, lines):
    assert folded(text, room) == lines


@pytest.mark.parametrize("room", range(3, 40))
def test_what_is_shortened_fits_and_keeps_both_ends(room):
    text = "dcnv3_core/yolov8n-c2f-p4/float32/cpu"
    shown = shortened(text, room)
    assert len(shown) == min(room, len(text))
    assert text.endswith(shown.rpartition("…")[2])
    assert text.startswith(shown.partition("…")[0])


def test_numbers_are_the_last_to_give_way():
    columns = [
        TableColumn("identifier", 60, 16),
        TableColumn("number", 20, 20),
        TableColumn("sentence", 90, 14),
    ]
    assert fitting(columns, 200) == [60, 20, 90]
    assert fitting(columns, 110) == [60, 20, 30]
    assert fitting(columns, 80) == [32, 20, 28]
    assert fitting(columns, 66) == [30, 20, 16]
    assert fitting(columns, 40) == [16, 20, 14]  # ten too wide: nothing that is left may be cut
