"""A core is chosen while torch.compile traces: what is missing here is looked for once, and not traced."""

import os
import warnings

import pytest
import torch

from opbench.operators.common.choice import CoreTable
from opbench.operators.common.looking import once
from opbench.schema import Implementation


def looking(found):
    """Looks for a file, as the search for a compiler does, which torch.compile can't trace."""

    def look():
        os.stat(os.sep)
        found.append(1)

    return look


def table(missing):
    return CoreTable(Implementation("mine", lambda x: 2 * x, missing=missing), fallback="mine", kernels=("mine",))


def test_it_is_looked_for_once():
    found = []
    missing = once(looking(found))
    assert [missing() for _ in range(3)] == [None] * 3
    assert found == [1]


@pytest.mark.parametrize("name", ["mine", "auto"])
def test_torch_compile_traces_nothing_of_it_and_warns_of_nothing(name):
    cores = table(once(looking([])))

    @torch.compile(backend="eager", fullgraph=True)
    def doubled(x):
        return cores.choose(name, "cpu")(x)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=r"`torch\.jit\.")  # torch's own, as dynamo is imported
        assert torch.equal(doubled(torch.ones(2)), torch.full((2,), 2.0))
