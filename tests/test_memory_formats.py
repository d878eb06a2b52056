"""A memory format is a part of a workload's variants: planned, built, and in ids where it is not the default."""

import msgspec
import pytest
import torch

from opbench import suites
from opbench.build import build
from opbench.engine.check_case import check_case, count_case
from opbench.measure.prediction import on_meta
from opbench.plan import plan
from opbench.run_request import RunRequest, row_command
from opbench.schema import OpbenchError

SUITE = """
title = "one slot"
[defaults]
devices = ["cpu"]
modes = ["inference"]
[contenders]
upsample2x = ["nearest", "carafe[cpu]", "carafe[shift-add]"]
[[workload]]
task = "upsample2x"
name = "small"
source = "a test"
dims = { N = 1, C = 16, H = 6, W = 8 }
"""
LAST = SUITE + 'memory_formats = ["channels_last"]\n'
BOTH = SUITE + 'memory_formats = ["contiguous", "channels_last"]\n'


def planned(text=SUITE, *asked, **filters):
    given = {**({"memory_format": asked} if asked else {}), **filters}
    return plan(suites.parse(text, "one", where="test"), given, cuda=False)


def ids(laid_out):
    return [panel.id for panel in laid_out.panels]


def case_of(contender, memory_format="channels_last", **changes):
    cases = {case.contender: case for case in planned(SUITE, memory_format).panels[0].cases}
    return msgspec.structs.replace(cases[contender], **changes)


DEFAULT, CHANNELS_LAST = (
    "upsample2x/small/float32/cpu/inference",
    "upsample2x/small/float32/cpu/inference/channels_last",
)


def test_a_format_that_is_not_the_default_is_a_panel_of_its_own():
    assert ids(planned()) == [DEFAULT]
    assert ids(planned(BOTH)) == [DEFAULT, CHANNELS_LAST]
    (panel,) = planned(LAST).panels
    assert [case.id for case in panel.cases] == [
        f"{CHANNELS_LAST}/nearest[torch]",
        f"{CHANNELS_LAST}/carafe[cpu]",
        f"{CHANNELS_LAST}/carafe[shift-add]",
    ]


def test_a_format_asked_for_is_measured_where_no_suite_lists_it():
    assert ids(planned(SUITE, "channels_last")) == [CHANNELS_LAST]
    assert ids(planned(SUITE, "contiguous", "channels_last")) == [DEFAULT, CHANNELS_LAST]


def test_a_workload_about_another_format_is_not_measured_in_the_default_one():
    assert ids(planned(LAST, "contiguous")) == []


def test_an_unknown_format_is_refused_with_the_known_ones():
    with pytest.raises(OpbenchError, match=r"unknown memory format 'nhwc'.*known: channels_last, contiguous"):
        planned(SUITE, "nhwc")
    with pytest.raises(OpbenchError, match="memory_formats are contiguous, channels_last"):
        planned(SUITE + 'memory_formats = ["nhwc"]\n')


def test_inputs_that_have_no_other_format_and_runtimes_that_take_none_are_skipped_with_the_reason():
    core = """
[[workload]]
task = "dcnv3_core"
name = "w"
source = "a test"
dims = { N = 1, C = 16, H = 6, W = 8, G = 1 }
devices = ["cpu"]
modes = ["inference"]
"""
    laid_out = planned(core, "channels_last")
    assert not laid_out.panels
    assert {one.reason for one in laid_out.skipped} == {
        "the inputs of dcnv3_core have no memory format channels_last",
        "dcnv3[triton] runs on cuda only",
    }
    away = planned(SUITE, "channels_last", runtime=("onnxruntime",))
    assert {one.reason for one in away.skipped} >= {"onnxruntime is given tensors in the default memory format only"}


@pytest.mark.parametrize("mode", ["inference", "training"])
@pytest.mark.parametrize("contender", ["nearest[torch]", "carafe[cpu]", "carafe[shift-add]"])
def test_images_and_weights_are_laid_out_so_and_the_answer_is_right(contender, mode):
    checked = check_case(case_of(contender, mode=mode))
    built = checked.built
    assert checked.verdict.correct
    assert built.inputs[0].is_contiguous(memory_format=torch.channels_last)
    assert not built.inputs[0].is_contiguous()
    for value in (built.grad_output, *built.module.parameters()):
        if value is not None and value.ndim == 4:
            assert value.is_contiguous(memory_format=torch.channels_last)
    assert built.tensors["x"].is_contiguous(), "a definition may view what it is given"
    same = build(case_of(contender, "contiguous", mode=mode))
    assert torch.equal(same.inputs[0], built.inputs[0])
    counts, memory = count_case(built)
    assert counts.macs == count_case(same)[0].macs
    assert memory.held_bytes == count_case(same)[1].held_bytes


def test_what_is_foretold_is_of_the_same_format():
    hollow = on_meta(case_of("carafe[cpu]"))
    assert hollow.inputs[0].is_contiguous(memory_format=torch.channels_last)
    assert not hollow.inputs[0].is_contiguous()


def test_a_row_is_repeated_with_its_format():
    from factory import make_case, make_record, make_run

    case = make_case("carafe[cpu]", memory_format="channels_last")
    run = make_run([make_record(case)])
    assert "--memory-format channels_last" in row_command(run, case)
    assert "--memory-format" not in row_command(run, make_case("carafe[cpu]"))
    assert RunRequest(memory_format=("channels_last",)).filters == {"memory_format": ("channels_last",)}


def test_targets_and_pictures_are_of_the_default_format():
    from factory import make_case, make_record, make_run

    from opbench.analyse.standings import standings
    from opbench.analyse.targets import judge
    from opbench.report.families import families
    from opbench.schema import Target

    names = ("nearest[torch]", "carafe[cpu]")
    records = [
        make_record(make_case(name, memory_format=memory_format), ratio=ratio)
        for memory_format, ratio in (("contiguous", 2.0), ("channels_last", 9.0))
        for name in names
    ]
    target = Target("slow-down", "upsample2x", "yolov8n-p5", "carafe[cpu]", at_most=3.0)
    run = make_run(records, targets=(target,))
    held = standings(run)
    assert len(held) == 2
    (judged,) = judge(run, held)
    assert (judged.panel, judged.met) == (held[0].panel.id, "met")
    assert [family.executed for family in families(held)] == ["", "channels_last"]


def test_the_default_suite_measures_nearest_channels_last_at_the_sites_of_both_upsamplers():
    laid_out = plan(suites.load("default"), {}, cuda=False)
    last = [panel for panel in laid_out.panels if panel.cases[0].unusual_format]
    sizes = {tuple(panel.cases[0].dims.values()) for panel in last}
    default = {
        tuple(panel.cases[0].dims.values())
        for panel in laid_out.panels
        if panel.cases[0].task == "upsample2x" and not panel.cases[0].unusual_format
    }
    assert sizes == default
    assert {panel.baseline for panel in last} == {"nearest[torch]"}
