"""The judge of outputs is a process of its own: what it is handed, what it answers, what the run makes of that."""

import os
import signal

import pytest
import torch
from factory import make_record
from msgspec.structs import replace

from opbench import registry
from opbench.build import build
from opbench.engine.judging.handing import hand_over, taken_over
from opbench.engine.judging.judge import Judge
from opbench.engine.judging.ledger import Judging
from opbench.engine.judging.messages import (
    AskJudge,
    Expected,
    ForeignDefinition,
    NotJudged,
    OutputJudged,
    Question,
)
from opbench.engine.messages import Measure
from opbench.process.memory_file import memory_file
from opbench.schema import Case, Panel, Settings, Verdict
from opbench.verify.gate import call

SHAPES = {"output": (2, 3), "x": (4,)}
RIGHT, WRONG = (Verdict(correct, 0.5, None, 0.1, 0.1, 6, sampled=False) for correct in (True, False))


def case(mode="inference", task="carafe_core", operator="carafe", implementation="declared-by-a-file"):
    """A case of an implementation that the judge has never heard of."""
    dims = {"N": 1, "C": 4, "H": 5, "W": 6, "k": 3, "g": 1, "s": 2}
    return Case(task, "small", operator, implementation, dims, "float32", "cpu", mode)


@pytest.fixture
def outputs():
    file_descriptor = memory_file("test")
    yield file_descriptor
    os.close(file_descriptor)


@pytest.fixture
def judge(outputs):
    registry.load_built_in()
    return Judge(outputs)


def answered(judge, question):
    (answer,) = judge.answer(question)
    return answer


def results(mode="inference"):
    """What a right implementation gives, and a judge's question about the case."""
    of = case(mode)
    first = next(iter(registry.operator(of.task, of.operator).implementations.values()))
    return call(build(of, first)), Question(panel="one", case=of, threads=1)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
def test_tensors_arrive_as_they_were(outputs, dtype):
    kind = getattr(torch, dtype)
    got = {"output": torch.randn(3, 2).to(kind).T, "x": torch.randn(4).to(kind)}
    found = taken_over(outputs, hand_over(outputs, got, SHAPES, dtype))
    assert list(found) == ["output", "x"]
    assert all(torch.equal(found[name], got[name]) for name in got)


def test_what_is_no_tensor_or_another_one_arrives_as_what_it_is(outputs):
    got = {"output": torch.zeros(7, 7), "x": None, "other": [1]}
    found = taken_over(outputs, hand_over(outputs, got, SHAPES, "float32"))
    assert found["output"].shape == (7, 7)
    assert found["x"] is None
    assert type(found["other"]).__name__ == "list"
    wide = taken_over(outputs, hand_over(outputs, {"x": torch.zeros(4, dtype=torch.float64)}, SHAPES, "float32"))
    assert wide["x"].dtype == torch.float64


def test_less_than_was_said_is_found(outputs):
    handed = hand_over(outputs, {"x": torch.ones(4)}, SHAPES, "float32")
    os.ftruncate(outputs, 8)
    with pytest.raises(ValueError, match="less was handed over"):
        taken_over(outputs, handed)


@pytest.mark.parametrize("mode", ["inference", "training"])
def test_the_judge_derives_the_answer_by_itself(judge, outputs, mode):
    got, question = results(mode)
    expected = answered(judge, question)
    assert isinstance(expected, Expected)
    assert {name: tuple(value.shape) for name, value in got.items()} == expected.shapes

    def verdict(given):
        handed = hand_over(outputs, given, expected.shapes, "float32")
        answer = answered(judge, replace(question, handed=handed))
        assert isinstance(answer, OutputJudged), answer
        return answer.verdict

    assert verdict(got).correct
    wrong = got["output"].clone()
    wrong[0, 0, 0, 0] += 1e-3
    assert not verdict({**got, "output": wrong}).correct
    assert "got None" in verdict({**got, "output": None}).reason
    assert "expected shape" in verdict({**got, "output": got["output"][:, :1]}).reason
    assert "expected dtype float32" in verdict({**got, "output": got["output"].double()}).reason


