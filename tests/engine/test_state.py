"""The list of what a process shares: each piece of it, changed, is put back and said; the code that judges, too."""

import gc
import io
import locale
import os
import resource
import signal
import sys
import threading
import time
import types
import warnings

import numpy
import pytest
import torch
import torch.nn.functional as functional
from torch.nn.modules import module as modules

from opbench.engine import fingerprint, state
from opbench.verify import gate

ANY = signal.SIGUSR1


def lower_a_limit():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft - 1, hard))


def other(owner, name):
    return lambda: setattr(owner, name, not getattr(owner, name))


def use_one_core():
    cores = os.sched_getaffinity(0)
    if len(cores) < 2:
        pytest.skip("one core")
    os.sched_setaffinity(0, {min(cores)})


def keep_on_saving():
    torch.autograd.graph.saved_tensors_hooks(lambda x: x, lambda x: x).__enter__()


def another_engine():
    now = torch.backends.quantized.engine
    others = [name for name in torch.backends.quantized.supported_engines if name not in (now, "none")]
    if not others:
        pytest.skip("torch has one quantized engine here")
    torch.backends.quantized.engine = others[0]


def other_digits():
    locale.setlocale(locale.LC_NUMERIC, "C.UTF-8" if locale.setlocale(locale.LC_NUMERIC) == "C" else "C")


# How each piece of the state is changed. What isn't here can't be put back, and costs the process.
CHANGES = {
    "torch's thread count": lambda: torch.set_num_threads(torch.get_num_threads() + 1),
    "torch's default dtype": lambda: torch.set_default_dtype(torch.float64),
    "torch's default device": lambda: torch.set_default_device("meta"),
    "whether gradients are recorded": lambda: torch._C._set_grad_enabled(not torch.is_grad_enabled()),
    "anomaly detection": lambda: torch.autograd.set_detect_anomaly(True),
    "autocast": lambda: torch.set_autocast_enabled("cpu", True),
    "torch's deterministic mode": lambda: torch.use_deterministic_algorithms(True),
    "the fill of new memory": other(torch.utils.deterministic, "fill_uninitialized_memory"),
    "the precision of float32 products": lambda: torch.set_float32_matmul_precision("medium"),
    "TF32 in convolutions": other(torch.backends.cudnn, "allow_tf32"),
    "cuDNN": other(torch.backends.cudnn, "enabled"),
    "cuDNN's benchmark mode": other(torch.backends.cudnn, "benchmark"),
    "cuDNN's deterministic mode": other(torch.backends.cudnn, "deterministic"),
    "oneDNN": lambda: torch._C._set_mkldnn_enabled(not torch._C._get_mkldnn_enabled()),
    "NNPACK": lambda: torch._C._set_nnpack_enabled(not torch._C._get_nnpack_enabled()),
    "fused attention": lambda: torch.backends.cuda.enable_flash_sdp(not torch.backends.cuda.flash_sdp_enabled()),
    "memory-saving attention": lambda: torch.backends.cuda.enable_mem_efficient_sdp(False),
    "plain attention": lambda: torch.backends.cuda.enable_math_sdp(False),
    "threads of the backward pass": lambda: torch._C._set_multithreading_enabled(False),
    "whether the smallest numbers are flushed to zero": lambda: torch.set_flush_denormal(True),
    "how tensors are printed": lambda: torch.set_printoptions(precision=1),
    "hooks on every module": lambda: modules.register_module_forward_hook(lambda *_: None),
    "the garbage collector": lambda: gc.disable() if gc.isenabled() else gc.enable(),
    "the garbage collector's thresholds": lambda: gc.set_threshold(1),
    "what the garbage collector calls": lambda: gc.callbacks.append(lambda *_: None),
    "how often Python's threads take turns": lambda: sys.setswitchinterval(1e-3),
    "how deep Python may recurse": lambda: sys.setrecursionlimit(sys.getrecursionlimit() + 50),
    "what sees every call of Python": lambda: sys.setprofile(lambda *_: None),
    "what sees every line of Python": lambda: sys.settrace(lambda *_: None),
    "what sees every call of new threads": lambda: threading.setprofile(lambda *_: None),
    "which warnings are shown": lambda: warnings.simplefilter("ignore", ResourceWarning),
    "what is done on a signal": lambda: signal.signal(ANY, lambda *_: None),
    "timers that interrupt": lambda: signal.setitimer(signal.ITIMER_VIRTUAL, 1000.0),
    "the current folder": lambda: os.chdir("/"),
    "the environment's variables": lambda: os.environ.update(OMP_PROC_BIND="true"),
    "hooks on what is saved for the backward pass": keep_on_saving,
    "how NumPy handles floating-point errors": lambda: numpy.seterr(all="ignore"),
    "the quantized engine": another_engine,
    "what sees every line of new threads": lambda: threading.settrace(lambda *_: None),
    "the standard streams": lambda: setattr(sys, "stderr", io.StringIO()),
    "the locale": other_digits,
    "the umask": lambda: os.umask(0o077),
    "which signals are blocked": lambda: signal.pthread_sigmask(signal.SIG_BLOCK, {ANY}),
    "the scheduling policy": lambda: os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0)),
    "the cores it may run on": use_one_core,
    "the system's limits": lower_a_limit,
}
FOR_GOOD = {
    "inference mode",
    "modes that see every call of torch",
    "modes that see every operation of torch",
    "the process's priority",  # of a user who may lower it, and not raise it again
}


