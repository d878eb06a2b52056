"""What every module promises: each planted fault is found in its sentence and tier, and right modules are acquitted."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from by_day import one_in

import opbench
from opbench.commands.check import CheckRequest
from opbench.commands.check import check as command
from opbench.conformance.promises.check import check_promises, parsed_shape
from opbench.conformance.promises.findings import (
    ModuleBuilt,
    Patience,
    PromiseJob,
    PromiseRequest,
    Promises,
    PromiseTried,
    ShapesAccepted,
)
from opbench.conformance.promises.worker import FRAGILE, WRONG, work
from opbench.report.promises import conclusion, promise_lines
from opbench.schema import OpbenchError
from opbench.testing import assert_right

FILE = Path(__file__).with_name("planted_modules.py")


class Heard:
    """Takes the worker's messages in this process."""

    def __init__(self):
        self.messages = []

    def send(self, message):
        self.messages.append(message)

    def all(self, kind):
        return [message for message in self.messages if isinstance(message, kind)]


def tried(target, **asked):
    """Every promise tried in this process: no process to start, and no death to survive."""
    request = PromiseRequest(target if ":" in target else f"{FILE}:{target}", **asked)
    heard = Heard()
    work(PromiseJob(request, 60.0), heard)
    (built,), (accepted,) = heard.all(ModuleBuilt), heard.all(ShapesAccepted)
    results = heard.all(PromiseTried)
    notes = (*built.notes, *accepted.notes, *(note for one in results for note in one.notes))
    return Promises(request, built.constructed, accepted.shapes, tuple(one.result for one in results), notes, 0.0)


def names(results):
    return {one.promise for one in results}


def line_of(target):
    """The number of the line that ends in `# here` in a planted class; None where there is none."""
    lines = FILE.read_text().splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(f"class {target}("))
    for number, line in enumerate(lines[start + 1 :], start + 2):
        if line.endswith("# here"):
            return number
        if line.startswith("class "):
            break
    return None


WRONG_ONES = [
    ("MeanOverBatch", "images-apart", "mixes the images of a batch in evaluation: image 0's output[", (2, 64, 4, 4)),
    ("SoftmaxOverBatch", "images-apart", "mixes the images of a batch", (2, 64, 4, 4)),
    ("ThirdImage", "images-apart", "mixes the images of a batch in evaluation: image 2's output[", (4, 64, 4, 4)),
    ("AttentionOverBatch", "images-apart", "mixes the images of a batch", (2, 64, 4, 4)),
    ("Unused", "gradients", "leaves 2 parameters: second.weight, second.bias without a gradient: they are", None),
    ("Detached", "gradients", "leaves parameter scale without a gradient: it is unused, or cut off", (4, 64, 4, 4)),
    ("Rounded", "gradients", "leaves parameter shift without a gradient", (4, 64, 4, 4)),
    ("RandomInEvaluation", "repeatable", "answers the same call twice differently in evaluation", (2, 64, 4, 4)),
    ("CountsCalls", "repeatable", "answers the same call twice differently in evaluation", (2, 64, 4, 4)),
    ("ChangesInput", "inputs-kept", "changes its input in place: x[", (2, 64, 4, 4)),
    ("InplaceFirst", "inputs-kept", "changes its input in place: x[", (2, 64, 4, 4)),
    ("PlainTensor", "moves", "leaves `weights` behind when it moves to another device: a plain tensor", None),
    ("PlainList", "moves", "leaves `branches[0].weight` behind when it moves", None),
    ("OldCache", "moves", "can't be called any more when it moves to float64 after a first call", (2, 64, 4, 4)),
    ("RunningMean", "state-dict", "computes something else after its state dict was loaded into a new one", None),
    ("DrawnOnce", "state-dict", "computes something else after its state dict was loaded into a new one", None),
    ("KeepsOutput", "deepcopy", "raises in copy.deepcopy: RuntimeError: Only Tensors created explicitly", None),
    ("HoldsLambda", "pickle", "raises in pickle.dumps and loads: ", None),
]
# What the same fault breaks besides.
BESIDES = {"PlainList": {"state-dict"}}


