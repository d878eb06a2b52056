"""Generated tables inside a README."""

import pytest
from factory import (
    make_case,
    make_counts,
    make_environment,
    make_failure,
    make_latency,
    make_memory,
    make_record,
    make_run,
    make_selfcheck,
)

from opbench.documents import save
from opbench.report import readme
from opbench.report.table import Table
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
    save(make_selfcheck(), path)
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


GPU = "results/desk/run.json+results/gpu/run.json#upsample2x"


def run_on_a_gpu():
    """Both modes by both methods, a contender that the desk lacks, and one that no graph could hold."""
    records = []
    for mode in ("inference", "training"):
        for contender, ratio in (("nearest[torch]", 1.0), ("carafe[triton]", 2.0), ("yolo-carafe[unfold]", 9.0)):
            case = make_case(contender, mode=mode, device="cuda")
            cold, hot = (
                make_latency(ratio=ratio * times, method=method, seed=f"{case.panel_id}{method}")
                for method, times in (("cuda-events-cold", 1.0), ("cuda-graph-hot", 1.5))
            )
            kept = (cold,) if contender.startswith("yolo") else (cold, hot)
            counts = make_counts(params=74_148)
            records.append(
                make_record(case, latencies=kept, counts=counts, memory=make_memory(method="cuda-allocator"))
            )
    return make_run(records, environment=make_environment(gpu="Example GPU"))


def test_a_cpu_s_and_a_gpu_s_run_share_a_table():
    documents = {"results/desk/run.json": run_of_both_modes(), "results/gpu/run.json": run_on_a_gpu()}
    text = readme.update(marked(GPU), documents.__getitem__)
    header = next(line for line in text.splitlines() if line.startswith("| contender"))
    columns = [cell.strip() for cell in header.strip("|").split("|")]
    assert columns[:7] == [
        "contender",
        "CPU inference latency vs baseline",
        "CPU training latency vs baseline",
        "CUDA inference latency vs baseline (cuda-events-cold)",
        "CUDA inference latency vs baseline (cuda-graph-hot)",
        "CUDA training latency vs baseline (cuda-events-cold)",
        "CUDA training latency vs baseline (cuda-graph-hot)",
    ]
    rows = {line.split("|")[1].strip(" `"): [cell.strip() for cell in line.strip("|").split("|")][1:]
            for line in text.splitlines() if line.startswith("| `")}  # fmt: skip
    assert set(rows) == {"nearest[torch]", "carafe[cpu]", "carafe[triton]", "yolo-carafe[unfold]"}
    assert rows["nearest[torch]"][:6] == ["baseline"] * 6
    assert rows["carafe[cpu]"][0].startswith("3.0")
    assert not any(cell.endswith("]") for cell in rows["carafe[cpu]"][2:6])
    assert not any(cell.endswith("]") for cell in rows["carafe[triton]"][:2])
    assert rows["carafe[triton]"][2].startswith(("2.0", "1.9"))
    assert rows["carafe[triton]"][6] == "74,148"
    assert not rows["yolo-carafe[unfold]"][3].endswith("]")
    assert "float32, cpu and cuda" in text
    assert "Measured on Example CPU @ 2.10GHz" in text
    assert "Measured on Example GPU" in text
    assert readme.update(text, documents.__getitem__) == text


def test_a_gpu_s_run_alone_has_its_own_table():
    name = "results/gpu/run.json#upsample2x"
    text = readme.insert(marked(name), name, run_on_a_gpu())
    assert "| contender | CUDA inference latency vs baseline (cuda-events-cold) |" in text
    assert "Measured on Example GPU" in text
    fastest = "results/gpu/run.json?fastest"
    assert "CUDA" in readme.insert(marked(fastest), fastest, run_on_a_gpu())


def test_joined_documents_are_runs_without_a_view():
    name = "a/run.json+b/run.json?targets"
    with pytest.raises(OpbenchError, match="joined as runs without a view"):
        readme.update(marked(name), lambda path: run_of_both_modes())
