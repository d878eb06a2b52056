"""Generated tables inside a README."""

import pytest
from factory import make_case, make_failure, make_record, make_run, make_selfcheck

from opbench.analyse.power import save_selfcheck
from opbench.report import readme
from opbench.report.tables import Table
from opbench.schema import OpbenchError

NAME = "results/desk/run.json#upsample2x/yolov8n-p5"


def marked(name=NAME, inside="old numbers"):
    return f"# Title\n\n<!-- opbench:{name} -->\n{inside}\n<!-- /opbench:{name} -->\n\nEnd.\n"


def run_of_both_modes():
    return make_run(
        make_record(make_case(contender, mode=mode), ratio=ratio)
        for mode in ("inference", "training")
        for contender, ratio in (("nearest[torch]", 1.0), ("carafe[cpu]", 3.0))
    )


def test_a_marked_table_is_replaced_and_nothing_else():
    text = readme.insert(marked(), NAME, run_of_both_modes())
    assert text.startswith(f"# Title\n\n<!-- opbench:{NAME} -->\n")
    assert text.endswith(f"<!-- /opbench:{NAME} -->\n\nEnd.\n")
    assert "old numbers" not in text
    header = (
        "| contender | CPU inference latency vs baseline | CPU training latency vs baseline | params | MACs / FLOPs"
    )
    assert header in text
    assert "| 1.00 M / 2.00 M |" in text
    assert "1 MAC = 2 FLOPs" in text
    assert "Example CPU @ 2.10GHz" in text


def test_a_second_time_changes_nothing():
    once = readme.insert(marked(), NAME, run_of_both_modes())
    assert readme.insert(once, NAME, run_of_both_modes()) == once


def test_every_marker_is_updated_from_the_document_it_names():
    other = "other.json"
    opened = []

    def load(path):
        opened.append(path)
        return run_of_both_modes()

    text = readme.update(marked() + marked(other), load)
    assert opened == ["results/desk/run.json", "other.json"]
    assert "old numbers" not in text
    assert readme.names(text) == (NAME, other)


def test_a_selfcheck_gives_one_sentence(tmp_path):
    path = tmp_path / "selfcheck.json"
    save_selfcheck(make_selfcheck(), path)
    text = readme.update(marked("selfcheck.json"), lambda name: readme.document(tmp_path / name))
    assert "old numbers" not in text
    assert "Selfcheck of this machine (" in text


def test_a_table_of_ones_own_is_inserted_as_it_is():
    assert "| `x` | 1 |" in readme.insert(marked("mine"), "mine", Table(("a", "b"), (("x", "1"),), note="A note."))


def test_a_failure_keeps_its_name():
    records = [make_record(make_case()), make_failure(make_case("carafe[cpu]"), "out-of-memory")]
    assert "| `carafe[cpu]` | out-of-memory |" in readme.insert(marked(), NAME, make_run(records))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nothing here", r"expected <!-- opbench:.* --> once, found it 0 times \(tables here: none\)"),
        (marked("other"), r"tables here: other"),
        (marked().replace("<!-- /", "<!-- "), r"found it 2 times"),
        (marked().replace(f"<!-- /opbench:{NAME} -->", ""), r"expected <!-- /opbench:.* --> once, found it 0 times"),
        (marked() + marked(), r"found it 2 times"),
        (f"<!-- /opbench:{NAME} --><!-- opbench:{NAME} -->", r"stands before .*; swap them"),
    ],
)
def test_missing_doubled_and_swapped_markers_are_errors(text, message):
    with pytest.raises(OpbenchError, match=message):
        readme.insert(text, NAME, run_of_both_modes())


def test_a_selection_of_nothing_names_what_there_is():
    name = "run.json#upsample2x/yolov8n-p6"
    with pytest.raises(OpbenchError, match=r"did you mean 'upsample2x/yolov8n-p5/float32/cpu'\?"):
        readme.insert(marked(name), name, run_of_both_modes())


def test_a_selection_matches_whole_names_only():
    name = "run.json#upsample2x/yolov8n"
    with pytest.raises(OpbenchError):
        readme.insert(marked(name), name, run_of_both_modes())