@pytest.mark.parametrize(("target", "promise", "said", "shape"), WRONG_ONES, ids=[one[0] for one in WRONG_ONES])
def test_what_no_module_may_do_is_wrong_and_said_in_a_sentence(target, promise, said, shape):
    found = tried(target, only=tuple(one.name for one in WRONG))
    assert found.verdict == "wrong"
    assert names(found.wrong) == {promise, *BESIDES.get(target, ())}, found.wrong
    (one,) = [one for one in found.wrong if one.promise == promise]
    assert said in one.message, one
    assert one.advice
    if shape:
        assert one.shape == shape
    if line_of(target):
        assert (one.where.line, one.where.text.endswith("# here")) == (line_of(target), True), one.where


FRAGILE_ONES = [
    ("SquaresOnly", "sizes", "raises in a call with a rectangle or an odd size: RuntimeError: shape", (2, 64, 4, 8)),
    ("EvenOnly", "sizes", "raises in a call with a rectangle or an odd size: RuntimeError: pixel_unshuffle", None),
    ("SwapsSides", "sizes", "gives a rectangle another size: output (8, 4) instead of (4, 8)", (2, 64, 4, 8)),
    ("NormAfterPooling", "batch-of-one", "raises in a call with one image: ValueError: Expected more than 1", None),
    ("SqueezesAll", "batch-of-one", "raises in a call with one image: IndexError: too many indices", (1, 64, 8, 8)),
    ("Float32Table", "float16", "raises in a call in float16: RuntimeError: expected", (2, 64, 4, 4)),
    ("Float32Table", "bfloat16", "raises in a call in bfloat16: RuntimeError: expected", (2, 64, 4, 4)),
    ("HalfOverflows", "float16", "gives float16 values that are not finite, where float32 gives finite ones", None),
    ("WritesInto", "autocast", "raises in a call under torch.autocast(dtype=torch.bfloat16): RuntimeError: ", None),
    ("Views", "channels-last", "raises in a call with a channels-last input: RuntimeError: view size", (2, 64, 4, 4)),
    ("LouderInTraining", "training-as-evaluation", "computes something else in training than in evaluation", None),
    ("KeepsHistory", "memory", "keeps 1 tensors alive of every call, in its attribute history", None),
    ("Exponential", "finite", "values that are not finite for inputs of standard deviation 100", (2, 64, 4, 4)),
    ("SoftmaxOverOne", "parameters-matter", "2 parameters: attention.weight, attention.bias, whose values", None),
]


@pytest.mark.parametrize(
    ("target", "promise", "said", "shape"), FRAGILE_ONES, ids=[f"{o[0]}-{o[1]}" for o in FRAGILE_ONES]
)
def test_what_will_surprise_somebody_is_fragile_and_said_in_a_sentence(target, promise, said, shape):
    found = tried(target)
    assert found.verdict == "fragile", found.wrong
    assert promise in names(found.fragile), found.fragile
    (one,) = [one for one in found.fragile if one.promise == promise]
    assert said in one.message, one
    assert one.advice
    if shape:
        assert one.shape == shape
    if line_of(target):
        assert one.where is not None
        assert one.where.line == line_of(target), one.where


INNOCENT = (
    "Convolution", "Block", "Attention", "KeyBias", "Dropped", "Grouped", "GroupsInBatch", "FreshCache",
    "KernelsOfEachImage", "ChannelsLast", "upsample", "lazy", "image_net_stem",
    "opbench.operators.carafe:CARAFE", "opbench.operators.carafe:YoloCARAFE",
)  # fmt: skip


@pytest.mark.parametrize("target", one_in(2, INNOCENT))
def test_a_right_module_is_acquitted(target):
    found = tried(target)
    assert (found.wrong, found.fragile) == ((), ())
    assert found.verdict == "right"
    assert names(found.kept) == names(found.promises)


def test_what_torch_itself_refuses_is_no_fault_of_the_module():
    found = tried("weight_normed")
    assert (found.verdict, found.wrong, found.fragile) == ("right", (), ())
    assert [one.promise for one in found.promises if one.status == "unsupported"] == ["pickle"]


def test_the_published_dcnv3_block_is_right_and_its_weights_of_one_tap_are_named():
    """At its default of k=1 there is one tap, and a softmax over one entry is 1 whatever it is given."""
    found = tried("opbench.operators.dcnv3:DCNV3_YoLo")
    assert (found.wrong, names(found.fragile)) == ((), {"parameters-matter"})
    assert "dcnv3.mask.weight, dcnv3.mask.bias, whose values don't change the output" in found.fragile[0].message
    found = tried("opbench.operators.dcnv3:DCNV3_YoLo", arguments=("k=3",), only=("gradients", "parameters-matter"))
    assert found.verdict == "right"


