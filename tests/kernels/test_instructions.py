"""results/cpu-facts is what the CPU's kernels take in instructions; and the counting itself is right."""

import sys
from pathlib import Path

import pytest
import torch
from by_day import tried
from emulated import counting

from opbench.kernels.cpu import launch

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "bench"))
import instructions  # noqa: E402  (a script beside the tests)

TABLE = (ROOT / "results" / "cpu-facts" / "instructions.md").read_text(encoding="utf-8")
missing = counting.AVX2.missing() or (None if counting.AVX512.runner() else "llvm-mca is not installed (Debian: llvm)")
counts = pytest.mark.skipif(missing is not None, reason=str(missing))

ASSEMBLY = """
kernel:
\tmovq\t(%rdi), %rax
.LBB0_1:
\tincq\t%rax
.LBB0_2:                                # the edge of an image
\tvmovups\t(%rsi), %zmm3 {%k1} {z}
\tvfmadd231ps\t%zmm3, %zmm1, %zmm0
\tvfmadd231ps\t%zmm3, %zmm1, %zmm2
\taddq\t$1, %rcx
\tjne\t.LBB0_2
.LBB0_3:
\tvmovups\t64(%rsp), %zmm3
\tvfmadd231ps\t(%rsi), %zmm3, %zmm0
\t.p2align\t4
\tje\t.LBB0_4
\taddq\t$64, %rsi
.LBB0_4:
\tcmpq\t%rsi, %rdx
\tjne\t.LBB0_3
\tcmpq\t%rax, %rdx
\tjne\t.LBB0_1
\tretq
"""


def test_loops_are_found_as_they_lie():
    edge, inner = counting.loops(ASSEMBLY)
    assert (edge.depth, edge.vectors, edge.spills, edge.masked, len(edge.lines)) == (2, 2, 0, True, 5)
    assert (inner.depth, inner.vectors, inner.spills, inner.masked, len(inner.lines)) == (2, 1, 1, False, 6)
    assert counting.hot(ASSEMBLY) == inner
    assert counting.hot("\tretq\n") is None


@counts
def test_a_loop_of_multiply_adds_takes_what_two_ports_and_the_chain_of_a_sum_make_of_it():
    apart = tuple(f"\tvfmadd231ps\t%zmm30, %zmm31, %zmm{sum_}" for sum_ in range(16))
    assert counting.predicted(counting.Loop(apart, 1)) == pytest.approx(8, abs=0.1)
    one = counting.Loop(("\tvfmadd231ps\t%zmm30, %zmm31, %zmm0",), 1)
    assert counting.predicted(one) == pytest.approx(4, abs=0.1)


@counts
def test_each_task_costs_the_same_instructions(tmp_path, monkeypatch):
    counted = counting.Counted(tmp_path)
    counted.take_over(monkeypatch)
    address = counted.load("emitted", "counted")
    for tasks in (512, 1024, 1536):  # eight chunks of whole rounds of the loop
        done = torch.zeros(tasks, dtype=torch.int64)
        launch.launch(address, [done.data_ptr()], tasks=tasks, scratch_bytes=0, work=1)
        assert done.tolist() == [1] * tasks
    first, second, third = (number for _, number in counted.instructions)
    assert second - first == third - second
    assert 512 / 8 < second - first < 512 * 4


@counts
@pytest.mark.parametrize(
    "problem",
    [tried(make(), by_day=False, id=make().name) for make in instructions.PROBLEMS if "20x20" in make().name],
)
def test_the_table_is_what_is_counted(problem):
    if not TABLE.startswith(instructions.head()):
        pytest.skip("the table is of another LLVM or llvm-mca")
    lines = instructions.rows(problem)
    assert lines
    assert set(lines) <= set(TABLE.splitlines())


def test_the_table_tells_of_every_problem_in_order():
    told = [line[2:].partition(": ")[0] for line in TABLE.splitlines() if ": " in line and line.startswith("| ")]
    assert list(dict.fromkeys(told)) == [make().name for make in instructions.PROBLEMS]
