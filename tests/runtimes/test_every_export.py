"""The table of runtimes by operators is what its document says, and every operator is right in both runtimes."""

from pathlib import Path

import pytest
from every_export import SLOTS, cases, read, save, surveyed, table

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted((ROOT / "results").glob("*/exports/exports.jsonl.gz"))


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.parent.parent.name)
def test_a_page_of_results_is_what_its_document_says(path):
    assert path.with_name("exports.md").read_text(encoding="utf-8") == table(read(path))


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.parent.parent.name)
def test_every_operator_of_the_slots_is_right_in_onnx_runtime_and_openvino(path):
    rows = read(path)["rows"]
    operators = {(row["slot"], row["operator"]) for row in rows}
    for runtime in ("onnxruntime", "openvino"):
        right = {
            (row["slot"], row["operator"]) for row in rows if (row["runtime"], row["outcome"]) == (runtime, "right")
        }
        assert operators - right == set(), runtime
    assert not [row for row in rows if row["outcome"] in ("wrong", "crashed")]


def row(outcome, said="", **changes):
    about = {"slot": "upsample2x", "operator": "one", "graph": "rows", "runtime": "openvino"}
    return {**about, **changes, "outcome": outcome, "said": said}


def test_the_table_strikes_what_is_refused_and_says_why(tmp_path):
    found = {
        "machine": "a machine", "versions": {"torch": "2"}, "sizes": {"N": 1},
        "rows": [
            row("right", "0.1"), row("refused", "no | layer", graph="lines"), row("wrong", "off by 1", runtime="ncnn"),
        ],
    }  # fmt: skip
    text = table(found)
    assert "| `upsample2x` | `one` | `rows`, ~~`lines`~~ | **`rows`** |" in text
    assert "- openvino, refused: `one[lines]`: no / layer" in text
    assert "- ncnn, wrong: `one[rows]`: off by 1" in text
    save(found, tmp_path / "exports.jsonl.gz")
    assert read(tmp_path / "exports.jsonl.gz") == found


def test_every_slot_has_graphs_to_export():
    assert {case.task for case in cases("openvino")} == set(SLOTS)


@pytest.mark.nightly
@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_every_graph_is_right_in_each_runtime_or_refused_in_a_sentence(runtime):
    pytest.importorskip("onnx", reason="the extra opbench[deploy] is not installed")
    pytest.importorskip(runtime, reason="the extra opbench[deploy] is not installed")
    rows = surveyed(runtime, lambda *_: None)
    assert [one for one in rows if one["outcome"] not in ("right", "refused")] == []
    operators = {(one["slot"], one["operator"]) for one in rows}
    assert operators == {(one["slot"], one["operator"]) for one in rows if one["outcome"] == "right"}