@pytest.fixture
def before():
    held = state.state()
    yield held
    state.restore(held)


def test_every_setting_is_tried_here():
    assert {setting.name for setting in state.SETTINGS} == CHANGES.keys() | FOR_GOOD


@pytest.mark.parametrize("name", CHANGES)
def test_what_is_changed_is_put_back_and_said(name, before):
    CHANGES[name]()
    said = state.restore(before)
    assert any(change.startswith(f"changed {name}") and change.endswith("; put back") for change in said), said
    assert state.restore(before) == []


def test_what_can_not_be_put_back_is_said(before):
    with torch.inference_mode(), pytest.raises(state.Unrestorable, match=r"inference mode.*can't be put back"):
        state.restore(before)


def test_a_thread_counts_however_it_was_started():
    import _thread

    before, go = state.threads(), threading.Event()
    _thread.start_new_thread(go.wait, ())
    until = time.monotonic() + 10
    while state.threads() == before and time.monotonic() < until:
        time.sleep(0.01)
    assert state.threads() == before + 1
    go.set()


@pytest.fixture(scope="module")
def held():
    return fingerprint.Fingerprint()


def test_a_function_of_torch_that_is_replaced_is_a_tool_and_put_back(held):
    unfold = functional.unfold
    functional.unfold = lambda *given: unfold(*given)
    assert held.put_back(all_of_it=False) == ([], ["torch.nn.functional.unfold"])
    assert functional.unfold is unfold
    assert held.put_back() == ([], [])


def test_what_torch_s_own_compiler_replaces_is_put_back_and_nobody_s_note(held, monkeypatch):
    init = torch.nn.Module.__init__
    wrapper = next(  # any function whose code lies in torch's files
        one for one in vars(torch.nn.Module).values() if isinstance(one, types.FunctionType) and one is not init
    )
    monkeypatch.setattr(torch.nn.Module, "__init__", wrapper)
    assert held.put_back(all_of_it=False) == ([], [])
    assert torch.nn.Module.__init__ is init


class SaysItIsEqual:
    def __eq__(self, other):
        return True

    def __hash__(self):
        return 0


@pytest.mark.parametrize(
    ("owner", "name", "said"),
    [
        (gate.Reference, "judge", "Reference.judge"),
        (gate, "judge", "opbench.verify.gate.judge"),
        (gate.check, "__code__", "opbench.verify.gate.check"),
        (time, "perf_counter", "time.perf_counter"),
    ],
)
def test_what_judges_is_told_from_a_tool_whatever_it_says_of_itself(held, owner, name, said):
    was = getattr(owner, name)
    setattr(owner, name, (lambda built, expected: None).__code__ if name == "__code__" else SaysItIsEqual())
    assert held.put_back(all_of_it=False) == ([said], [])
    assert getattr(owner, name) is was


def test_what_a_module_keeps_for_itself_is_no_code(held):
    from opbench.engine import own_process

    own_process._counted = 3
    assert held.put_back() == ([], [])
    del own_process._counted
    assert held.put_back() == ([], [])
