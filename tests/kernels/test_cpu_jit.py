"""Kernels are compiled without a compiler on the machine, kept in the user's cache, and run every task once."""

import os
import subprocess
import sys
import textwrap
import threading
import time

import llvmlite.binding as llvm
import pytest
import torch
from by_day import tried
from emitted import counted, rearranged  # noqa: F401  (compiled by name)
from typer.testing import CliRunner

from opbench.cli import app
from opbench.kernels.cpu import jit, launch, processor
from opbench.kernels.cpu.ir import Kernel
from opbench.kernels.cpu.processor import VectorUnit


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache folder, and a process that has compiled nothing yet."""
    monkeypatch.setattr(jit, "_addresses", {})
    monkeypatch.setattr(jit, "cache_folder", lambda: tmp_path / "kernels")
    return tmp_path / "kernels"


def run(address, *tensors, tasks=1, work=0):
    launch.launch(address, [t.data_ptr() for t in tensors], tasks=tasks, scratch_bytes=0, work=work)


@pytest.mark.parametrize("s", [1, 2, 3, 4, 5])
def test_vectors_are_rearranged_as_named(cache, s):
    source = torch.randn(s * 8)
    expected = {"interleave": source.view(s, 8).T, "deinterleave": source.view(8, s).T}
    for way, values in expected.items():
        target = torch.zeros(s * 8)
        run(jit.kernel("emitted", "rearranged", s, way), source, target)
        assert torch.equal(target, values.flatten())
    target = torch.zeros(8)
    run(jit.kernel("emitted", "rearranged", s, "sums"), source, target)
    torch.testing.assert_close(target[:s], source.view(s, 8).sum(1))


@pytest.mark.parametrize("tasks", [1, 7, 1000])
@pytest.mark.parametrize("threads", [1, 2, 5, 64])
@pytest.mark.parametrize("team", ["torch's threads", "helpers"])
def test_every_task_runs_once(cache, monkeypatch, tasks, threads, team):
    if team == "helpers":
        monkeypatch.setattr(launch, "team", lambda: None)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for _ in range(20):
            done = torch.zeros(tasks + 1, dtype=torch.int64)
            run(jit.kernel("emitted", "counted"), done, tasks=tasks, work=10**9)
            assert torch.equal(done[:-1], torch.ones(tasks, dtype=torch.int64))
            assert done[-1] == 0
    finally:
        torch.set_num_threads(before)


FORKED = """
import os, sys, torch
from opbench.kernels.cpu import launch
if sys.argv[1] == "many":
    torch.set_num_threads(2)
    torch.ones(4_000_000).add_(1)  # on OpenMP's threads
pid = os.fork()
if pid == 0:
    os._exit(0 if (launch.team() is None) == (sys.argv[1] == "many") else 1)
_, status = os.waitpid(pid, 0)
sys.exit(os.waitstatus_to_exitcode(status))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize("threads", ["one", "many"])
def test_torch_s_threads_are_asked_in_a_child_only_where_none_were_lost(threads):
    if launch._gomp_parallel() is None:
        pytest.skip("this build of torch has no GNU OpenMP")
    alone = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}  # numpy's own pool, begun when it is imported
    subprocess.run([sys.executable, "-W", "ignore", "-c", FORKED, threads], check=True, timeout=60, env=alone)


def refuse_to_compile(*arguments):
    raise AssertionError("compiled although the cache holds it")


def test_ctrl_c_waits_for_the_threads_that_still_write(monkeypatch):
    began, ended = threading.Event(), []

    def kernel(values):
        if threading.current_thread() is threading.main_thread():
            assert began.wait(10)
            raise KeyboardInterrupt
        values[launch.ACTIVE] = 1
        began.set()
        time.sleep(0.2)
        ended.append(values[launch.COUNTER])
        values[launch.ACTIVE] = 0

    monkeypatch.setattr(launch, "_function", lambda address: kernel)
    monkeypatch.setattr(launch, "team", lambda: None)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(KeyboardInterrupt):
            launch.launch(0, [], tasks=7, scratch_bytes=0, work=10**9)
    finally:
        torch.set_num_threads(threads)
    # And helpers that came later would have found nothing left to do.
    assert ended == [7]


