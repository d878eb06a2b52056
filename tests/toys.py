"""A toy task with one right operator and implementations that go wrong in every way a contender can."""

import torch

from opbench.registry import register_operator, register_task
from opbench.schema import Cost, Implementation, Operator, Task, Terms

TASK = "toy"


class Doubler(torch.nn.Module):
    def __init__(self, dims, implementation):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(dims["C"]))
        function = implementation.function
        self.function = function() if isinstance(function, type) else function  # a fresh state per module

    def forward(self, x):
        return self.function(x, self.weight)


def right(x, weight):
    return x * 2 * weight


def wrong(x, weight):
    return x * 2.001 * weight


def sloppy(x, weight):
    return (x.bfloat16() * 2 * weight.bfloat16()).to(x.dtype)


def forgets_gradient(x, weight):
    return x * 2 * weight.detach()


def raises(x, weight):
    raise ValueError("this contender always raises\nwith details")


def unsupported(x, weight):
    raise NotImplementedError("float32 is not supported")


def out_of_memory(x, weight):
    return torch.empty(1 << 60) + x


def unwritten(x, weight):
    out = torch.empty_like(x)
    out[:, 1:] = (x * 2 * weight)[:, 1:]
    return out


def mutates(x, weight):
    out = x * 2 * weight
    x.data.mul_(1.5)
    return out


class Stale:
    """Right on its first calls, then returns what it computed before, of other inputs."""

    def __init__(self):
        self.calls = 0

    def __call__(self, x, weight):
        self.calls += 1
        return right(x, weight) if self.calls < 40 else torch.zeros_like(x) + 3


class RaisesLater:
    def __init__(self):
        self.calls = 0

    def __call__(self, x, weight):
        self.calls += 1
        if self.calls > 40:
            raise RuntimeError("worn out")
        return right(x, weight)


def implementations():
    functions = {
        "right": right,
        "also-right": lambda x, weight: (x + x) * weight,
        "wrong": wrong,
        "sloppy": sloppy,
        "forgets-gradient": forgets_gradient,
        "raises": raises,
        "unsupported": unsupported,
        "out-of-memory": out_of_memory,
        "unwritten": unwritten,
        "mutates": mutates,
        "stale": Stale,
        "raises-later": RaisesLater,
    }
    table = {name: Implementation(name, function) for name, function in functions.items()}
    table["elsewhere"] = Implementation("elsewhere", right, missing=lambda: "needs a machine from the future")
    return table


def inputs(dims, spread, generator):
    return {"x": torch.randn(dims["N"], dims["C"], generator=generator, dtype=torch.float64)}


def magnitude(dims, tensors, grad_output):
    x, weight = tensors["x"].abs(), tensors["weight"].abs()
    terms = {"output": Terms(2 * x * weight, 1)}
    if grad_output is not None:
        g = grad_output.abs()
        terms["x"] = Terms(2 * g * weight, 1)
        terms["weight"] = Terms((2 * g * x).sum(0), dims["N"])
    return terms


register_task(Task(TASK, "doubling: (N, C) -> (N, C)", "double[right]", ("N", "C")))
register_operator(
    Operator(
        name="double",
        task=TASK,
        title="twice the input",
        source="made up for the tests",
        inputs=inputs,
        module=Doubler,
        definition=lambda dims, tensors, training: tensors["x"] * 2 * tensors["weight"],
        cost=lambda dims: Cost(dims["C"], dims["N"] * dims["C"], 2 * dims["N"] * dims["C"], 3 * dims["N"] * dims["C"]),
        implementations=implementations(),
        magnitude=magnitude,
        requires=lambda dims: "C is odd" if dims["C"] % 2 else None,
    )
)
