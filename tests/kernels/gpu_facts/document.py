"""The facts gathered, and how they are shown: kernels.md, and its rows in full, kernels.jsonl.gz beside it."""

import gzip
import json
from dataclasses import asdict
from importlib.metadata import version

from ahead import CAPABILITIES, compiled
from kept_rows import keep

from gpu_facts import layouts, machine_code, occupancy, prediction

# Whose IR says who asks for what, and whose code is read into the table.
SHOWN = 90


def of_candidate(launch, candidate, capability):
    """What came of compiling it."""
    made = compiled(launch, candidate, capability)
    code = machine_code.read(machine_code.disassembled(made.cubin))
    used = {"registers": made.registers, "shared": made.shared, "warps": candidate.warps}
    programs, limit = occupancy.programs_at_once(capability, **used)
    return {
        "registers": made.registers,
        "spilled": made.spilled,
        "shared": made.shared,
        "programs": programs,
        "occupancy": occupancy.occupancy(capability, **used),
        "limited_by": limit,
        "loads": {str(width): count for width, count in code.loads.items()},
        "stores": {str(width): count for width, count in code.stores.items()},
        "instructions": code.kinds,
        "inner_loop": code.inner,
    }


def compiled_facts(problem, capabilities=CAPABILITIES, candidates=None):
    """Of each tile that may be chosen for a problem, the table's choice first."""
    launch = problem.launch()
    return [
        {
            "tile": dict(candidate.blocks),
            "warps": candidate.warps,
            "compiled": {f"sm_{one}": of_candidate(launch, candidate, one) for one in capabilities},
        }
        for candidate in launch.candidates[:candidates]
    ]


def accesses_of(problem):
    """Those of the IR of the chosen tile."""
    launch = problem.launch()
    return layouts.accesses(compiled(launch, launch.candidates[0], SHOWN).ttgir)


def traffic_facts(problem, counted):
    """`counted` is `sectors.of_programs` of one image, of all its programs."""
    tensors = {}
    for program in counted["programs"].values():
        for name, size in program.items():
            tensors[name] = tensors.get(name, 0) + size
    total = sum(tensors.values())
    return {
        "images": 1,
        "programs": counted["count"],
        "least_bytes": counted["least"],
        "distinct_bytes": total,
        "asked_bytes": counted["asked"],
        "by_tensor": dict(sorted(tensors.items())),
        "by_program": [sum(counted["programs"][number].values()) for number in sorted(counted["programs"])],
    }


def predictions(problem, tiles, traffic):
    """By capability, of the chosen tile of a forward kernel."""
    if problem.kernel != "forward":
        return {}
    launch = problem.launch()
    chosen, images = tiles[0], problem.shape[0]
    found = {}
    for capability in prediction.DEVICES:
        inner = chosen["compiled"][f"sm_{capability}"]["inner_loop"]
        if not inner:
            continue
        made = prediction.predicted(
            capability,
            least=images * traffic["least_bytes"],
            distinct=images * traffic["distinct_bytes"],
            asked=images * traffic["asked_bytes"],
            multiply_adds=prediction.multiply_adds(launch, chosen["tile"]),
            instructions_each=sum(inner.values()) / inner["multiply-add"],
        )
        found[f"sm_{capability}"] = {**asdict(made), "bound_by": made.bound_by, "shares": list(made.shares)}
    return found


def row_of(problem, tiles, traffic):
    """What the document says of a problem; `traffic` is None where its programs were not interpreted."""
    row = {"problem": problem.name, "tiles": tiles}
    return {**row, "traffic": traffic, "predicted": predictions(problem, tiles, traffic)} if traffic else row


def document(rows):
    """Which Triton they hold of, and the rows."""
    return {"triton": version("triton"), "rows": rows}


def save(found, folder):
    """Writes both files: a line that names Triton, then one for each row. The same facts are the same bytes."""
    keep(folder, NAME, markdown(found), [{"triton": found["triton"]}, *found["rows"]])