def test_a_later_visit_is_judged_by_a_sample(judge, outputs):
    got, question = results()
    first = replace(question, sampled=True)
    shapes = answered(judge, first).shapes
    answered(judge, Question(panel="another", case=case("training"), threads=1))
    handed = hand_over(outputs, got, shapes, "float32")
    later = answered(judge, replace(first, handed=handed, later=True)).verdict
    assert later.correct
    assert later.sampled
    nothing = hand_over(outputs, {"output": torch.ones_like(got["output"])}, shapes, "float32")
    assert not answered(judge, replace(first, handed=nothing, later=True)).verdict.correct


def test_a_definition_of_somebody_s_own_is_not_the_judge_s(judge):
    foreign = case(task="toy", operator="double")
    assert answered(judge, Question(panel="one", case=foreign)) == ForeignDefinition()


def test_bytes_that_are_not_there_cost_the_answer_alone(judge, outputs):
    got, question = results()
    handed = hand_over(outputs, got, answered(judge, question).shapes, "float32")
    os.ftruncate(outputs, 0)
    answer = answered(judge, replace(question, handed=handed))
    assert isinstance(answer, NotJudged)
    assert "less was handed over" in answer.message
    assert isinstance(answered(judge, question), Expected)


def work(*cases):
    panel = Panel(id="one", source="made up", baseline=cases[0].contender, cases=cases)
    return Measure(panel, Settings(suite="toy", precision=0.5, budget_seconds=0.1), memory_bytes=1 << 40)


@pytest.fixture(scope="module")
def judging(tmp_path_factory):
    """A judge's process beside which a file was named that ends whoever imports it."""
    file = tmp_path_factory.mktemp("file") / "ends.py"
    file.write_text("import os; os._exit(3)\n")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv(registry.WITH, str(file))
        made = Judging(1, None)
        yield made
        made.close()


def test_the_judge_s_process_loads_no_file_and_outlives_a_kill(judging):
    judging.begin(work(case()))
    assert isinstance(judging.answer(AskJudge(1), 0, 120.0), Expected)
    os.kill(judging._child.process.pid, signal.SIGKILL)
    got, _ = results()
    handed = hand_over(judging.file_descriptor, got, {"output": tuple(got["output"].shape)}, "float32")
    answer = judging.answer(AskJudge(1, handed), 0, 120.0)
    assert isinstance(answer, OutputJudged), answer
    assert answer.verdict.correct


def test_nobody_s_output_is_not_judged(judging):
    judging.begin(work(case()))
    for position in (None, 1, -1):
        assert isinstance(judging.answer(AskJudge(1, ()), position, 1.0), NotJudged)


def test_an_operator_of_somebody_s_own_is_judged_where_it_is_called(judging):
    cases = [case(task="toy", operator="double", implementation=name) for name in ("one", "other")]
    judging.begin(work(*cases))
    assert judging.answer(AskJudge(1), 0, 120.0) == ForeignDefinition()  # the worker asks once an operator
    assert judging.unbacked([make_record(of, outcome="ok") for of in cases]) is None


@pytest.mark.parametrize(
    ("verdicts", "backed"),
    [
        ([RIGHT] * 3, True),
        ([RIGHT] * 5, True),
        ([RIGHT] * 2, False),  # no timed call was judged
        ([], False),
        ([RIGHT, RIGHT, WRONG], False),
        ([RIGHT, WRONG, RIGHT], False),
    ],
)
def test_a_record_is_believed_when_all_of_its_calls_were_found_right(judging, verdicts, backed):
    judging.begin(work(case()))
    judging._verdicts[0] = verdicts
    record = make_record(case(), outcome="ok")
    assert judging.unbacked([record]) == (None if backed else 0)
    assert judging.unbacked([replace(record, outcome="incorrect", latencies=())]) is None


def test_the_first_suspect_is_who_was_judged_least(judging):
    judging.begin(work(case(), case(), case()))
    judging._verdicts.update({0: [RIGHT], 2: [RIGHT]})
    assert judging.unbacked([make_record(case(), outcome="ok")] * 3) == 1


def test_the_record_s_verdicts_are_the_judge_s(judging):
    judging.begin(work(case()))
    first, last = replace(RIGHT, max_error=0.25), replace(RIGHT, max_error=0.75)
    judging._verdicts[0] = [first, RIGHT, last]
    (record,) = judging.verdicts([make_record(case(), outcome="ok")])
    assert (record.verdict, record.final_verdict) == (first, last)
