"""The conformance check from end to end: right code is acquitted, wrong code convicted, hostile code survived."""

import json
import os
import re
import subprocess
import sys

import msgspec
import pytest
import torch
from dying import DEATHS, MEMORY_BYTES
from in_process import CheckingHere

from opbench.commands.check import CheckRequest
from opbench.commands.check import check as command
from opbench.conformance import check as checking
from opbench.conformance.check import check, unsupported
from opbench.conformance.findings import Limits, Refusal, Request
from opbench.conformance.judging import prepare
from opbench.conformance.search import search
from opbench.relations import Space
from opbench.report.conformance import closing, conclusion
from opbench.schema import OpbenchError

LIMITS = Limits(
    examples=3,
    further_examples=1,
    search_seconds=5.0,
    shrink_seconds=2.0,
    call_seconds=3.0,
    import_seconds=60.0,
    faults=9,
    hang_seconds=3.0,
)


def run_check(target, limits=None, **asked):
    """The command's body; its exit code."""
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in asked.items()}
    return command(CheckRequest(target=target, **given), limits)


RIGHT = """
from opbench.operators.carafe.cores import shift_add

def carafe(x, mask, *, kernel_size, group_size, scale_factor):
    print("noise that is no message")
    return shift_add(x, mask, kernel_size=kernel_size, group_size=group_size, scale_factor=scale_factor)

def transposed(x, mask, *, kernel_size, group_size, scale_factor):
    taps = mask.unflatten(1, (group_size, kernel_size, kernel_size)).transpose(2, 3).flatten(1, 3)
    return carafe(x, taps, kernel_size=kernel_size, group_size=group_size, scale_factor=scale_factor)

def five_only(x, mask, *, kernel_size, group_size, scale_factor):
    if kernel_size != 5:
        raise ValueError(f"kernel_size: expected 5, got {kernel_size}")
    return carafe(x, mask, kernel_size=kernel_size, group_size=group_size, scale_factor=scale_factor)

def forward_alone(x, mask, *, kernel_size, group_size, scale_factor):
    return carafe(x, mask, kernel_size=kernel_size, group_size=group_size, scale_factor=scale_factor).detach()

def never(x, mask, *, kernel_size, group_size, scale_factor):
    raise NotImplementedError("come back later")

def nothing(x, mask, *, kernel_size, group_size, scale_factor):
    return None

def on_cuda(x, mask, *, kernel_size, group_size, scale_factor):
    return carafe(x.cuda(), mask, kernel_size=kernel_size, group_size=group_size, scale_factor=scale_factor)
"""

# Properties whose very names say what the target is to do.
STAND_INS = """
import torch
from hypothesis import strategies as st
from opbench.conformance.comparing import run, same
from opbench.relations import Example, Relation

def _of(name):
    draws = lambda space: st.builds(
        lambda n: Example({"x": torch.ones(n), "mask": torch.ones(1)}, {"kernel_size": 1, "how": name}),
        st.integers(1, 4),
    )
    check = lambda core, example: same(run(core, example), example.tensors["x"], example)
    return Relation(name, "exact", f"{name}: core(x) = x", check, draws)

NAMES = ("fine", "hangs", "exits", "exits as checkers do", "crashes", "floods", "prints", "also-fine")
PROPERTIES = tuple(map(_of, NAMES))
"""
HOSTILE = """
import ctypes, os, sys, time
import torch

def core(x, mask, *, kernel_size, group_size=1, scale_factor=1, how):
    if how == "hangs":
        time.sleep(1000)
    if how == "exits":
        os._exit(3)
    if how == "exits as checkers do":
        os._exit(70)
    if how == "crashes":
        ctypes.string_at(0)
    if how == "floods":
        return torch.ones(1 << 40)
    if how == "prints":
        os.write(1, b'{"type": "Finished"}\\n' * 1000)
        sys.stderr.write("noise\\n" * 100000)
    return x.clone()
"""
HOSTILE = HOSTILE.replace("scale_factor=1, how", "scale_factor=1, how=''")


