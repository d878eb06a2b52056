"""Targets, roofline fractions and errors in the report, in the terminal and in a README."""

import io

import pytest
from factory import (
    make_case,
    make_counts,
    make_failure,
    make_latency,
    make_memory,
    make_record,
    make_run,
    make_verdict,
)
from hostile import EVIL, make_hostile_run
from rich.console import Console

from opbench import documents
from opbench.analyse.standings import standings
from opbench.report import limits, markdown, readme
from opbench.report.targets import targets
from opbench.report.terminal import summary
from opbench.schema import FirstCall, OpbenchError, Target

BASE, FAST = make_case(), make_case("carafe[cpu]")
PLACE = {"task": "upsample2x", "workload": "yolov8n-p5", "contender": "carafe[cpu]"}


def small_run(**changes):
    records = [
        make_record(BASE, latencies=(make_latency(1.0, noise=0.0, drift=0.0),)),
        make_record(FAST, latencies=(make_latency(0.05, noise=0.0, drift=0.0),), memory=make_memory(held_bytes=None)),
    ]
    fields = {
        "targets": (
            Target(quantity="speed-up", **PLACE, at_least=10.0),
            Target(quantity="first-call-cold", **PLACE, at_most=0.5),
            Target(quantity="memory", **PLACE, at_most=1.1),
        ),
        "first_calls": (FirstCall(FAST.id, (1.0, 2.0, 3.0), (0.1,)),),
    }
    return make_run(records, **{**fields, **changes})


def test_a_target_is_a_row_with_what_was_wanted_measured_and_whether_it_is_met():
    rows = targets(small_run()).rows
    panel = "upsample2x/yolov8n-p5/float32/cpu/inference"
    assert rows == (
        (panel, "carafe[cpu]", "times as fast as nearest[torch]", "at least 10.0x", "20.0x", "met"),
        (panel, "carafe[cpu]", "first call, nothing compiled", "at most 500 ms", "2.00 s [1.00 s, 3.00 s]", "missed"),
        (
            panel,
            "carafe[cpu]",
            "inputs, parameters and peak over the least bytes",
            "at most 1.10x",
            "memory was not measured",
            "not measured",
        ),
    )


def test_the_report_opens_with_the_targets_where_a_run_has_any():
    text = markdown.report(small_run())["report.md"].decode()
    assert text.index("## Targets") < text.index("## upsample2x, against")
    assert "| 2.00 s [1.00 s, 3.00 s] | missed |" in text
    assert "## Targets" not in markdown.report(small_run(targets=()))["report.md"].decode()


def test_the_report_of_a_document_read_back_is_the_same_bytes():
    run = small_run()
    assert markdown.report(documents.parse(documents.render(run))) == markdown.report(run)


def test_the_terminal_prints_the_targets():
    console = Console(file=io.StringIO(), width=160)
    console.print(summary(small_run()))
    printed = console.file.getvalue()
    assert "times as fast as nearest[torch]" in printed
    assert "20.0x" in printed


def test_hostile_targets_stay_inert():
    target = Target("speed-up", EVIL, EVIL, EVIL, EVIL, at_least=1.0)
    fields = {"targets": (target,), "first_calls": (FirstCall(EVIL, (), (), EVIL),)}
    run = make_run([make_record(BASE)], **fields)
    text = markdown.report(run)["report.md"].decode()
    assert "<script>" not in text
    assert "\x1b" not in text
    assert markdown.report(make_hostile_run())


def test_every_panel_has_its_roofline_fractions_and_errors_side_by_side():
    training = make_case("carafe[cpu]", mode="training")
    counts = make_counts(5 * 10**9, min_bytes=10**9)  # 100 ms at 50 GMAC/s, 71 ms at 14.1 GB/s
    records = [
        make_record(BASE),
        make_record(
            FAST,
            counts=counts,
            latencies=(make_latency(0.2, noise=0.0, drift=0.0),),
            verdict=make_verdict(max_error=0.3, rms_error=0.125),
            final_verdict=make_verdict(max_error=0.41, rms_error=0.08),
        ),
        make_record(training, counts=counts, latencies=(make_latency(0.2, noise=0.0, drift=0.0),)),
        make_failure(make_case(mode="training"), "out-of-memory"),
    ]
    run = make_run(records)
    ((task, fractions, errors),) = limits.across(standings(run), run)
    assert task == "upsample2x"
    assert fractions.header == ("panel", "nearest[torch]", "carafe[cpu]")
    by_panel = {row[0]: row[1:] for row in fractions.rows}
    assert by_panel["yolov8n-p5/float32/cpu/inference"][1] == "50 %"
    # Backward moves at least as much again: 2 GB at 14.1 GB/s is 142 ms.
    assert by_panel["yolov8n-p5/float32/cpu/training"] == ("out-of-memory", "71 %")
    assert dict(zip(errors.header, errors.rows[0], strict=True))["carafe[cpu]"] == "0.410, RMS 0.125"
    assert errors.rows[1][1] == "out-of-memory"


def test_a_readme_shows_targets_and_the_fastest_contenders():
    run = small_run()
    name = "run.json?targets"
    text = readme.insert(f"<!-- opbench:{name} -->\n<!-- /opbench:{name} -->", name, run)
    assert "| at least 10.0x | 20.0x | met |" in text
    name = "run.json?fastest#upsample2x"
    text = readme.update(f"<!-- opbench:{name} -->\n<!-- /opbench:{name} -->", {"run.json": run}.__getitem__)
    assert "| `upsample2x` | `yolov8n-p5, float32` | `nearest[torch]` | CPU | carafe[cpu] 0.0500x" in text
    assert "| not planned |" in text
    assert "Example CPU @ 2.10GHz" in text


def test_an_unknown_view_names_the_known_ones():
    name = "run.json?fastes"
    with pytest.raises(OpbenchError, match=r"did you mean 'fastest'\? \(known: answer, claims, fastest, targets\)"):
        readme.insert(f"<!-- opbench:{name} -->\n<!-- /opbench:{name} -->", name, small_run())