def test_a_channels_last_module_is_given_channels_last_images():
    found = tried("opbench.operators.dcnv3:DCNv3", only=("answers", "images-apart", "sizes"))
    assert (found.verdict, found.shapes[0]) == ("right", (2, 4, 4, 64))
    assert "it refuses (N, C, H, W); it was given (N, H, W, C)" in found.notes


def test_a_bias_before_a_batch_norm_is_named_and_not_convicted():
    found = tried("Block", only=("gradients",))
    assert found.verdict == "right"
    assert any("the gradient of conv.bias is zero up to rounding in training" in note for note in found.notes)


# --- constructing -------------------------------------------------------------------------------------------------


def test_channels_are_guessed_by_meaning_and_said():
    found = tried("Block", only=("answers",))
    assert (found.constructed, found.shapes[0]) == ("Block(c1=64, c2=64)", (2, 64, 4, 4))
    assert "c1=64 and c2=64: guessed; give another with --arg c1=VALUE" in found.notes
    found = tried("Block", arguments=("c2=8",), shape={"C": 16, "H": 6, "W": 10}, only=("answers",))
    assert (found.constructed, found.shapes) == ("Block(c1=16, c2=8)", ((2, 16, 6, 10),))
    assert tried("Grouped", arguments=("in_planes=24",), only=("answers",)).constructed == (
        "Grouped(in_planes=24, out_planes=24)"
    )
    assert tried("image_net_stem", only=("answers",)).shapes[0] == (2, 3, 4, 4)


NOT_JUDGED = [
    ("NeedsMore", {}, "needs kernel_size, stride: add --arg kernel_size=VALUE --arg stride=VALUE"),
    ("NeedsMore", {"arguments": ("strid=1",)}, "--arg: unknown argument of NeedsMore 'strid'; did you mean 'stride'?"),
    ("RaisesInConstructor", {}, 'ValueError: no such luck (line 0: raise ValueError("no such luck")); give'),
    (
        "TwoInputs",
        {},
        "to (2, 64, 224, 224); at the first it raises TypeError: TwoInputs.forward() missing 1",
    ),
    ("function", {}, "function is not a torch.nn.Module: what a function promises depends on the operator"),
    ("scripted", {}, "a scripted module: name the module that it was scripted from"),
    ("Block", {"only": ("gradient",)}, "--only: unknown promise 'gradient'; did you mean 'gradients'?"),
    ("upsample", {"arguments": ("size=3",)}, "--arg: upsample is constructed already"),
]


@pytest.mark.parametrize(("target", "asked", "said"), NOT_JUDGED, ids=[f"{one[0]}-{len(one[1])}" for one in NOT_JUDGED])
def test_what_cannot_be_judged_says_what_to_add(target, asked, said):
    with pytest.raises(OpbenchError) as raised:
        tried(target, **asked)
    line = next(n for n, text in enumerate(FILE.read_text().splitlines(), 1) if "no such luck" in text)
    assert said.replace("line 0", f"line {line}") in str(raised.value)


@pytest.mark.parametrize("text", ["64", "C=", "C=0", "K=3", "H=3.5"])
def test_a_shape_is_named_dimensions(text):
    with pytest.raises(OpbenchError, match="expected N, C, H and W as in N=2,C=64,H=32,W=32"):
        parsed_shape(text)


# --- in a process of its own --------------------------------------------------------------------------------------

PATIENCE = Patience(call=2.0, hang=2.0, faults=2, memory_bytes=1 << 30)


@pytest.mark.parametrize(
    ("target", "promise", "verdict", "said"),
    [
        ("HangsInHalf", "float16", "fragile", "hangs: killed after 2 s without a sign of life"),
        ("DiesInTraining", "gradients", "wrong", "brings down the process, which ended the process, exit code 3"),
        ("FloodsInTraining", "gradients", "wrong", "floods memory: the process was killed at"),
    ],
)
def test_a_module_that_brings_down_its_process_is_named_and_the_rest_goes_on(target, promise, verdict, said):
    only = ("answers", "gradients", "inputs-kept", "float16", "finite")
    if target != "HangsInHalf":
        only = ("answers", "gradients", "finite")
    found = check_promises(PromiseRequest(f"{FILE}:{target}", only=only), PATIENCE)
    (one,) = (*found.wrong, *found.fragile)
    assert (one.promise, found.verdict) == (promise, verdict)
    assert said in one.message
    assert one.shape
    assert "finite" in names(found.kept)