@pytest.fixture
def here(monkeypatch):
    """The target is tried by this process: what is said is the same, and no other imports torch first."""
    monkeypatch.setattr(checking, "Child", CheckingHere)


@pytest.fixture(scope="module")
def right(tmp_path_factory):
    path = tmp_path_factory.mktemp("right") / "mine.py"
    path.write_text(RIGHT)
    return path


@pytest.fixture(scope="module")
def survived(tmp_path_factory):
    """One check of a target that goes wrong in every way that could take a checker down."""
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "hostile.py").write_text(HOSTILE)
    (folder / "stand_ins.py").write_text(STAND_INS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]))
        request = Request(
            f"{folder / 'hostile.py'}:core", "carafe", dtypes=("float32",), properties="stand_ins:PROPERTIES"
        )
        return check(request, LIMITS)


@pytest.mark.parametrize(
    ("name", "status", "said"),
    [
        ("fine", "holds", ""),
        ("hangs", "hangs", "hangs: killed after 3 s"),
        ("exits", "died", "ended the process, exit code 3"),
        ("exits as checkers do", "died", "ended the process, exit code 70"),
        ("crashes", "died", "died with SIGSEGV"),
        ("floods", "fails", "floods memory: raised RuntimeError"),
        ("prints", "holds", ""),
        ("also-fine", "holds", ""),
    ],
)
def test_hostile_code_costs_its_own_relation_and_no_other(survived, name, status, said):
    (result,) = [result for result in survived.results if result.property == name]
    assert (result.status, said in result.message) == (status, True), result
    if status not in ("holds",):
        assert result.counterexample.options == {"kernel_size": 1, "how": name}
        assert result.counterexample.tensors["x"].shape == (1,)


def test_a_check_leaves_nothing_in_the_folder_it_runs_in(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("from opbench.operators.carafe.cores import shift_add\n")
    run_check("mine.py:shift_add", operator="carafe", only=("definition",), quick=True)
    assert [path.name for path in tmp_path.iterdir() if path.name != "__pycache__"] == ["mine.py"]


def test_a_target_that_brings_its_process_down_does_not_conform(survived):
    assert not survived.conformant
    assert survived.failing == ("hangs", "exits", "exits as checkers do", "crashes", "floods")
    assert survived.verdict == "wrong"
    assert conclusion(survived).startswith("wrong: core does not compute carafe: ")
    assert "of 8 relations 3 hold, 5 fail" in closing(survived)


@pytest.mark.parametrize("death", DEATHS, ids=lambda death: death.name)
def test_every_death_of_the_checking_process_is_named(right, monkeypatch, death):
    monkeypatch.setattr(checking, "WORKER", "dying")
    monkeypatch.setattr(checking, "OWN_BYTES", 0)
    death.arrange(monkeypatch)
    monkeypatch.setattr(checking, "OWN_SECONDS", death.seconds)
    limits = msgspec.structs.replace(LIMITS, import_seconds=death.seconds, memory_bytes=MEMORY_BYTES)
    with pytest.raises(OpbenchError, match=f"not judged: starting the checker: .*{re.escape(death.said)}"):
        check(Request(f"{right}:carafe", "carafe"), limits)


def test_a_fault_of_the_checker_is_not_laid_at_the_target_s_door(right, tmp_path, monkeypatch):
    broken = "PROPERTIES = (_of('fine').__class__('fine', 'exact', '', None, lambda space: 1 / 0),)"
    (tmp_path / "broken.py").write_text(STAND_INS + broken)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]))
    request = Request(f"{right}:carafe", "carafe", dtypes=("float32",), properties="broken:PROPERTIES")
    with pytest.raises(RuntimeError, match=r"(?s)the checker failed, not the target:.*ZeroDivisionError"):
        check(request, LIMITS)


