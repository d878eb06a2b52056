"""Triton kernels compiled for GPUs that aren't here: exactly what a launch would run, and what came of it."""

import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch

CAPABILITIES = (80, 90, 100)


@dataclass(frozen=True)
class Launch:
    """What a launcher asked for."""

    kernel: object
    candidates: tuple
    programs: object
    tensors: dict
    arguments: dict
    constants: dict


@dataclass(frozen=True)
class Compiled:
    """Resources of one kernel, in registers a thread and bytes; its innermost loops in Triton's IR, that, PTX, code."""

    registers: int
    spilled: int
    shared: int
    ptx: str
    loops: str
    ttgir: str
    cubin: bytes

    def count(self, instruction):
        return len(re.findall(instruction, self.ptx))


def recorded(monkeypatch, modules, work):
    """The launches that `work` would make of these modules' kernels, with tensors that have no data."""
    launches = []

    def record(kernel, candidates, programs, tensors, arguments, constants, prepare=None):
        launches.append(Launch(kernel, tuple(candidates), programs, dict(tensors), dict(arguments), dict(constants)))

    with monkeypatch.context() as patched:
        for module in modules:
            patched.setattr(module, "launch", record)
        work()
    return launches


def compiled(launch, candidate, capability):
    """Specialised as Triton's launcher does: integers of 1 are constants, multiples of 16 are known as such."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    more, _ = launch.programs(candidate.blocks)
    given = {**launch.tensors, **launch.arguments, **more, **launch.constants, **candidate.blocks}
    signature, constants, attributes = {}, {}, {}
    for index, parameter in enumerate(launch.kernel.params):
        name, value = parameter.name, given.pop(parameter.name)
        if parameter.is_constexpr or (isinstance(value, int) and value == 1):
            signature[name], constants[index,] = "constexpr", value
            continue
        if isinstance(value, torch.Tensor):
            # A view may begin anywhere; what it is a view of is allocated at a multiple of 16 bytes.
            signature[name] = "*" + _DTYPES[value.dtype]
            whole = value.storage_offset() * value.element_size() % 16 == 0
        else:
            signature[name], whole = "i32" if abs(value) < 2**31 else "i64", value % 16 == 0
        if whole:
            attributes[index,] = [["tt.divisibility", 16]]
    assert not given, f"{launch.kernel.__name__} has no parameters {list(given)}"
    source = ASTSource(launch.kernel, signature, constants, attributes)
    built = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=candidate.options)
    registers, stack, local = _resources(built.asm["cubin"])
    ttgir = built.asm["ttgir"]
    return Compiled(
        registers, stack + local, built.metadata.shared, built.asm["ptx"], innermost(ttgir), ttgir, built.asm["cubin"]
    )


def innermost(ttgir):
    """The loops of the IR that hold no other."""
    found, begun = [], []
    for number, line in enumerate(ttgir.splitlines()):
        if "scf.for" in line:
            begun.append([number, True])
            for outer in begun[:-1]:
                outer[1] = False
        elif "scf.yield" in line and begun and _depth(line) == _depth(ttgir.splitlines()[begun[-1][0]]) + 2:
            first, alone = begun.pop()
            found += ttgir.splitlines()[first:number] if alone else []
    return "\n".join(found)


def _depth(line):
    return len(line) - len(line.lstrip())


_DTYPES = {
    torch.float64: "fp64",
    torch.float32: "fp32",
    torch.float16: "fp16",
    torch.bfloat16: "bf16",
    torch.int64: "i64",
}


def _resources(cubin):
    """Registers, and bytes of stack and local memory: spilled registers lie on the stack."""
    import triton.backends.nvidia

    tool = Path(triton.backends.nvidia.__file__).parent / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        said = subprocess.run([tool, "--dump-resource-usage", file.name], capture_output=True, text=True, check=True)
    numbers = re.search(r"REG:(\d+) STACK:(\d+) .*?LOCAL:(\d+)", said.stdout)
    return tuple(int(number) for number in numbers.groups())
