"""Instructions of a kernel as a device would run them: how many of what kind, how wide, and its inner loop's."""

import re
import subprocess
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

# The first that an instruction's name begins with says of what kind it is; all others are integers and addresses.
KINDS = {
    "FFMA": "multiply-add", "DFMA": "multiply-add", "HFMA2": "multiply-add",
    "LDG": "global load", "STG": "global store", "RED": "atomic", "ATOM": "atomic",
    "LDS": "shared memory", "STS": "shared memory", "LDSM": "shared memory", "STSM": "shared memory",
    "LDL": "local memory", "STL": "local memory",
    "SHFL": "shuffle", "BAR": "barrier", "MUFU": "special function",
    "F2F": "conversion", "F2I": "conversion", "I2F": "conversion", "HADD2.F32": "conversion", "F2FP": "conversion",
    "FADD": "float", "FMUL": "float", "FSETP": "float", "FSEL": "float", "FMNMX": "float", "FCHK": "float",
    "DADD": "float", "DMUL": "float", "DSETP": "float", "FRND": "float",
    "BRA": "control", "EXIT": "control", "BSSY": "control", "BSYNC": "control", "NOP": "control", "WARPSYNC": "control",
    "RET": "control", "CALL": "control",
}  # fmt: skip
_WIDTHS = {".128": 16, ".64": 8, ".U16": 2, ".S16": 2, ".U8": 1, ".S8": 1}
_INSTRUCTION = re.compile(r"^\s*/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_]*(?:\.\w+)*)(.*)")
_LABEL = re.compile(r"^(\.L\w+):")


@dataclass(frozen=True)
class MachineCode:
    """How many instructions there are of each kind, and global accesses of each width in bytes.

    `inner` are those of the loop with the largest share of multiply-adds, nothing where no loop has any.
    """

    kinds: dict[str, int]
    loads: dict[int, int]
    stores: dict[int, int]
    inner: dict[str, int]

    @property
    def instructions_per_multiply_add(self):
        """Of the inner loop; None where there is none."""
        count = self.inner.get("multiply-add", 0)
        return sum(self.inner.values()) / count if count else None


def disassembled(cubin):
    """nvdisasm's text of a compiled kernel."""
    import triton.backends.nvidia

    tool = Path(triton.backends.nvidia.__file__).parent / "bin" / "nvdisasm"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        return subprocess.run([tool, "-c", file.name], capture_output=True, text=True, check=True).stdout


def kind_of(name):
    """`LDG.E.128` -> global load."""
    return next((kind for prefix, kind in KINDS.items() if name.startswith(prefix)), "integer")


def width_of(name):
    """Bytes that a thread moves by this load or store."""
    return next((width for suffix, width in _WIDTHS.items() if suffix in name), 4)


def read(text):
    """A disassembly's MachineCode."""
    names, labels, branches = [], {}, []
    for line in text.splitlines():
        if found := _LABEL.match(line):
            labels[found[1]] = len(names)
        elif found := _INSTRUCTION.match(line):
            if found[1].startswith("BRA") and (target := re.search(r"\((\.L\w+)\)", found[2])):
                branches.append((len(names), target[1]))
            names.append(found[1])
    # What follows the last exit is padding.
    end = max((i for i, name in enumerate(names) if name == "EXIT"), default=len(names)) + 1
    backwards = [(labels[label], at + 1) for at, label in branches if labels.get(label, at + 1) <= at < end]
    loops = [Counter(map(kind_of, names[first:last])) for first, last in backwards]
    inner = max(loops, key=lambda loop: (loop["multiply-add"] / loop.total(), -loop.total()), default=Counter())
    kept = names[:end]
    widths = {
        kind: Counter(width_of(name) for name in kept if kind_of(name) == kind)
        for kind in ("global load", "global store")
    }
    return MachineCode(
        dict(sorted(Counter(map(kind_of, kept)).items())),
        dict(sorted(widths["global load"].items())),
        dict(sorted(widths["global store"].items())),
        dict(sorted(inner.items())) if inner["multiply-add"] else {},
    )