def test_code_that_dies_while_it_is_imported_is_wrong_usage(tmp_path):
    (tmp_path / "mine.py").write_text("import os; os._exit(5)")
    with pytest.raises(OpbenchError, match="not judged: importing it: ended the process, exit code 5"):
        check(Request(f"{tmp_path / 'mine.py'}:carafe", "carafe"), LIMITS)


# --- CARAFE's function, against its own relations -------------------------------------------------------------------


def test_a_right_carafe_is_acquitted(right, capfd):
    assert run_check(f"{right}:carafe", operator="carafe", dtype=["float32"], limits=LIMITS) == 0
    out = capfd.readouterr().out
    assert out.splitlines()[0].startswith("right: carafe computes carafe")
    assert "noise" not in out


def test_a_wrong_carafe_is_convicted_with_a_counterexample_and_a_line_that_reproduces_it(right, capfd, here):
    assert run_check(f"{right}:transposed", operator="carafe", quick=True, only=["definition"]) == 1
    out = capfd.readouterr().out
    assert "FAILS  definition, in float32" in out
    assert "relation: core(inputs) = definition(inputs)" in out
    assert "but: output[" in out
    assert "kernel_size=3, group_size=1, scale_factor=1" in out
    (line,) = [line for line in out.splitlines() if "reproduce:" in line]
    assert line.split("reproduce: ")[1] == (
        f"opbench check {right}:transposed --operator carafe --only definition --dtype float32 --quick --seed 0"
    )
    assert out.startswith("wrong: transposed does not compute carafe: output[")
    assert "of 1 relations 1 fail" in out.splitlines()[-1]


def test_what_is_wrong_in_every_relation_alike_is_said_once(right, capfd, here):
    relations = ["definition", "groups", "mirrors"]
    assert run_check(f"{right}:nothing", operator="carafe", quick=True, only=relations) == 1
    out = capfd.readouterr().out
    assert out.count("output: expected a tensor, got NoneType") == 2  # in the verdict, and once below it
    assert "the same of: groups, mirrors" in out
    assert "of 3 relations 3 fail" in out


def test_what_a_target_does_not_promise_is_left_out_and_said(right, capfd, here):
    relations = ["definition", "powers-of-two"]
    options = {"operator": "carafe", "quick": True, "only": relations, "skip": ["definition"]}
    assert run_check(f"{right}:transposed", **options) == 0
    out = capfd.readouterr().out
    assert "not checked: definition: left out by --skip" in out
    assert "of 1 relations 1 hold" in out


def test_code_without_a_backward_pass_can_be_held_to_its_output_alone(right, capfd, here):
    options = {"operator": "carafe", "quick": True, "only": ["definition", "adjointness"]}
    assert run_check(f"{right}:forward_alone", **options) == 1
    assert run_check(f"{right}:forward_alone", **options, forward_only=True) == 0
    out = capfd.readouterr().out
    assert "left out by --forward-only" in out
    assert "of 1 relations 1 hold" in out


def test_json_holds_the_same(right, capfd, here):
    assert run_check(f"{right}:transposed", operator="carafe", only=["definition"], quick=True, as_json=True) == 1
    document = json.loads(capfd.readouterr().out)
    assert document["conformant"] is False
    assert document["failing"] == ["definition"]
    (result,) = document["results"]
    assert result["counterexample"]["options"] == {"kernel_size": 3, "group_size": 1, "scale_factor": 1}
    assert result["counterexample"]["tensors"]["x"]["values"]


def test_an_option_that_is_refused_is_listed_and_no_fault(right, capfd, here):
    options = {"operator": "carafe", "only": ["definition", "tent-is-bilinear"], "quick": True}
    assert run_check(f"{right}:five_only", **options, dtype=["float64"]) == 0
    out = capfd.readouterr().out
    (line,) = [line for line in out.splitlines() if line.startswith("unsupported: kernel_size = ")]
    assert "3" in line
    assert "kernel_size: expected 5, got" in line
    assert "not checked: tent-is-bilinear in float64: the target refuses its every call" in out
    assert "of 2 relations 1 hold" in out


