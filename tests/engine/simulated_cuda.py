"""A CUDA device that isn't there, for a whole command: every process of it begins with `install()`.

What would go to the device stays on the CPU, Triton's kernels are interpreted, and torch.cuda answers as one device of
few bytes would. Events are the host's clock, a graph is the call again. Times mean nothing. What it shows is that a
command goes its way to the end.
"""

import importlib.abc
import importlib.machinery
import os
import sys
import time
import types
from contextlib import contextmanager, nullcontext

NAME = "a simulated device, which is none"
BYTES = 8 << 30


def install():
    """Triton is interpreted, and modules are changed as they are imported."""
    os.environ["TRITON_INTERPRET"] = "1"
    sys.meta_path.insert(0, _Changing())


class _Changing(importlib.abc.MetaPathFinder):
    """Changes the modules of CHANGES right after they are imported, wherever they are found."""

    def find_spec(self, name, path=None, target=None):
        if name not in CHANGES:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Changed(spec.loader, CHANGES[name])
        return spec


class _Changed(importlib.abc.Loader):
    def __init__(self, loader, change):
        self._loader, self._change = loader, change

    def create_module(self, spec):
        return self._loader.create_module(spec)

    def exec_module(self, module):
        self._loader.exec_module(module)
        self._change(module)

    def __getattr__(self, name):
        return getattr(self._loader, name)


class Event:
    """A moment of the host's clock."""

    def __init__(self, enable_timing=False, **_):
        self.at = None

    def record(self, stream=None):
        self.at = time.perf_counter()

    def synchronize(self):
        pass

    def elapsed_time(self, end):
        return (end.at - self.at) * 1e3


class Stream:
    """All work is done in order, at once."""

    def wait_stream(self, other):
        pass

    def synchronize(self):
        pass


def _torch(torch):
    from torch.overrides import TorchFunctionMode

    def here(value):
        if isinstance(value, torch.device) and value.type == "cuda":
            return torch.device("cpu")
        return "cpu" if isinstance(value, str) and value.partition(":")[0] == "cuda" else value

    class OnTheCpu(TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            kwargs = {name: here(value) for name, value in (kwargs or {}).items()}
            return function(*map(here, args), **kwargs)

    class Generator(torch.Generator):
        def __new__(cls, device="cpu"):
            return super().__new__(cls, here(device))

    OnTheCpu().__enter__()
    torch.Generator = Generator
    properties = types.SimpleNamespace(
        name=NAME, uuid="0", major=9, minor=0, multi_processor_count=1, L2_cache_size=1 << 20, total_memory=BYTES,
        shared_memory_per_block_optin=228 << 10,
    )  # fmt: skip
    answers = {
        "is_available": True, "is_initialized": False, "_is_in_bad_fork": False, "device_count": 1,
        "current_device": 0, "get_device_name": NAME, "get_device_properties": properties,
        "get_device_capability": (9, 0), "synchronize": None, "empty_cache": None, "mem_get_info": (BYTES, BYTES),
        "memory_allocated": 0, "max_memory_allocated": 0, "reset_peak_memory_stats": None, "current_stream": Stream(),
        "is_current_stream_capturing": False, "manual_seed_all": None, "manual_seed": None,
    }  # fmt: skip
    for name, answer in answers.items():
        setattr(torch.cuda, name, lambda *_, answer=answer, **__: answer)
    torch.cuda.Event, torch.cuda.Stream = Event, Stream
    torch.cuda.stream = torch.cuda.device = lambda *_: nullcontext()
    torch.cuda.CUDAGraph = Graph
    torch.cuda.graph = captured


class Graph:
    """Nothing is recorded: what is replayed is what was computed once."""

    def replay(self):
        pass


@contextmanager
def captured(graph, **_):
    yield


def _cuda(module):
    module.FLUSH_BYTES = 1 << 16
    module.WARM_UP_SECONDS = module.WARMED_SECONDS = 0.0

    def capture(self, call):
        call()
        return call

    module.TorchDevice.capture = capture


def _yardsticks(module):
    module.LEAST_COPY_BYTES["cuda"] = 1 << 20
    module.MATMUL_SIZES["cuda"] = (64,)
    module.BUSY_SECONDS = 0.0


CHANGES = {"torch": _torch, "opbench.measure.cuda": _cuda, "opbench.measure.yardsticks": _yardsticks}
