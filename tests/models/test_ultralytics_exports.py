"""ultralytics' own `export(format=...)` of a swapped YOLOv8n: proven whole where it is executed here, else listed."""

import importlib.util
from pathlib import Path

import pytest
from ultralytics_exports import PROVEN, apart, formats

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "deploy.md"
NEEDS = {
    "torchscript": (), "onnx": ("onnx", "onnxruntime"), "openvino": ("openvino",), "ncnn": ("ncnn", "pnnx"),
}  # fmt: skip


def lacking(format_):
    return [name for name in NEEDS[format_] if importlib.util.find_spec(name) is None]


@pytest.mark.nightly
@pytest.mark.parametrize("format_", PROVEN)
def test_the_package_exports_a_swapped_network_whose_whole_output_is_right(format_):
    pytest.importorskip("ultralytics")
    if names := lacking(format_):
        pytest.skip(f"{' and '.join(names)} not installed")
    found = apart(format_)
    assert found["outcome"] == "right", found["said"]


def test_the_page_lists_every_format_of_the_package():
    pytest.importorskip("ultralytics")
    page = PAGE.read_text()
    assert [name for name in formats() if f"| `{name}` |" not in page] == []
