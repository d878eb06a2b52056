"""Panels of several runtimes stand apart wherever panels are shown, and are named by their runtime."""

from factory import make_case, make_record, make_run

from opbench.analyse.standings import contests, standings
from opbench.report import markdown
from opbench.report.families import families


def run_in(*runtimes):
    names = ("nearest[torch]", "carafe[slices]")
    return make_run([make_record(make_case(name, runtime=runtime)) for runtime in runtimes for name in names])


def test_a_panel_is_named_by_its_runtime():
    held = standings(run_in("torch", "onnxruntime"))
    titles = [markdown.title(contest) for contest in contests(held)]
    assert len(titles) == 2
    assert "onnxruntime" not in titles[0]
    assert titles[1] == titles[0].replace(", cpu", ", cpu, onnxruntime", 1)


def test_pictures_do_not_mix_runtimes():
    held = standings(run_in("torch", "onnxruntime", "openvino"))
    assert [family.executed for family in families(held)] == ["", "onnxruntime", "openvino"]
