"""A run's own quality, in one line."""

from factory import make_case, make_latency, make_record, make_run

from opbench.analyse.quality import quality, sentence
from opbench.report import markdown, terminal


def watched(phase, left_out):
    return make_latency(rounds=10, waited=((0,) * 10,), left_out=(left_out,), phase=phase)


RUN = make_run(
    [
        make_record(make_case(), latencies=(watched("clear", (0,)),)),
        make_record(make_case("bilinear[torch]"), latencies=(watched("shared", (0, 1, 2)),)),
        make_record(make_case("bicubic[torch]"), outcome="disturbed", latencies=()),
    ]
)
SAID = (
    "Quality: 20% of 20 samples left out (a core was waited for, or the machine was in another phase); "
    "1 of 2 figures are of a machine that others shared; 1 case disturbed, without a figure: other "
    "processes had the cores; use --threads auto, another hour, or --share-cpu to let such rounds count."
)


def test_what_was_left_out_and_what_is_missing_is_one_line():
    assert sentence(quality(RUN)) == SAID


def test_it_stands_in_the_report_and_in_the_terminal():
    assert SAID in terminal.closing(RUN)
    assert SAID.split("; ")[1] in markdown.report(RUN)[markdown.REPORT].decode()


def test_a_run_that_nobody_watched_says_nothing_of_it():
    assert sentence(quality(make_run([make_record()]))) == ""