def test_a_target_that_refuses_everything_is_not_judged(right, capfd, here):
    assert run_check(f"{right}:never", operator="carafe", only=["definition"], quick=True) == 2
    out = capfd.readouterr().out
    assert out.startswith("not judged: never: it refuses every call: NotImplementedError: come back later")
    assert "REFUSES EVERY CALL  NotImplementedError: come back later" in out


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_target_that_needs_cuda_where_there_is_none_is_wrong_usage(right, here):
    with pytest.raises(OpbenchError, match="the target needs CUDA, there is no CUDA device here"):
        run_check(f"{right}:on_cuda", operator="carafe", only=["definition"])


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"operator": "caraf"}, "unknown operator 'caraf'; did you mean 'carafe'?"),
        ({"fix": ("kernelsize=5",)}, "unknown option 'kernelsize'; did you mean 'kernel_size'?"),
        ({"fix": ("kernel_size=0",)}, "--fix kernel_size=0: expected an integer of at least 1"),
        ({"fix": ("kernel_size=five",)}, "--fix kernel_size=five: expected a number, true or false"),
        ({"only": ("definitions",)}, "unknown relation 'definitions'; did you mean 'definition'?"),
        ({"operator": "eucb"}, "expected target"),
        ({"arguments": ("c=4",)}, "--arg: unknown argument of carafe 'c'"),
        ({"operator": "dcnv3"}, "wrong signature"),
    ],
)
def test_wrong_usage_is_one_line(right, changed, said):
    with pytest.raises(OpbenchError) as error:
        prepare(Request(**{"target": f"{right}:carafe", "operator": "carafe", **changed}))
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("option", "value"), [("device", "gpu"), ("dtype", ["half"])])
def test_an_unknown_device_or_dtype_is_said(right, option, value):
    with pytest.raises(OpbenchError, match="unknown d"):
        run_check(f"{right}:carafe", operator="carafe", **{option: value})


def test_fixed_options_narrow_what_is_drawn(right):
    judged = prepare(Request(f"{right}:carafe", "carafe", fix=("kernel_size=5", "scale_factor=2")))
    done = search(judged.properties[0], judged.core, Space(fixed=judged.fixed), examples=20, seed=0)
    assert done.finding is None
    assert {(options["kernel_size"], options["scale_factor"]) for options in done.accepted} == {(5, 2)}


# --- Modules ----------------------------------------------------------------------------------------------------

MODULES = """
import torch
from torch import nn
import torch.nn.functional as F
from opbench.operators.carafe import CARAFE, YoloCARAFE
from opbench.operators.dcnv3 import DCNv3, DCNV3_YoLo


class Conv(nn.Module):
    def __init__(self, c1, c2, k, act):
        super().__init__()
        self.conv = nn.Conv2d(c1, c2, k, padding=k // 2, bias=False)
        self.bn = nn.BatchNorm2d(c2)
        self.act = nn.SiLU() if act else nn.Identity()

    def forward(self, x):
        return self.act(self.bn(self.conv(x)))


class Pasted(nn.Module):
    axis = 1

    def __init__(self, c, k_enc=3, k_up=5, c_mid=64, scale=2):
        super().__init__()
        self.scale, self.k_up = scale, k_up
        self.comp = Conv(c, c_mid, 1, True)
        self.enc = Conv(c_mid, (scale * k_up) ** 2, k_enc, False)

    def forward(self, x):
        b, c, h, w = x.shape
        s, k = self.scale, self.k_up
        weights = F.softmax(F.pixel_shuffle(self.enc(self.comp(x)), s), dim=self.axis)
        up = F.interpolate(x, scale_factor=s, mode="nearest")
        taps = F.unfold(up, k, dilation=s, padding=k // 2 * s).view(b, c, k * k, h * s, w * s)
        return torch.einsum("bkhw,bckhw->bchw", weights, taps)


class WrongAxis(Pasted):
    axis = 2


class OtherName(Pasted):
    def __init__(self, channels, k_enc=3, k_up=5, c_mid=64, scale=2):
        super().__init__(channels, k_enc, k_up, c_mid, scale)


class NoBN(Pasted):
    def __init__(self, c, k_up=5):
        super().__init__(c, k_up=k_up)
        self.enc.bn = nn.Identity()


class Needy(Pasted):
    def __init__(self, c, flavour):
        super().__init__(c)


class Detached(Pasted):
    def forward(self, x):
        return super().forward(x.detach())


class EvenOnly(Pasted):
    def __init__(self, c, k_enc=3, k_up=5, c_mid=64, scale=2):
        if scale != 2:
            raise ValueError("scale: only 2 is supported")
        super().__init__(c, k_enc, k_up, c_mid, scale)


made = Pasted(6, k_up=3)
"""


