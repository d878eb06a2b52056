"""A selfcheck as a table and a chart."""

from factory import make_layout, make_selfcheck, make_trial

from opbench.report.selfcheck import HEADINGS, chart, markdown
from opbench.schema import BestProbes


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


def test_it_says_the_layout_floor_the_best_probes_and_what_was_disturbed():
    spoilt = make_trial(0.0, 0, interrupted=tuple(range(58)))
    text = markdown(
        make_selfcheck([spoilt], layouts=(make_layout(moved=0.012),), best=BestProbes(1, "", 25e-6, 30e-6, 41e-6))
    )
    assert "by what a call sends through torch's dispatcher: 1 to 3 operations 1.2 % (1)" in text
    assert "integers 25.0 µs, copy 30.0 µs, product 41.0 µs" in text
    assert "1 of 1 trials were disturbed" in text
    assert "Layout floor" not in markdown(make_selfcheck())


def test_the_same_document_gives_the_same_bytes():
    assert markdown(make_selfcheck()) == markdown(make_selfcheck())
    assert chart(make_selfcheck()) == chart(make_selfcheck())


def test_the_chart_shows_quiet_and_loaded_trials():
    picture = chart(make_selfcheck())
    assert picture.startswith("<svg")
    assert "one core loaded" in picture
    assert "rival" in picture
