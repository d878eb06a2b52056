"""A comparison as text: terminal, pull request, JSON."""

import io

import msgspec
from factory import make_case, make_counts, make_latency, make_memory, make_record, make_run
from hostile import EVIL, make_hostile_run
from rich.console import Console

from opbench.analyse.compare.nouns import Comparison
from opbench.analyse.compare.runs import compare
from opbench.documents import decode, encode
from opbench.report.comparison import _ORDER, lines, markdown, summary, tally
from opbench.statistics.change import DECISIONS


def run(seed, **ratios):
    cases = [make_case(), *(make_case(f"{name}[cpu]") for name in ratios)]
    return make_run(
        [
            make_record(case, latencies=(make_latency(ratio=ratio, seed=f"{case.id}/{seed}", processes=4, rounds=30),))
            for case, ratio in zip(cases, (1.0, *ratios.values()), strict=True)
        ]
    )


def example():
    head = run(2, slow=3.6, fast=2.0, still=3.0)
    larger = msgspec.structs.replace(head.records[3], memory=make_memory(peak_bytes=(1 << 20) + 4))
    return compare(
        run(1, slow=3.0, fast=3.0, still=3.0), msgspec.structs.replace(head, records=(*head.records[:3], larger))
    )


def printed(comparison, width=160):
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    console.print(summary(comparison))
    return console.file.getvalue()


def test_bad_news_comes_first():
    verdicts = [line.verdict for line in lines(example())]
    assert verdicts == ["regressed", "regressed", "improved", "same"]


def test_the_verdict_stands_in_one_line():
    assert tally(example()) == "REGRESSED: 2 regressed, 1 improved, 1 same; 3 of 4 cases exactly as before"
    assert tally(compare(run(1), run(2))).startswith("no regression: nothing timed")


def test_the_terminal_lists_changes_and_counts_what_stayed():
    text = printed(example())
    assert "+20." in text
    assert "1,048,576 -> 1,048,580" in text
    assert "still[cpu]" in text, "for its memory"
    assert text.count("still[cpu]") == 1
    assert "REGRESSED" in text.splitlines()[-1]


def test_markdown_has_the_verdict_as_its_heading_and_a_row_per_change():
    text = markdown(example())
    assert text.startswith("### opbench: REGRESSED")
    rows = [row for row in text.splitlines() if row.startswith("| `")]
    assert len(rows) == 3
    assert "**regressed**" in rows[0]
    assert all(row.count(" | ") == 5 for row in rows)


def test_undecided_rows_are_folded_away_in_markdown():
    loud = make_latency(ratio=3.2, seed="loud", processes=3, rounds=8, noise=0.5)
    head = run(2, slow=3.0)
    head = msgspec.structs.replace(
        head, records=(head.records[0], msgspec.structs.replace(head.records[1], latencies=(loud,)))
    )
    text = markdown(compare(run(1, slow=3.0), head))
    assert "<details><summary>undecided: 1</summary>" in text
    assert text.startswith("### opbench: no regression")


def test_json_comes_back_as_the_same_comparison():
    assert decode(encode(example()), Comparison) == example()


def test_hostile_text_stays_text():
    evil = make_hostile_run()
    failing = msgspec.structs.replace(
        evil,
        records=tuple(
            msgspec.structs.replace(record, outcome="raised", message=EVIL) if record.outcome == "ok" else record
            for record in evil.records
        ),
    )
    changed = msgspec.structs.replace(
        evil,
        records=tuple(
            msgspec.structs.replace(record, counts=make_counts(dispatched={EVIL: 1})) if record.counts else record
            for record in evil.records
        ),
    )
    before = msgspec.structs.replace(
        evil,
        records=tuple(
            msgspec.structs.replace(record, counts=make_counts(dispatched={})) if record.counts else record
            for record in evil.records
        ),
    )
    for found in (compare(evil, failing), compare(before, changed), compare(evil, evil)):
        for text in (markdown(found), printed(found)):
            assert "\x1b[31m" not in text
            assert "\x07" not in text
        assert "\n# heading" not in markdown(found)
        assert "\n- item" not in markdown(found)
        for row in markdown(found).splitlines():
            if row.startswith("|"):
                assert "<script>" not in row.replace("\\<", "").replace("`", ""), row


def test_every_decision_has_its_place():
    assert set(DECISIONS) <= set(_ORDER)


def test_many_findings_are_cut_and_counted():
    names = {f"c{index}": 3.0 for index in range(80)}
    base, head = run(1, **names), run(2, **names)
    grown = tuple(msgspec.structs.replace(r, memory=make_memory(peak_bytes=5 << 20)) for r in head.records)
    text = markdown(compare(base, msgspec.structs.replace(head, records=grown)))
    assert sum(row.startswith("| `") for row in text.splitlines()) == 60
    assert "and 21 more findings" in text