def load(folder):
    """The document in a folder, without rows where there is none."""
    file = folder / f"{NAME}.jsonl.gz"
    if not file.exists():
        return document([])
    first, *rows = map(json.loads, gzip.decompress(file.read_bytes()).decode().splitlines())
    return {**first, "rows": rows}


NAME = "kernels"
TITLE = "What the Triton kernels ask of memory"
HEAD = f"""# {TITLE}

**Nothing here was measured on a GPU.** Written by `python tests/kernels/write_gpu_facts.py -o results/gpu-facts`:
counts of what Triton {{triton}} compiles for sm_80, sm_90 and sm_100, and of the addresses that programs ask for. They
hold of that version of Triton alone; `tests/kernels/test_gpu_facts.py` holds them. `kernels.jsonl.gz`
has every tile that tuning may choose, each capability, all instructions and each program's bytes.
"""
EXPLAINED = """
- *traffic*: distinct sectors of 32 bytes of a program, summed over programs, over the least: every byte that the kernel
  needs, once. The L2 answers some of what exceeds 1.
- *asked*: sectors of a warp's instruction, summed over instructions, over the same least. The L1 answers them.
- *16 bytes*: global loads and stores of 16 bytes a thread, of all such instructions in the code.
- *each*: instructions of the inner loop for one multiply-add.
"""
PREDICTED = """
## Predicted, not measured

Shares of the data sheet's memory rate (H100 SXM, A100 SXM 80 GB) that the forward kernels should reach: least bytes
over the time of the slowest part, with an L2 that keeps nothing between programs, and with one that keeps all. Latency,
launch and clocks are left out, so that a device will be slower. *floor* is the least bytes at the data sheet's rate: no
kernel can be faster.
"""


def markdown(found):
    """The table's text, of a document."""
    header = (
        "kernel and call", "tile", "warps", "registers", "spilled", "shared", "warps held", "16 bytes: loads", "stores",
        "each", "traffic", "asked", "traffic by tensor",
    )  # fmt: skip
    rows = [_row(row) for row in found["rows"]]
    text = HEAD.format(triton=found["triton"]) + EXPLAINED + "\nThe tiles that are chosen, compiled for sm_90:\n\n"
    text += _table(header, rows) + PREDICTED + "\n"
    predicted = [
        _predicted(row["problem"], name, one)
        for row in found["rows"]
        for name, one in sorted(row.get("predicted", {}).items())
    ]
    return text + _table(("kernel and call", "device", "floor", "predicted share", "waits for"), predicted)


def _table(header, rows):
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _row(row):
    chosen = row["tiles"][0]
    made = chosen["compiled"][f"sm_{SHOWN}"]
    inner = made["inner_loop"]
    each = f"{sum(inner.values()) / inner['multiply-add']:.2f}" if inner else "-"
    wide = [f"{made[kind].get('16', 0)} of {sum(made[kind].values())}" for kind in ("loads", "stores")]
    tile = " ".join(f"{name}={size}" for name, size in chosen["tile"].items())
    cells = [
        row["problem"], tile, str(chosen["warps"]), str(made["registers"]), str(made["spilled"]), str(made["shared"]),
        f"{made['occupancy']:.0%}", *wide, each,
    ]  # fmt: skip
    traffic = row.get("traffic")
    if not traffic:
        return [*cells, "-", "-", "-"]
    least = traffic["least_bytes"]
    parts = ", ".join(f"{name} {size / 1e6:.2f} MB" for name, size in traffic["by_tensor"].items())
    return [*cells, f"{traffic['distinct_bytes'] / least:.2f}x", f"{traffic['asked_bytes'] / least:.1f}x", parts]


def _predicted(problem, capability, one):
    low, high = one["shares"]
    device = prediction.DEVICES[int(capability.removeprefix("sm_"))]
    return [problem, device, f"{one['floor'] * 1e6:.1f} us", f"{low:.0%} to {high:.0%}", one["bound_by"]]
