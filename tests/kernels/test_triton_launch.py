"""Triton's launcher: what it chooses among, what it keeps, and what it says when it can't run."""

import subprocess
import sys
import types

import pytest
import torch

from opbench.kernels.triton import launch as triton_launch
from opbench.kernels.triton.launch import Candidate, power_of_two, spans_64_bits

triton = pytest.importorskip("triton", reason="triton is not installed")


def test_the_reason_for_not_running_is_said(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert triton_launch.missing() == "there is no CUDA device"
    monkeypatch.setattr(triton_launch.importlib.util, "find_spec", lambda name: None)
    assert triton_launch.missing() == "triton is not installed (pip install triton, on Linux)"
    monkeypatch.undo()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert triton_launch.missing() is None


def test_declaring_the_kernels_and_all_else_does_not_import_triton():
    """It takes as long as all that opbench declares."""
    names = ", ".join(f"opbench.kernels.triton.{name}" for name in ("carafe", "dcnv3", "dcnv4", "dysample"))
    program = f"import sys, {names}; from opbench import registry; registry.load(); print('triton' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "False"


@pytest.mark.parametrize(("number", "expected"), [(1, 1), (2, 2), (3, 4), (16, 16), (17, 32)])
def test_tiles_are_powers_of_two(number, expected):
    assert power_of_two(number) == expected


def test_64_bits_are_taken_where_an_image_spans_more_than_32():
    small = torch.empty(9, 2**15, 256, 255, device="meta")
    assert not spans_64_bits([small])
    assert spans_64_bits([small, torch.empty(1, 2**15, 256, 257, device="meta")])
    assert not spans_64_bits([torch.empty(1, 1, 1, 1, device="meta").expand(9, 2**15, 2**15, 9)])


class Kernel:
    """Stands for a compiled kernel: `took` milliseconds by its tile."""

    __name__ = "kernel"
    __module__ = "test"


@pytest.fixture
def choice(monkeypatch, tmp_path):
    """`choice(times, capturing)`: the tuned choice among tiles that take so long; and which were timed."""
    timed = []

    def choose(times, *, capturing=False, size=1):
        candidates = [Candidate({"B": block}) for block in times]

        def do_bench(start, **_):
            start()
            took = times[timed[-1].blocks["B"]]
            if took is None:
                raise triton.runtime.errors.OutOfResources(1, 0, "shared memory")
            return took

        monkeypatch.setattr(triton.testing, "do_bench", do_bench)
        monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: capturing)
        tensors = {"x": torch.empty(0)}
        chosen = triton_launch._choice(Kernel(), candidates, tensors, {"n": size}, {}, timed.append)
        return chosen.blocks["B"]

    monkeypatch.setattr(triton_launch, "_chosen", {})
    monkeypatch.setenv("OPBENCH_TRITON_TILES", "tune")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
    choose.timed = timed
    return choose


def test_the_fastest_candidate_is_chosen_once_for_calls_of_a_kind(choice):
    assert choice({16: 3.0, 32: 1.0, 64: 2.0}) == 32
    assert len(choice.timed) == 3
    assert choice({16: 1.0, 32: 3.0, 64: 2.0}) == 32, "it was chosen before"
    assert len(choice.timed) == 3
    assert choice({16: 1.0, 32: 3.0, 64: 2.0}, size=2) == 16, "another size is another call"


def test_a_candidate_too_large_for_the_device_is_passed_over(choice):
    assert choice({16: None, 32: 1.0}) == 32


def test_nothing_is_timed_while_a_graph_is_captured_or_where_there_is_no_choice(choice):
    assert choice({16: 3.0, 32: 1.0}, capturing=True) == 16
    assert choice({16: 3.0}) == 16
    assert not choice.timed


def test_too_many_programs_are_refused():
    from opbench.kernels.triton import sampling_kernels

    launch = triton_launch.launch
    tensors = {"x": torch.empty(1)}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(triton_launch, "_device", lambda tensors, interpreted: 0)
        patched.setattr(torch.cuda, "device", lambda device: pytest.MonkeyPatch.context())
        with pytest.raises(ValueError, match=r"cells would take 2147483648 programs.*split the batch"):
            launch(sampling_kernels.cells, [Candidate({})], lambda blocks: ({}, 2**31), tensors, {}, {})


def test_a_capture_takes_what_was_chosen_before_and_times_nothing(monkeypatch):
    """Else the graph would replay other tiles than the calls beside it."""

    def untimed(candidate):
        raise AssertionError("nothing is timed while a graph is captured")

    kernel = types.SimpleNamespace(__module__="m", __name__="forward")
    tensors = {"x": torch.empty(2, dtype=torch.float16)}
    call = (kernel, TILES, tensors, {"W": 2}, {"K": 3}, untimed)
    monkeypatch.setattr(triton_launch, "_chosen", {})
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    assert triton_launch._choice(*call) is TILES[0]
    assert triton_launch.choices() == ()
    kinds = ((torch.float16, torch.device("cpu")),)
    monkeypatch.setitem(triton_launch._chosen, ("m", "forward", kinds, 2, "3"), TILES[1])
    assert triton_launch._choice(*call) is TILES[1]
    assert triton_launch.choices() == ("forward float16: BC=32, 8 warps",)


TILES = (Candidate({"BC": 16}), Candidate({"BC": 32}, 8))
