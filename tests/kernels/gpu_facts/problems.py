"""The calls of which facts are told: an operator's core at a size that a suite has, and the launches that it makes.

Each is laid out twice: without data at its own size, which decides about tiles, and with data for one image, of which
every program is interpreted. Images come one after the other in a launch, and all of them ask for as much; offsets are
drawn.
"""

from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from ahead import Launch

from opbench.kernels.triton import carafe as triton_carafe
from opbench.kernels.triton import dcnv4 as triton_dcnv4
from opbench.kernels.triton import dysample as triton_dysample
from opbench.kernels.triton import sampling_call

FORMATS = {"first": torch.contiguous_format, "last": torch.channels_last}
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Problem:
    """One kernel of one call: the operator, the kernel's name, N C H W, the dtype, and what else the call is made of.

    `interpreted`: its programs' addresses are looked at; else it is compiled alone.
    """

    operator: str
    kernel: str
    shape: tuple[int, int, int, int]
    dtype: str
    settings: dict = field(default_factory=dict)
    interpreted: bool = True

    @property
    def name(self):
        """In one line, as the table has it."""
        said = [self.operator, self.kernel, "x".join(map(str, self.shape)), self.dtype]
        return " ".join([*said, *(f"{name}={value}" for name, value in self.settings.items())])

    def launch(self, images=None, device="meta"):
        """The launch of this kernel; of so many `images` in place of all."""
        _, c, h, w = self.shape
        shape = (images or self.shape[0], c, h, w)
        call = {"carafe": _carafe, "dcnv3": _sampling, "dcnv4": _sampling, "dysample": _dysample}[self.operator]
        generator = torch.Generator().manual_seed(0)

        def drawn(*size, spread=1.0, dtype=None):
            if device == "meta":
                return torch.empty(size, dtype=dtype or DTYPES[self.dtype], device=device)
            return (torch.randn(size, generator=generator) * spread).to(dtype or DTYPES[self.dtype])

        with _recording() as launches:
            call(self, shape, drawn)
        (found,) = [one for one in launches if one.kernel.__name__ == self.kernel]
        return found


@contextmanager
def _recording():
    launches = []

    def record(kernel, candidates, programs, tensors, arguments, constants, prepare=None):
        launches.append(Launch(kernel, tuple(candidates), programs, dict(tensors), dict(arguments), dict(constants)))

    modules = (triton_carafe, triton_dysample, sampling_call)
    before = [module.launch for module in modules]
    for module in modules:
        module.launch = record
    try:
        yield launches
    finally:
        for module, launch in zip(modules, before, strict=True):
            module.launch = launch


def _carafe(problem, shape, drawn):
    n, c, h, w = shape
    k, g, s = 5, 1, 2
    last, logits = problem.settings["channels"] == "last", problem.settings.get("from") == "logits"
    x, out = (drawn(n, c, f * h, f * w).contiguous(memory_format=FORMATS["last" if last else "first"]) for f in (1, s))
    mask = drawn(n, g * k * k * s * s, h, w) if logits else drawn(n, g * k * k, s * h, s * w)
    call = triton_carafe._Call(x, mask, (k, g, s), logits)
    stats = triton_carafe._stats(x, g, s) if logits else None
    if stats is not None and stats.device.type == "cpu":
        stats.fill_(1)
    {
        "forward": lambda: call.forward(out, stats),
        "grad_x": lambda: call.grad_x(out, torch.empty_like(x), stats),
        "grad_mask": lambda: call.grad_mask(out, torch.empty_like(mask), stats),
    }[problem.kernel]()


def _sampling(problem, shape, drawn):
    n, c, h, w = shape
    g, points, spread = problem.settings["G"], 9, problem.settings["px"]
    x = drawn(n, h, w, c)
    if problem.operator == "dcnv4":
        packed = drawn(n, h, w, -(-3 * g * points // 8) * 8, spread=spread)
        offset, mask = triton_dcnv4._parts(packed, g, points)
    else:
        offset, mask = drawn(n, h, w, g, 2 * points, spread=spread), drawn(n, h, w, g, points)
    logits = problem.settings.get("from") == "logits"
    call = sampling_call.WindowCall(x, offset, mask, (3, 1, 1, 1, g, 1.0, False), logits)
    if problem.kernel == "forward":
        call.forward(torch.empty_like(x))
    else:
        made = (x, offset, mask) if problem.operator == "dcnv4" else [torch.empty_like(t) for t in (x, offset, mask)]
        call.backward(torch.empty_like(x), made, (True, True, True))


def _dysample(problem, shape, drawn):
    n, c, h, w = shape
    g, s, format = problem.settings["G"], 2, FORMATS[problem.settings["channels"]]
    x, out = (drawn(n, c, f * h, f * w).contiguous(memory_format=format) for f in (1, s))
    dtype = torch.promote_types(x.dtype, torch.float32)
    offset = drawn(n, 2 * g * s * s, h, w, spread=problem.settings["px"], dtype=dtype)
    call = triton_dysample._Call(x, offset, s, g)
    call.forward(out)


def _problems():
    batch, wide = (16, 256, 80, 80), (1, 256, 200, 336)
    for dtype in ("float16", "float32"):
        for channels in ("first", "last"):
            yield Problem("carafe", "forward", batch, dtype, {"channels": channels})
    for channels in ("first", "last"):
        yield Problem("carafe", "forward", wide, "float16", {"channels": channels})
        yield Problem("carafe", "forward", batch, "float16", {"channels": channels, "from": "logits"})
        for kernel in ("grad_x", "grad_mask"):
            yield Problem("carafe", kernel, batch, "float16", {"channels": channels})
    yield Problem("carafe", "forward", (1, 256, 20, 20), "float16", {"channels": "first"})
    paper = (64, 128, 56, 56)
    for px in (0, 2):
        yield Problem("dcnv3", "forward", paper, "float16", {"G": 4, "px": px})
    yield Problem("dcnv3", "forward", paper, "float32", {"G": 4, "px": 2})
    yield Problem("dcnv3", "forward", paper, "float16", {"G": 4, "px": 2, "from": "logits"})
    yield Problem("dcnv3", "backward", paper, "float16", {"G": 4, "px": 2})
    yield Problem("dcnv3", "forward", (1, 64, 40, 40), "float16", {"G": 4, "px": 2})
    yield Problem("dcnv4", "forward", paper, "float16", {"G": 4, "px": 2})
    for channels in ("first", "last"):
        settings = {"G": 4, "px": 1, "channels": channels}
        yield Problem("dysample", "forward", batch, "float16", settings, interpreted=False)


PROBLEMS = tuple(_problems())
