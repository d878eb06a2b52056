"""A run's own quality, in one line."""

import math

from factory import make_case, make_environment, make_latency, make_record, make_run
from msgspec.structs import replace

from opbench.analyse.compare.runs import compare
from opbench.analyse.quality import quality, sentence
from opbench.analyse.standings import standings
from opbench.report import markdown, terminal
from opbench.schema import ProbedPanel


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
    assert SAID in terminal.closing(RUN, standings(RUN))
    assert SAID.split("; ")[1] in markdown.report(RUN)[markdown.REPORT].decode()


def test_a_run_that_nobody_watched_says_nothing_of_it():
    assert sentence(quality(make_run([make_record()]))) == ""


def probed(process, *integers):
    return ProbedPanel("panel", process, integers, (100,) * len(integers), (100,) * len(integers))


# Ten rounds of a clear machine, then, at another visit, ten of one whose core somebody else has a part of.
VISITED = replace(
    RUN,
    settings=replace(RUN.settings, replicas=2),
    probes=(probed(0, *[1000] * 10), probed(1, *[1400] * 10)),
    environment=make_environment(details={"selfcheck": "6 days before this run: Selfcheck of this machine: 0 of 500."}),
)


def test_how_much_of_the_time_was_clear_is_told_by_the_best_of_the_whole_run():
    found = quality(VISITED)
    assert found.clear_share == 0.5
    assert math.isnan(quality(RUN).clear_share)
    said = sentence(found)
    assert "the machine was clear in 50% of all rounds; 2 visits of each panel" in said
    assert said.endswith("; selfcheck 6 days before this run: Selfcheck of this machine: 0 of 500.")


def test_a_machine_without_a_selfcheck_is_said_to_have_none():
    alone = replace(RUN, environment=make_environment(details={"selfcheck": "none"}))
    assert sentence(quality(alone)).endswith("; no selfcheck says what this machine can tell apart.")


def test_a_comparison_says_the_quality_of_both_runs():
    notes = compare(RUN, VISITED).notes
    assert f"base: {SAID}" in notes
    assert f"head: {sentence(quality(VISITED))}" in notes
