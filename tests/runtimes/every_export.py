"""Every operator of the slots in every runtime of files: which of its graphs are right there, and why others aren't.

    python tests/runtimes/every_export.py -o results/xeon-2core/exports

Each graph at a small size, held against the float64 definition as `opbench run --runtime NAME` holds it before timing.
A process takes one runtime; what crashes it is listed, and another goes on with the rest. Writes exports.jsonl.gz and
exports.md, the table.
"""

import argparse
import gzip
import json
import platform
import subprocess
import sys
from pathlib import Path

SLOTS = ("upsample2x", "conv3x3", "downsample2x")
RUNTIMES = ("onnxruntime", "openvino", "ncnn", "torchscript", "torch-export")
SIZES = {"N": 1, "C": 16, "H": 8, "W": 8}
# Of all graphs in one runtime.
SECONDS = 3600


def cases(runtime):
    """Every graph that can be exported, at one size."""
    from opbench import registry
    from opbench.schema import Case
    from opbench.tasks import groups

    registry.load()
    for slot in SLOTS:
        task = registry.tasks()[slot]
        dims = {axis: SIZES[axis] for axis in task.dims if axis in SIZES}
        dims |= {"G": groups(dims["C"])} if "G" in task.dims else {}
        dims = task.given(dims)
        for name, operator in registry.operators(slot).items():
            spread = 2.0 if task.deformable or operator.deformable else None
            for way in operator.implementations.values():
                if "cpu" in way.devices and not way.obstacle_to_export and way.missing() is None:
                    yield Case(
                        slot, "exported", name, way.name, dims, "float32", "cpu", "inference", spread, 0,
                        dict(operator.settings), runtime=runtime,
                    )  # fmt: skip


def proven(case):
    """right, wrong or refused, and a sentence."""
    from opbench import registry
    from opbench.engine.check_case import check_case
    from opbench.schema import OpbenchError

    if reason := registry.operator(case.task, case.operator).requires(registry.given(case)):
        return "refused", reason
    try:
        verdict = check_case(case).verdict
    except (OpbenchError, NotImplementedError, RuntimeError, ValueError) as error:
        return "refused", " ".join(str(error).split())[:300]
    return ("right", f"{verdict.worst_ratio:.2g}") if verdict.correct else ("wrong", verdict.reason)


def one_runtime(runtime, skip):
    """A line for each graph that isn't among the first `skip`: named before it is tried, told after."""
    for at, case in enumerate(cases(runtime)):
        if at < skip:
            continue
        about = {"slot": case.task, "operator": case.operator, "graph": case.implementation, "runtime": runtime}
        print(json.dumps(about), flush=True)
        outcome, said = proven(case)
        print(json.dumps({**about, "outcome": outcome, "said": said}), flush=True)


def surveyed(runtime, told):
    """The rows of one runtime."""
    rows, ended = [], False
    while not ended:
        command = [sys.executable, __file__, "--one", runtime, "--skip", str(len(rows))]
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
        lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"slot"')]
        found = [line for line in lines if "outcome" in line]
        ended = done.returncode == 0
        if not ended:
            if len(lines) % 2 == 0:
                raise SystemExit(done.stderr)
            found.append({**lines[-1], "outcome": "crashed", "said": f"its process ended with code {done.returncode}"})
        rows += found
        told(runtime, len(rows))
    return rows


def document(rows):
    """What was found, with what by."""
    from importlib.metadata import PackageNotFoundError, version

    from opbench.engine.environment import cpu_name

    versions = {"python": platform.python_version()}
    for name in ("torch", "onnx", "onnxruntime", "openvino", "ncnn", "pnnx"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed"
    return {"machine": cpu_name(), "versions": versions, "sizes": SIZES, "rows": rows}


def save(found, path):
    """What all rows share in the first line, then a line a row; the same bytes of the same document."""
    shared = {name: value for name, value in found.items() if name != "rows"}
    lines = "".join(json.dumps(one) + "\n" for one in (shared, *found["rows"]))
    path.write_bytes(gzip.compress(lines.encode(), mtime=0))


def read(path):
    """A document that was saved."""
    shared, *rows = map(json.loads, gzip.decompress(path.read_bytes()).decode().splitlines())
    return {**shared, "rows": rows}


def table(found):
    """The page: a row an operator, a column a runtime; below, what is not right, in words."""
    names = [name for name in RUNTIMES if any(row["runtime"] == name for row in found["rows"])]
    lines = ["| slot | operator | " + " | ".join(f"`{name}`" for name in names) + " |"]
    lines.append("| --- | --- " + "| --- " * len(names) + "|")
    for slot, operator in dict.fromkeys((row["slot"], row["operator"]) for row in found["rows"]):
        own = [row for row in found["rows"] if (row["slot"], row["operator"]) == (slot, operator)]
        cells = [", ".join(_cell(row) for row in own if row["runtime"] == name) or "-" for name in names]
        lines.append(f"| `{slot}` | `{operator}` | " + " | ".join(cells) + " |")
    why = {}
    for row in found["rows"]:
        if row["outcome"] != "right":
            text = row["said"].replace("|", "/").replace("<", "&lt;")
            why.setdefault((row["runtime"], row["outcome"], text), []).append(f"`{row['operator']}[{row['graph']}]`")
    words = [
        f"- {runtime}, {outcome}: {', '.join(dict.fromkeys(those))}: {said}"
        for (runtime, outcome, said), those in why.items()
    ]
    versions = ", ".join(f"{name} {value}" for name, value in found["versions"].items())
    sizes = " ".join(f"{name}={value}" for name, value in found["sizes"].items())
    return "\n".join(
        [
            "# Which exported graph is right in which runtime",
            "",
            f"Float32, {sizes}, each held against the float64 definition. {found['machine']}, {versions}.",
            "A graph alone is right; ~~struck~~ it is refused, in a sentence; **bold** it is wrong or crashes.",
            "",
            *lines,
            "",
            *(["## What is not right", "", *words, ""] if words else []),
            "To repeat it:",
            "",
            "```sh",
            "python tests/runtimes/every_export.py",
            "```",
            "",
        ]
    )


def _cell(row):
    name = f"`{row['graph']}`"
    return {"right": name, "refused": f"~~{name}~~"}.get(row["outcome"], f"**{name}**")


def main(words=None):
    """The survey; `--runtime` for some of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runtime", action="append", default=[], choices=RUNTIMES, help="only this one (repeatable)")
    parser.add_argument("-o", "--output", type=Path, default=Path("results/local/exports"))
    parser.add_argument("--one", default="", help=argparse.SUPPRESS)
    parser.add_argument("--skip", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args(words)
    if options.one:
        one_runtime(options.one, options.skip)
        return
    from opbench.runtimes import RUNTIMES as KNOWN

    rows = []
    for name in options.runtime or RUNTIMES:
        if reason := KNOWN[name].missing():
            print(f"{name}: {reason}", flush=True)
            continue
        rows += surveyed(name, lambda runtime, count: print(f"{runtime}: {count} graphs", flush=True))
        options.output.mkdir(parents=True, exist_ok=True)
        found = document(rows)  # after each: the survey may be broken off
        save(found, options.output / "exports.jsonl.gz")
        (options.output / "exports.md").write_text(table(found), encoding="utf-8")


if __name__ == "__main__":
    main()