@pytest.fixture(scope="module")
def pasted(tmp_path_factory):
    path = tmp_path_factory.mktemp("pasted") / "pasted.py"
    path.write_text(MODULES)
    return path


def judged(pasted, name, operator, dtype="float32", **options):
    """The judged target, and what each of its properties came to."""
    prepared = prepare(Request(f"{pasted}:{name}", operator, **options))
    done = {
        prop.name: search(
            prop, prepared.core, Space(dtype, fixed=prepared.fixed), examples=4, seed=0, words=prepared.words
        )
        for prop in prepared.properties
    }
    return prepared.judged_as, done


@pytest.mark.parametrize(
    ("name", "operator", "judged_as", "options"),
    [
        ("Pasted", "carafe", "yolo-carafe (module)", {}),
        ("Pasted", "yolo-carafe", "yolo-carafe (module)", {"arguments": ("c=4", "k_up=3")}),
        pytest.param("OtherName", "yolo-carafe", "yolo-carafe (module)", {}, marks=pytest.mark.nightly),
        ("made", "carafe", "yolo-carafe (module)", {"fix": ("c=6", "c_mid=64")}),
        pytest.param("YoloCARAFE", "carafe", "yolo-carafe (module)", {}, marks=pytest.mark.nightly),
        ("CARAFE", "carafe", "carafe (module)", {}),
        pytest.param("DCNv3", "dcnv3", "dcnv3 (module)", {}, marks=pytest.mark.nightly),
        ("DCNV3_YoLo", "dcnv3", "yolo-dcnv3 (module)", {}),
    ],
)
def test_a_right_module_is_acquitted_as_what_its_state_dict_says_it_is(pasted, name, operator, judged_as, options):
    told, done = judged(pasted, name, operator, **options)
    assert told == judged_as
    assert {name: searched.finding for name, searched in done.items()} == dict.fromkeys(done)
    assert all(searched.examples for searched in done.values())


def test_a_right_module_is_right_in_float64(pasted):
    _, done = judged(pasted, "Pasted", "carafe", dtype="float64")
    assert {name: searched.finding for name, searched in done.items()} == dict.fromkeys(done)


@pytest.mark.parametrize(
    ("name", "relation", "said"),
    [
        ("WrongAxis", "evaluation", "expected"),
        ("WrongAxis", "training", "expected"),
        ("Detached", "evaluation", "x: "),
    ],
)
def test_a_wrong_module_is_convicted(pasted, name, relation, said):
    _, done = judged(pasted, name, "yolo-carafe")
    assert said in done[relation].finding.message