def test_a_module_that_never_answers_is_wrong_and_nothing_else_is_tried():
    found = check_promises(PromiseRequest(f"{FILE}:Hangs"), PATIENCE)
    assert names(found.wrong) == {"answers"}
    assert conclusion(found).startswith("wrong: Hangs hangs: killed after 2 s")
    assert {one.status for one in found.promises if one.promise != "answers"} == {"not-run"}


def test_time_that_runs_out_is_no_verdict_and_said():
    found = check_promises(PromiseRequest(f"{FILE}:Slow"), Patience(trying=4.0))
    assert (found.verdict, found.conformant) == ("not judged", False)
    assert conclusion(found).endswith("promises were not tried: the time was over; a smaller --shape takes less")


def test_random_outputs_are_not_taken_for_mixed_images():
    (one,) = tried("RandomInEvaluation", only=("images-apart",)).promises
    assert one.status == "unsupported"


def opbench_check(*words):
    command = [sys.executable, "-m", "opbench", "check", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_verdict_is_the_first_line_and_the_exit_code():
    done = opbench_check(f"{FILE}:MeanOverBatch", "--shape", "C=8")
    assert done.returncode == 1, done.stderr
    first, *rest = done.stdout.splitlines()
    assert first.startswith("wrong: MeanOverBatch mixes the images of a batch in evaluation: image 0's output[")
    assert f"  line {line_of('MeanOverBatch')}: context = y.mean((0, 2, 3), keepdim=True)  # here" in rest
    assert f"reproduce: opbench check {FILE}:MeanOverBatch --shape C=8 --seed 0" in rest


def test_an_assertion_that_fails_names_the_command_with_the_shape_that_was_asked_for():
    with pytest.raises(AssertionError) as caught:
        assert_right(f"{FILE}:MeanOverBatch", shape={"C": 8, "H": 16})
    assert f"reproduce: opbench check {FILE}:MeanOverBatch --shape C=8,H=16 --seed 0\n" in str(caught.value)


def test_fragile_alone_is_no_bad_news_and_json_has_everything(capsys):
    only = ("answers", "sizes")
    assert command(CheckRequest(target=f"{FILE}:EvenOnly", only=only, as_json=True)) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["kind"], document["verdict"], document["fragile"]) == ("promises", "fragile", ["sizes"])
    assert document["conclusion"].startswith("right, but fragile: EvenOnly")
    assert [one["status"] for one in document["promises"]] == ["kept", "broken"]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"dtype": ("float32",)}, "--dtype belongs to an operator"),
        ({"fix": ("N=2",)}, "--fix belongs to an operator"),
        ({"device": "tpu"}, "unknown device 'tpu'"),
    ],
)
def test_options_of_the_other_kind_of_check_are_refused(asked, said):
    with pytest.raises(OpbenchError, match=said):
        command(CheckRequest(target=f"{FILE}:Block", **asked))


def test_a_module_is_checked_by_a_call():
    found = opbench.check(f"{FILE}:Unused", shape={"C": 8}, arguments={"channels": 8}, only=["answers", "gradients"])
    assert (found.conformant, names(found.wrong)) == (False, {"gradients"})
    with pytest.raises(OpbenchError, match="fix: belongs to an operator"):
        opbench.check(f"{FILE}:Unused", fix={"k": 3})


def test_what_a_module_says_is_shown_and_never_obeyed():
    result = tried("Unused", only=("gradients",)).promises[0]
    evil = Promises(PromiseRequest("a.py:\x1b[31mM"), "M()", (), (result,), ("\x1b]0;owned\x07",), 0.0)
    assert "\x1b" not in "".join(promise_lines(evil, "opbench check"))


def test_every_promise_has_a_name_of_its_own_and_says_what_to_do():
    every = (*WRONG, *FRAGILE)
    assert len({one.name for one in every}) == len(every)
    assert all(one.statement and one.doing and one.advice for one in every)