def test_a_compiled_kernel_is_found_in_the_cache(cache, monkeypatch):
    jit.kernel("emitted", "counted")
    assert len(list(cache.iterdir())) == 1
    monkeypatch.setattr(jit, "_addresses", {})
    monkeypatch.setattr(jit, "_compile", refuse_to_compile)
    done = torch.zeros(1, dtype=torch.int64)
    run(jit.kernel("emitted", "counted"), done)
    assert done.item() == 1


@pytest.mark.parametrize("damage", [lambda code: code[:100], lambda code: b"", lambda code: code[:-1] + b"?"])
def test_a_damaged_cache_file_is_compiled_again(cache, monkeypatch, damage):
    jit.kernel("emitted", "counted")
    (file,) = cache.iterdir()
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    monkeypatch.setattr(jit, "_addresses", {})
    done = torch.zeros(1, dtype=torch.int64)
    run(jit.kernel("emitted", "counted"), done)
    assert done.item() == 1
    assert file.read_bytes() == whole


def test_other_sources_or_parameters_are_other_kernels(cache, monkeypatch):
    jit.kernel("emitted", "rearranged", 2, "interleave")
    jit.kernel("emitted", "rearranged", 2, "deinterleave")
    monkeypatch.setattr(jit, "_addresses", {})
    monkeypatch.setattr(jit, "_sources", lambda: "another version")
    jit.kernel("emitted", "rearranged", 2, "interleave")
    assert len(list(cache.iterdir())) == 3


def test_without_a_folder_to_write_to_kernels_are_compiled_all_the_same(tmp_path, monkeypatch):
    occupied = tmp_path / "a file"
    occupied.write_text("")
    monkeypatch.setattr(jit, "_addresses", {})
    monkeypatch.setattr(jit, "cache_folder", lambda: occupied / "kernels")
    done = torch.zeros(1, dtype=torch.int64)
    run(jit.kernel("emitted", "counted"), done)
    assert done.item() == 1


def test_without_llvmlite_the_reason_is_given(monkeypatch):
    assert processor.missing() is None
    monkeypatch.setattr(processor.importlib.util, "find_spec", lambda name: None)
    assert "pip install llvmlite" in processor.missing()
    processor.machine.cache_clear()
    try:
        with pytest.raises(ImportError, match="llvmlite is not installed"):
            processor.machine()
    finally:
        processor.machine.cache_clear()


@pytest.fixture
def another_llvmlite(monkeypatch, tmp_path):
    """Puts a package of the same name in front of the one that is installed, and has it looked at anew."""

    def put(source):
        package = tmp_path / "llvmlite"
        package.mkdir()
        (package / "__init__.py").write_text(source)
        for part in ("binding", "ir"):
            (package / f"{part}.py").write_text("")
        monkeypatch.syspath_prepend(str(tmp_path))
        for name in [name for name in sys.modules if name.split(".")[0] == "llvmlite"]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setattr(processor, "_looked", [])

    yield put
    for name in [name for name in sys.modules if name.split(".")[0] == "llvmlite"]:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("raise OSError('libllvmlite.so: cannot open shared object file')", "can't be loaded: OSError: libllvmlite.so"),
        ("__version__ = '0.43.0'", "llvmlite 0.43.0 is too old: 0."),
    ],
)
def test_an_llvmlite_that_is_broken_or_too_old_is_named_with_its_cure(another_llvmlite, source, said):
    another_llvmlite(source)
    assert said in processor.missing()
    assert "(pip install -" in processor.missing()