def test_a_setting_that_the_constructor_refuses_is_no_fault(pasted):
    _, done = judged(pasted, "EvenOnly", "yolo-carafe")
    assert all(searched.finding is None for searched in done.values())
    assert all(searched.refusals for searched in done.values())


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("Needy", {}, "needs flavour: add --arg flavour=VALUE"),
        ("Pasted", {"arguments": ("k_upp=3",)}, "unknown argument of Pasted 'k_upp'; did you mean 'k_up'?"),
        ("Pasted", {"fix": ("k_upp=3",)}, "unknown setting 'k_upp'; did you mean 'k_up'?"),
        ("made", {"arguments": ("k_up=3",)}, "made is constructed already"),
    ],
)
def test_a_constructor_that_can_t_be_called_so_is_wrong_usage(pasted, name, options, said):
    with pytest.raises(OpbenchError) as error:
        prepare(Request(f"{pasted}:{name}", "yolo-carafe", **options))
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("name", "operator", "options", "said"),
    [
        ("CARAFE", "carafe", {"fix": ("encoder_dilation=2",)}, "the definition of CARAFE has encoder_dilation=1 only"),
        ("CARAFE", "carafe", {"arguments": ("encoder_dilation=2",)}, "has encoder_dilation=1 only"),
        ("DCNv3", "dcnv3", {"fix": ("stride=2",)}, "the definition of DCNv3 has stride=1 only"),
        ("DCNV3_YoLo", "yolo-dcnv3", {"arguments": ("d=2",)}, "the definition of DCNV3_YoLo has d=1 only"),
        ("DCNV3_YoLo", "dcnv3", {"arguments": ("act=false",)}, "the definition of DCNV3_YoLo has no act to choose"),
        ("DCNv3", "dcnv3", {"arguments": ("channels=0",)}, "channels=0: expected an integer of at least 1"),
        ("Pasted", "carafe", {"fix": ("H=0",)}, "H=0: expected an integer of at least 1"),
        ("DCNv3", "dcnv3", {"fix": ("remove_center=maybe",)}, "remove_center=maybe: expected a number, true or false"),
        ("DCNv3", "dcnv3", {"arguments": ("norm_layer=BN",)}, "the definition of DCNv3 has no norm_layer to choose"),
    ],
)
def test_settings_that_no_definition_covers_are_wrong_usage_and_convict_nobody(pasted, name, operator, options, said):
    with pytest.raises(OpbenchError) as error:
        prepare(Request(f"{pasted}:{name}", operator, **options))
    assert said in str(error.value)


def test_settings_that_the_published_module_refuses_are_wrong_usage(pasted, here):
    with pytest.raises(
        OpbenchError, match=r"not judged: at what is fixed, .* raised ValueError: CARAFE: expected up_kernel"
    ):
        run_check(f"{pasted}:CARAFE", operator="carafe", fix=["up_kernel=4"], limits=LIMITS)


def test_a_module_with_another_state_dict_is_judged_by_the_core_inside_it(pasted, capfd, here):
    only = {"operator": "yolo-carafe", "quick": True, "only": ("definition",)}
    assert run_check(f"{pasted}:NoBN", **only) == 0
    out = capfd.readouterr().out
    assert out.startswith("right: NoBN computes CARAFE's reassembly; the module around it differs: ")
    assert "yolo-carafe (core inside the module) on cpu" in out


# --- What was refused -------------------------------------------------------------------------------------------


def test_only_values_that_were_never_accepted_are_unsupported():
    accepted = [("float32", {"kernel_size": 3, "stride": 1}), ("float32", {"kernel_size": 5, "stride": 2})]
    refusals = [
        ("float32", Refusal({"kernel_size": 2, "stride": 3}, "ValueError: kernel_size must be odd")),
        ("float32", Refusal({"kernel_size": 4, "stride": 1}, "ValueError: kernel_size must be odd")),
        ("float32", Refusal({"kernel_size": 5, "stride": 1}, "ValueError: stride 1 is too small for x")),
        ("float16", Refusal({"kernel_size": 3, "stride": 1}, "NotImplementedError: no half")),
    ]
    found = unsupported(accepted, refusals)
    assert [dict(entry.options) for entry in found] == [{"kernel_size": [2, 4]}, {}, {"dtype": ["float16"]}]
    assert "at kernel_size=5, stride=1" in found[1].message


def test_the_checker_s_own_process_imports_neither_the_target_nor_torch():
    own = "opbench.commands.check, opbench.conformance.check, opbench.report.conformance"
    script = f"import sys, {own}; print([m for m in ('torch', 'hypothesis') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
