"""The summary in the terminal."""

import io

from factory import make_case, make_failure, make_record, make_run
from hostile import make_hostile_run
from rich.console import Console

from opbench.report.terminal import summary


def printed(run, width=140):
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    console.print(summary(run))
    return console.file.getvalue()


def test_every_contender_of_every_panel_is_printed_with_its_ratio():
    text = printed(make_run())
    assert "upsample2x/neck-20/float32/cpu/training" in text
    assert text.count("carafe[shift-add]") == 6
    assert "6.09x [6.07, 6.12]" in text
    assert "59 cases: 54 ok, 1 incorrect, 4 out-of-memory; 1 skipped" in text


def test_a_failure_is_a_row_with_its_name():
    text = printed(make_run([make_record(make_case()), make_failure(make_case("x[y]"), "timed-out", "60 s passed")]))
    assert "timed-out: 60 s passed" in text


def test_only_what_is_not_correct_is_bold():
    console = Console(file=io.StringIO(), width=140, force_terminal=True, color_system="standard")
    console.print(summary(make_run([make_record(make_case()), make_failure(make_case("x[y]"), "raised", "no")])))
    text = console.file.getvalue()
    assert "\x1b[1mraised: no" in text
    assert "\x1b[1mcorrect" not in text


def test_a_narrow_terminal_loses_no_digit():
    text = printed(make_run([make_record(make_case()), make_record(make_case("carafe[cpu]"), ratio=3.0)]), width=60)
    assert "…" not in text


def test_hostile_text_is_printed_not_obeyed():
    text = printed(make_hostile_run())
    assert "\x1b[31m" not in text
    assert "\x07" not in text


def test_a_terminal_escape_is_printed_as_its_code():
    assert "\\x1b[31mred" in printed(make_run([make_failure(make_case(), message="\x1b[31mred")]))


def test_square_brackets_are_no_markup():
    assert "[red]" in printed(make_run([make_record(make_case("x[red]"))]))


def test_an_empty_run_says_that_nothing_was_planned():
    assert "0 cases: none planned" in printed(make_run([]))