def test_importing_the_operations_loads_no_compiler():
    source = """
        import sys
        import opbench.kernels.cpu.carafe, opbench.kernels.cpu.dcnv3, opbench.kernels.cpu.sampling
        assert not any(name.startswith(("llvmlite", "numba")) for name in sys.modules)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(source)], check=True)


KERNELS = {
    "carafe_first": [
        ("forward", ("bfloat16", 3, 2, "logits", True)),
        ("grad_x", ("float32", 3, 2, "apart")),
        ("grad_mask", ("float16", 3, 2, "mask")),
    ],
    "carafe_last": [
        ("forward", ("float16", 3, 2, "logits last", 4, 2, True)),
        ("grad_x", ("float64", 3, 2, "mask", 2, 1)),
        ("grad_mask", ("bfloat16", 3, 2, "apart", 4)),
    ],
    "carafe_logits": [("weights", ("float64", 3, 2, "logits")), ("weights", ("bfloat16", 3, 2, "logits last"))],
    "sampling_kernels": [
        ("forward", ("float32", "window", "x", "mask", False, 4, 2)),
        ("forward", ("float16", "border-twice", "x", "none", True, 4, 2)),
        ("grad_offset_mask", ("bfloat16", "window", "x", "logits", False, 4, 1, True, True)),
        ("grad_offset_mask", ("float32", "border-twice", "y", "mask", True, 4, 1, True, True)),
        ("grad_x", ("float16", "zeros", "x", "none", True, 1, 1)),
    ],
    "dysample_kernels": [
        ("forward", ("float32", 2, False, 1, False)),
        ("grad_offset", ("bfloat16", 2, True)),
        ("grad_image", ("float16", 3, False, 1)),
    ],
    "layout_kernels": [("move", ("float32", "float32", False)), ("move", ("float16", "float32", True))],
}
PROCESSORS = {
    "arm64-apple-macosx13": ("apple-m1", (16, 32)),
    "aarch64-unknown-linux-gnu": ("neoverse-n1", (16, 32)),
    "x86_64-pc-windows-msvc": ("haswell", (32, 16)),
    "x86_64-unknown-linux-gnu": ("ivybridge", (16, 16)),
}


# By day each module for one of them, in turn.
@pytest.mark.parametrize(
    ("triple", "module"),
    [
        tried(triple, module, by_day=turn % len(PROCESSORS) == at)
        for turn, module in enumerate(KERNELS)
        for at, triple in enumerate(PROCESSORS)
    ],
)
def test_kernels_compile_for_other_processors(triple, module):
    """To machine code that calls nothing but what every C library has."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    processor, shape = PROCESSORS[triple]
    machine = llvm.Target.from_triple(triple).create_target_machine(cpu=processor, opt=2, codemodel="small")
    for name, parameters in KERNELS[module]:
        kernel = Kernel(name, VectorUnit(*shape))
        getattr(__import__(f"opbench.kernels.cpu.{module}", fromlist=[name]), name)(kernel, *parameters)
        code = llvm.parse_assembly(kernel.finish())
        code.triple = triple
        passes = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=2))
        passes.getModulePassManager().run(code, passes)
        assembly = machine.emit_assembly(code)
        calls = {
            line.split()[1].lstrip("_").removesuffix("@PLT")
            for line in assembly.splitlines()
            if line.split()[:1] in (["bl"], ["callq"])
        }
        assert calls <= {"memset", "bzero", "memcpy", "chkstk"}, calls


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_fork_waits_for_a_compilation_in_another_thread():
    script = """
import os, threading, time
from opbench.kernels.cpu import jit

jit._lock.acquire()  # as a thread does that compiles
threading.Timer(0.2, jit._lock.release).start()
pid = os.fork()
if pid == 0:
    os._exit(0 if jit._lock.acquire(timeout=5) else 3)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, "the child inherited a lock that nobody will release"
assert jit._lock.acquire(timeout=5)
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", script], check=True, timeout=120)


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="no users on this system")
@pytest.mark.parametrize("place", ["file", "folder"])
@pytest.mark.parametrize("others_may", ["own", "write as a group", "write"])
def test_code_that_somebody_else_may_have_written_is_not_run(cache, monkeypatch, place, others_may):
    jit.kernel("emitted", "counted")
    (file,) = cache.iterdir()
    planted = file if place == "file" else cache
    if others_may == "own":
        if os.getuid() != 0:
            pytest.skip("only root can give a file away")
        os.chown(planted, 12345, -1)
    else:
        planted.chmod(0o777 if others_may == "write" else 0o770)
    monkeypatch.setattr(jit, "_addresses", {})
    compiled = []
    real = jit._compile
    monkeypatch.setattr(jit, "_compile", lambda *key: compiled.append(key) or real(*key))
    jit.kernel("emitted", "counted")
    assert compiled


def test_the_cache_can_be_emptied(cache):
    jit.kernel("emitted", "counted")
    assert jit.clear_cache() == 1
    assert not list(cache.iterdir())
    assert jit.clear_cache() == 0


def test_the_command_empties_the_cache(cache):
    jit.kernel("emitted", "counted")
    done = CliRunner().invoke(app, ["env", "--clear-cache"])
    assert done.stdout == f"1 compiled kernel removed from {cache}\n"
    assert not list(cache.iterdir())
