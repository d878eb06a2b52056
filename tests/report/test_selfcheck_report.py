"""A selfcheck as a table and a chart."""

from factory import make_selfcheck

from opbench.report.selfcheck import HEADINGS, chart, markdown


def test_every_method_effect_and_load_has_a_row():
    rows = [row for row in markdown(make_selfcheck()).splitlines() if row.startswith("| ")]
    assert rows[0] == f"| {' | '.join(HEADINGS)} |"
    assert len(rows) - 2 == 2 * 4 * 3
    assert any("identical | both | 0 of 10 (0.0 %)" in row for row in rows)


def test_it_says_what_the_machine_finds_and_how_far_processes_differ():
    text = markdown(make_selfcheck())
    assert "Smallest slow-down that is found 9 times in 10, quiet" in text
    assert "From process to process the ratio of two contenders moves by 1." in text
    assert "opbench selfcheck -o DIR" in text


def test_the_same_document_gives_the_same_bytes():
    assert markdown(make_selfcheck()) == markdown(make_selfcheck())
    assert chart(make_selfcheck()) == chart(make_selfcheck())


def test_the_chart_shows_quiet_and_loaded_trials():
    picture = chart(make_selfcheck())
    assert picture.startswith("<svg")
    assert "one core loaded" in picture
    assert "rival" in picture
